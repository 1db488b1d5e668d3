# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # What is said of one thing that keeps a task: a headline, and what follows from it. Its kinds are the subclasses.
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

      # @return [Float] seconds since then
      def since(time) = now - time

      def plain(value) = value.is_a?(Time) ? value.utc.iso8601(6) : value

      # @param subcommand [String] of the command line
      def command(subcommand, step = step_name, options = nil)
        "`#{['tasker', subcommand, task_id, step, options, '--reason TEXT'].compact.join(' ')}`"
      end
    end
  end
end
