# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # Explains one reason: a headline and its details. Each kind has a subclass.
    #
    # @api private
    class Explanation
      include Wording

      def initialize(snapshot)
        @snapshot = snapshot
      end

      # @return [Reason]
      def reason
        Reason.new(step: step_name, kind: kind, explanation: [headline, *details.compact].join("; "), remedy: remedy,
                   facts: facts.compact.transform_values { |value| plain(value) }.freeze).freeze
      end

      private

      def step_name = nil

      def details = []

      def remedy = nil

      def facts = {}

      def now = @snapshot.now

      def task_id = @snapshot.task["task_id"]

      def at(time) = moment(time, now)

      # @return [Float] seconds since the time
      def since(time) = now - time

      def plain(value) = value.is_a?(Time) ? value.utc.iso8601(6) : value

      # @param subcommand [String] of the command line
      # @return [String] the command for this task and the step
      def command(subcommand, step = step_name, options = nil)
        "`#{['tasker', subcommand, task_id, step, options, '--reason TEXT'].compact.join(' ')}`"
      end
    end
  end
end
