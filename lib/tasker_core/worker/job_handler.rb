# frozen_string_literal: true

module TaskerCore
  class Worker
    # The handler of a step that names an Active Job with `job:`. Performs the job in this process, without a queue, and
    # turns what Active Job decides about an error (`retry_on`, `discard_on`, `rescue_from`) into the attempt's outcome.
    #
    # @api private
    class JobHandler
      # Follows the class's name in a compiled definition (ext/orchestrator/src/workflow/job.rs).
      SUFFIX = ".perform_now"
      # Types of JSON values other than objects, and of what is converted to them (docs/values.md).
      VALUES = [true, false, Numeric, String, Symbol, Time, Date, ActiveSupport::TimeWithZone, Array].freeze
      private_constant :SUFFIX, :VALUES

      # Passes on what Active Job publishes about the jobs of steps.
      def self.attach
        { "discard" => :discarded, "retry_stopped" => :stopped, "interrupt" => :interrupted }.each do |name, effect|
          ActiveSupport::Notifications.subscribe("#{name}.active_job") do |*, payload|
            attempt = payload[:job].tasker_attempt if payload[:job].is_a?(JobAttempt::Extension)
            attempt&.public_send(effect, payload[:error] || payload[:reason])
          end
        end
      end

      # @param handler [String] of a step: `ChargeCardJob.perform_now`
      # @return [String, nil] the name of the job's class; nil if it is not the handler of a job
      def self.job_name(handler) = handler[/\A(.+)#{Regexp.escape(SUFFIX)}\z/o, 1]

      # @param type [Object]
      # @return [Boolean] whether it is a class of Active Job
      def self.job?(type) = type.is_a?(Class) && defined?(ActiveJob::Base).present? && type < ActiveJob::Base

      # @param name [String] of a class
      # @return [JobHandler, nil] nil if no such job is defined
      def self.named(name)
        type = name.safe_constantize
        new(type) if job?(type)
      end

      # @param type [Class<ActiveJob::Base>]
      def initialize(type)
        @type = type
      end

      # @param context [StepContext]
      # @return [Hash, nil] the step's result
      # @raise [Support::DecidedFailure] when Active Job retries or discards the job
      # @raise [PermanentError] when an argument cannot be found, or the return value is no JSON
      def call(context)
        job = @type.deserialize(data(context))
        attempt = JobAttempt.new(job)
        while attempt.perform == :interrupted
          attempt = JobAttempt.new(@type.deserialize(attempt.job.serialize.merge("executions" => context.attempt - 1)))
        end
        result(attempt.value)
      end

      private

      # In the form in which Active Job stores a job in a queue.
      def data(context)
        { "job_class" => @type.name, "job_id" => Digest::UUID.uuid_v5(context.task_uuid, context.step_name),
          "queue_name" => context.queue, "priority" => @type.priority,
          "arguments" => JobArguments.new(context, @type).serialized, "executions" => context.attempt - 1,
          "exception_executions" => JobExecutions.of(context) }
      end

      def result(value)
        case value
        when nil, Hash then value
        when *VALUES then { "value" => value }
        else
          raise PermanentError.new("#{@type.name}#perform returned #{Outcome.shown(value)}: end it with a Hash, " \
                                   "another JSON value or nil", code: "invalid_result")
        end
      end
    end
  end
end
