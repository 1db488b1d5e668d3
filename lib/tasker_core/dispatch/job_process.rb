# frozen_string_literal: true

module TaskerCore
  module Dispatch
    # What a process of the application's queue needs to run steps: it is registered in the database and sends
    # heartbeats, as a worker does, so that its death is noticed and its steps run again. It begins with the first job.
    #
    # @api private
    class JobProcess
      # Seconds at the end of the process to deliver outcomes. By then the queue has waited for its jobs; what still
      # runs is released.
      STOP_TIMEOUT = 2
      MUTEX = Mutex.new
      private_constant :STOP_TIMEOUT, :MUTEX

      class << self
        # @return [JobProcess] of this process; a forked child gets one of its own
        # @raise [DatabaseError, FunctionsMissingError, ConfigurationError] as {Worker#start}
        def current
          MUTEX.synchronize do
            @current = nil unless @current&.own?
            @current ||= new.start
          end
        end

        # Ends the one of this process, if it has one; the next job begins another.
        def stop
          MUTEX.synchronize do
            @current&.stop if @current&.own?
            @current = nil
          end
        end
      end

      def initialize(configuration: TaskerCore.config)
        @configuration = configuration
        @pid = Process.pid
        @logs = Logging::Pump.new
      end

      # @return [Boolean] whether it belongs to this process
      def own? = @pid == Process.pid

      # @return [self]
      def start
        @logs.start
        TaskerCore.error_reporter.listen
        @orchestrator = Worker::Connection.start(configuration: @configuration, name: "jobs", role: :jobs)
        @attempts = Worker::Attempts.new(@orchestrator, configuration: @configuration, watchdog: watchdog)
        at_exit { self.class.stop if own? }
        self
      rescue StandardError
        stop
        raise
      end

      # Runs the step of a job, unless it may not run any more: it was started before, or later than its claim lasted.
      # @param key [Hash{String => Integer}] the dispatcher's claim: token, task_id, position, attempt
      # @raise [StoppedError] when this process ends
      # @raise [DatabaseError] when the database cannot be reached; the job may be performed again
      def run(key)
        claim = @orchestrator.adopt(JSON.generate(key))
        claim ? @attempts.run(claim) : Instrumentation.instrument("job_ignored", claim: key)
      end

      def stop
        @orchestrator&.stop(STOP_TIMEOUT.to_f)
      rescue StoppedError, DatabaseError
        nil # the other processes notice that this one has ended
      ensure
        @logs.stop
      end

      # @return [Hash{Symbol => Object}] statistics of this process
      def health = @orchestrator.health

      private

      # Enforces time limits, but kills no thread: the threads are the queue's.
      def watchdog = Worker::Watchdog.new(grace: @configuration[:leases, :deadline_grace].to_f)
    end
  end
end
