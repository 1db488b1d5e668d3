# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A task that somebody ended: who, when and why.
    #
    # @api private
    class EndedByOperator < Explanation
      # @param verb [String] as tasker_task_events has it
      def initialize(snapshot, verb)
        super(snapshot)
        @verb = verb
        @event = snapshot.decision(verb) || {}
      end

      def kind = @snapshot.task["state"]

      def headline
        return "nobody is recorded who did it" if @event.empty?

        "#{@event['actor']} #{done} at #{at(@event['created_at'])}: #{@event['reason']}"
      end

      private

      def done = @verb == "cancel" ? "cancelled it" : "declared it to be dealt with"

      def facts = { by: @event["actor"], reason: @event["reason"], at: @event["created_at"] }
    end
  end
end
