# frozen_string_literal: true

require "English"

module TaskerCore
  class Worker
    # Performs a job once, and keeps what Active Job decides meanwhile instead of letting it enqueue the job again.
    #
    # @api private
    class JobAttempt
      DISCARDED = "job_discarded"
      STOPPED = "job_retry_stopped"
      NOT_PERFORMED = "job_not_performed"
      private_constant :DISCARDED, :STOPPED, :NOT_PERFORMED

      # Extends the job of a step.
      module Extension
        # @return [JobAttempt]
        attr_accessor :tasker_attempt

        # Active Job enqueues the job here, from `retry_on` or from the job's own code.
        def retry_job(options = {})
          tasker_attempt.retried(options, $ERROR_INFO)
        end

        def perform(...)
          tasker_attempt.performed { super }
        end

        def rescue_with_handler(exception)
          super.tap { |handled| tasker_attempt.rescued if handled }
        end
      end

      # @return [ActiveJob::Base]
      attr_reader :job
      # @return [Object] what `perform` returned; nil if a `rescue_from` has handled its error
      attr_reader :value

      # @param job [ActiveJob::Base]
      def initialize(job)
        @job = job.extend(Extension)
        @job.tasker_attempt = self
      end

      # @return [Symbol] performed; or interrupted, if the job has to continue in another execution
      # @raise [Support::DecidedFailure] when Active Job retries or discards the job
      # @raise [PermanentError] when the job's callbacks have prevented `perform`
      # @raise [Exception] any other error of the job
      def perform
        job.perform_now
        @error ? raise_decision : conclude
      rescue Exception => e # rubocop:disable Lint/RescueException -- a job may retry any
        raise unless @decision && e.equal?(@error) # by `retry_on` without a block, whose attempts are used up

        raise_decision
      end

      # Called through {Extension} while the job runs.

      def performed
        @begun = true
        @value = yield
      end

      def rescued = @rescued = true

      # @param options [Hash] of `retry_job`
      # @param current [Exception, nil] being rescued
      def retried(options, current)
        return if @interrupted == :isolating

        error = options[:error] || current || RetryableError.new("#{job.class.name} called retry_job")
        decide(error, retryable: true, retry_after: delay(options))
      end

      def discarded(error) = decide(error, retryable: false, code: DISCARDED)

      def stopped(error) = decide(error, retryable: false, code: STOPPED)

      # @param reason [Symbol] of `ActiveJob::Continuable`: isolating, if its next step needs an execution of its own
      def interrupted(reason) = @interrupted = reason

      private

      def decide(error, **decision)
        @error = error
        @decision = decision
      end

      # nil leaves the delay to the step's policy.
      def delay(options)
        return options[:wait].to_f if options[:wait]

        [options[:wait_until].to_time - Time.current, 0].max if options[:wait_until]
      end

      def raise_decision = raise(Support::DecidedFailure.new(@error, **@decision), cause: nil)

      def conclude
        return :interrupted if @interrupted == :isolating
        return :performed if @begun || @rescued

        raise PermanentError.new("the callbacks of #{job.class.name} prevented perform", code: NOT_PERFORMED)
      end
    end
  end
end
