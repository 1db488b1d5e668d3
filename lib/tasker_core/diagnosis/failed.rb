# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # A step that failed for good.
    #
    # @api private
    class Failed < StepExplanation
      def kind = "error"

      def headline
        error = @step["last_error"]
        "#{step_name} failed for good in attempt #{@step['attempts']} of #{@step['max_attempts']}" \
          "#{" with #{failure(error)}" if error}"
      end

      private

      def details
        [("the error is permanent, so no other attempt was made" if @step["attempts"] < @step["max_attempts"]), behind]
      end

      def remedy
        "mend the cause, then #{command('retry')}; if it was dealt with elsewhere, #{command('resolve')}, or with a result " \
          "for the steps after it #{command('resolve', step_name, '--result JSON')}"
      end
    end
  end
end
