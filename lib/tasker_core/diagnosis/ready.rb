# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # The ready steps of a task in one queue, which wait for the queue's workers.
    #
    # @api private
    class Ready < StepExplanation
      # @param steps [Array<Hash>] the most urgent first
      def initialize(steps, snapshot)
        super(steps.first, snapshot)
        @names = steps.map { |step| step["name"] }
      end

      def kind = served? ? "ready" : "no_worker"

      def headline
        steps = others.zero? ? "#{step_name} has" : "#{step_name} and #{counted(others, 'other step')} have"
        "#{steps} been ready for #{span(age)}, and #{served? ? busy : unserved}"
      end

      private

      def others = @step["of_group"] - 1

      def age = since(@step["ready_at"])

      def served? = @step["serving_workers"].positive?

      def unserved
        workers, live = @step.values_at("workers", "live_workers")
        return "there is no worker" if workers.zero?
        return workers == 1 ? "the only worker is silent" : "all #{workers} workers are silent" if live.zero?

        serves = live == 1 ? "the only live worker does not serve" : "none of the #{live} live workers serves"
        "#{serves} the queue #{@step['queue']}"
      end

      def busy
        workers, idle = @step.values_at("serving_workers", "idle_workers")
        return "an idle worker claims it at its next poll" if idle.positive?

        "#{counted(workers, 'live worker')} of the queue #{@step['queue']} #{workers == 1 ? 'runs' : 'run'} other steps"
      end

      def details = [(ahead if served?), (behind if others.zero?)]

      def ahead
        count = @step["steps_ahead"]
        return "it is next in its queue" if count.zero?

        "#{count > Snapshot::CAP ? "more than #{Snapshot::CAP} steps" : counted(count, 'step')} in its queue " \
          "#{count == 1 ? 'is' : 'are'} ahead of it"
      end

      def remedy
        return "start a worker for it: `tasker work --queues #{@step['queue']}`" if !served? && worker?
        return start_a_worker unless served?

        "start more workers (`tasker work`), or raise execution.threads or execution.processes" if long?
      end

      # Two polls should have found it.
      def long? = age > 2 * TaskerCore.config[:discovery, :poll_interval]

      def facts
        super.merge(steps: @names, count: @step["of_group"], ready_at: @step["ready_at"],
                    steps_ahead: @step["steps_ahead"], workers: @step["workers"], live_workers: @step["live_workers"],
                    serving_workers: @step["serving_workers"], idle_workers: @step["idle_workers"])
      end
    end
  end
end
