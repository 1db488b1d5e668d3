# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A step that failed permanently.
    #
    # @api private
    class Failed < StepExplanation
      def kind = "error"

      def headline
        error = @step["last_error"]
        "#{step_name} failed permanently in attempt #{@step['attempts']} of #{@step['max_attempts']}" \
          "#{" with #{failure(error)}" if error}"
      end

      private

      def details
        [("the error is permanent, so it was not retried" if @step["attempts"] < @step["max_attempts"]), behind]
      end

      def remedy
        "fix the cause, then #{command('retry')}; if the work was done elsewhere, #{command('resolve')}, or with a " \
          "result for later steps #{command('complete', step_name, '--result JSON')}"
      end
    end
  end
end
