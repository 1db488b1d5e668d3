# frozen_string_literal: true

module TaskerCore
  module Dispatch
    # The queue adapter that the application has configured for Active Job.
    #
    # @api private
    class Adapter
      # Adapters that keep jobs in the memory of the process, or perform them while they are enqueued.
      LOCAL = %w[async inline test].freeze
      private_constant :LOCAL

      # @raise [ConfigurationError] when jobs would be lost: Active Job is not loaded, or its adapter keeps jobs in the
      #   memory of the process, in an environment other than development and test
      def verify!
        problem = missing || local
        raise ConfigurationError.new("steps with `dispatch: active_job` cannot be dispatched: #{problem}") if problem
      end

      # @return [Boolean]
      def usable? = (missing || local).nil?

      # Enqueues a job for each step, together if the adapter can.
      # @param steps [Array<Hash{String => Object}>] as the orchestrator passes them (`StepJob` in Rust)
      # @return [Array<Hash{Symbol => String}, nil>] for each the error, or nil when it is enqueued
      def enqueue(steps)
        jobs = steps.map { |step| StepJob.for(step) }
        error = nil
        begin
          ActiveJob.perform_all_later(jobs)
        rescue StandardError => e # of the adapter: its server is away, or it rejects a job
          error = e
        end
        jobs.map { |job| described(job.enqueue_error || error || not_accepted) unless accepted?(job, error) }
      end

      # @return [String] "sidekiq"
      def name = StepJob.queue_adapter_name

      private

      def missing
        return if defined?(ActiveJob::Base)

        "Active Job is not loaded: add `require \"active_job/railtie\"` to config/application.rb, and set " \
          "config.active_job.queue_adapter"
      end

      def local
        return if Support::HostApplication.local? || LOCAL.exclude?(name)

        "the adapter #{name} loses jobs when the process ends: set config.active_job.queue_adapter to a queue, such " \
          "as sidekiq, solid_queue or good_job"
      end

      # Sidekiq's adapter does not say which of the jobs it has accepted: without an error, all of them.
      def accepted?(job, error)
        job.successfully_enqueued? || (job.successfully_enqueued?.nil? && job.enqueue_error.nil? && error.nil?)
      end

      def not_accepted = ActiveJob::EnqueueError.new("the adapter #{name} did not accept the job")

      def described(error)
        failure = Support::Failure.new(error).to_h
        { class: failure[:class], message: failure[:message] }
      end
    end
  end
end
