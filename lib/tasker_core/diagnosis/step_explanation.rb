# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # Explains a failed or active step.
    #
    # @api private
    class StepExplanation < Explanation
      # @param step [Hash] a row of {Snapshot#steps}
      def initialize(step, snapshot)
        super(snapshot)
        @step = step
      end

      private

      def step_name = @step["name"]

      def facts
        { state: @step["state"], attempt: @step["attempts"], max_attempts: @step["max_attempts"], queue: @step["queue"],
          handler: @step["handler"], error: @step["last_error"], steps_behind: @step["steps_behind"] }
      end

      # @return [String, nil] how many steps depend on it
      def behind
        count = @step["steps_behind"]
        return if count.zero?
        return "more than #{Snapshot::CAP} steps wait for it" if count > Snapshot::CAP

        "#{counted(count, 'step')} #{count == 1 ? 'waits' : 'wait'} for it"
      end

      def worker? = @step["live_workers"].positive?

      def start_a_worker = "start a worker: `tasker work`"

      def sweep_interval = TaskerCore.config[:maintenance, :sweep_interval]
    end
  end
end
