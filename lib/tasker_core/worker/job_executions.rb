# frozen_string_literal: true

module TaskerCore
  class Worker
    # Counts the earlier attempts of a step that failed with the exceptions of a `retry_on`, as Active Job does in a
    # job's `exception_executions`. Reads them from the step's history when the job fails.
    #
    # @api private
    module JobExecutions
      # More than any `attempts:`, so that the step's last attempt is the last one of every `retry_on`, too.
      ALL = 1_000_000
      UNREADABLE = [Error, ActiveRecord::ActiveRecordError].freeze
      private_constant :ALL, :UNREADABLE

      module_function

      # @param context [StepContext]
      # @return [Hash{String => Integer}] by the exceptions of a `retry_on`: "[Net::ReadTimeout, Errno::ECONNRESET]"
      def of(context)
        history = nil
        Hash.new do |counts, exceptions|
          history ||= classes(context)
          counts[exceptions] = if context.last_attempt? then ALL
                               elsif history then count(history, exceptions)
                               else context.attempt - 1 # without the history, each counts
                               end
        end
      end

      # The exceptions of the attempts since an operator last retried the step, which numbers them from 1 again; nil if
      # they cannot be read.
      def classes(context)
        return [] if context.attempt == 1

        ended = context.task.attempts.where(position: context.task.step(context.step_name).position)
        ended.where("token < ?", context.token).where.not(outcome: "released")
             .order(token: :desc).limit(context.attempt - 1)
             .filter_map { |attempt| type(attempt.error&.fetch("class")) }
      rescue *UNREADABLE
        nil
      end

      def count(history, exceptions)
        types = exceptions.delete('[]"').split(", ").filter_map { |name| type(name) }
        history.count { |earlier| types.any? { |type| earlier <= type } }
      end

      def type(name)
        type = name.to_s.safe_constantize
        type if type.is_a?(Module)
      rescue NameError # by the name of an anonymous class
        nil
      end
      private_class_method :classes, :count, :type
    end
  end
end
