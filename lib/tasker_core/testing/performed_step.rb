# frozen_string_literal: true

module TaskerCore
  module Testing
    # An attempt that {Testing#perform_tasks} has run.
    #
    # - `task_id`, `workflow`, `step`, `attempt`: identify the attempt
    # - `outcome`: completed, failed, or stale if the claim was revoked meanwhile
    # - `result`: a Hash, if it completed
    # - `exception`: raised by the handler, if it failed in this way
    PerformedStep = Struct.new(:task_id, :workflow, :step, :attempt, :outcome, :result, :exception,
                               keyword_init: true) do
      # @return [Boolean]
      def completed? = outcome == "completed"

      # @return [Boolean]
      def failed? = outcome == "failed"
    end
  end
end
