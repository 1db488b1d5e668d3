# frozen_string_literal: true

module TaskerCore
  class Worker
    # Runs the attempts of a process and delivers their outcomes, in the calling threads.
    #
    # @api private
    class Attempts
      # @param orchestrator [Native::Orchestrator]
      # @param configuration [Configuration]
      # @param watchdog [Watchdog]
      # @param host [Support::HostApplication]
      def initialize(orchestrator, configuration:, watchdog:, host: Support::HostApplication.current)
        @orchestrator = orchestrator
        contexts = ContextBuilder.new(orchestrator, systems: configuration.systems)
        @runner = StepRunner.new(handlers: HandlerRegistry.new(reloading: host.reloading?), contexts: contexts,
                                 watchdog: watchdog, host: host, error_reporter: TaskerCore.error_reporter)
      end

      # Delivers an outcome even if the thread is killed. A kill just after delivery sends a second one, which is stale.
      # @param claim [String] JSON
      def run(claim)
        abandoned = "the thread of the handler was killed"
        @runner.run(claim) do |outcome|
          deliver(outcome)
          abandoned = nil
        end
      rescue StandardError => e
        abandoned &&= "the outcome could not be delivered: #{e.message}"
        raise
      ensure
        deliver(@runner.abandoned_outcome(claim, abandoned)) if abandoned
      end

      private

      # Drops an outcome whose lease has expired: another attempt may already own the step.
      def deliver(outcome)
        @orchestrator.finish(outcome)
      rescue StaleAttemptError, StoppedError => e
        Instrumentation.instrument("outcome_rejected", error: e)
      end
    end
  end
end
