# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task that an operator cancelled or resolved.
    #
    # @api private
    class EndedByOperator < Explanation
      # @param verb [String] the verb in tasker_task_events
      def initialize(snapshot, verb)
        super(snapshot)
        @verb = verb
        @event = snapshot.decision(verb) || {}
      end

      def kind = @snapshot.task["state"]

      def headline
        return "no operator is recorded" if @event.empty?

        "#{@event['actor']} #{done} at #{at(@event['created_at'])}: #{@event['reason']}"
      end

      private

      def done = @verb == "cancel" ? "cancelled it" : "resolved it"

      def facts = { by: @event["actor"], reason: @event["reason"], at: @event["created_at"] }
    end
  end
end
