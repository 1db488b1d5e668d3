# frozen_string_literal: true

module TaskerCore
  module Dispatch
    # The thread of a worker that enqueues the jobs of the steps that the orchestrator has claimed for them.
    #
    # @api private
    class Enqueuer
      # @param orchestrator [Native::Orchestrator]
      # @param adapter [Adapter]
      # @param host [Support::HostApplication]
      def initialize(orchestrator, adapter: Adapter.new, host: Support::HostApplication.current)
        @orchestrator = orchestrator
        @adapter = adapter
        @host = host
      end

      # @return [self]
      def start
        @thread = Support::RestartingThread.new("tasker-dispatch") { enqueue_all }
        self
      end

      # After the orchestrator has stopped: jobs that are being enqueued belong to claims that it still confirms.
      def stop = @thread&.stop

      private

      def enqueue_all
        while (batch = @orchestrator.next_jobs)
          steps = JSON.parse(batch)
          errors = @host.run { @adapter.enqueue(steps) }
          @orchestrator.settle_jobs(JSON.generate(errors))
        end
      rescue StoppedError
        nil # the orchestrator has stopped
      end
    end
  end
end
