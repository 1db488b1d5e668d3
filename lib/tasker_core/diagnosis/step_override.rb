# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A step that somebody ended in the place of its handler.
    #
    # @api private
    class StepOverride < Explanation
      # @param event [Hash] as {Snapshot#step_overrides} answers it
      def initialize(event, snapshot)
        super(snapshot)
        @event = event
      end

      def kind = "resolved_manually"

      def headline
        done = @event["verb"] == "complete" ? "completed #{step_name} by hand" : "declared #{step_name} to be dealt with"
        "#{@event['actor']} #{done} at #{at(@event['created_at'])}: #{@event['reason']}"
      end

      private

      def step_name = @event["name"]

      def facts = { by: @event["actor"], reason: @event["reason"], at: @event["created_at"], verb: @event["verb"] }
    end
  end
end
