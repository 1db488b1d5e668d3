# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task that an operator cancelled or resolved.
    #
    # @api private
    class EndedByOperator < Explanation
      # @param action [String] as in tasker_task_events
      def initialize(snapshot, action)
        super(snapshot)
        @action = action
        @event = snapshot.decision(action) || {}
      end

      def kind = @snapshot.task["state"]

      def headline
        return "no operator is recorded" if @event.empty?

        "#{@event['actor']} #{done} at #{at(@event['created_at'])}: #{@event['reason']}"
      end

      private

      def done = @action == "cancel" ? "cancelled it" : "resolved it"

      def facts = { by: @event["actor"], reason: @event["reason"], at: @event["created_at"] }
    end
  end
end
