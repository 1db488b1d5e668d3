# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A step that an operator completed or resolved.
    #
    # @api private
    class StepOverride < Explanation
      # @param event [Hash] a row of {Snapshot#step_overrides}
      def initialize(event, snapshot)
        super(snapshot)
        @event = event
      end

      def kind = "resolved_manually"

      def headline
        done = @event["action"] == "complete" ? "completed" : "resolved"
        "#{@event['actor']} #{done} #{step_name} at #{at(@event['created_at'])}: #{@event['reason']}"
      end

      private

      def step_name = @event["name"]

      def facts = { by: @event["actor"], reason: @event["reason"], at: @event["created_at"], action: @event["action"] }
    end
  end
end
