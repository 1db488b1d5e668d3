# frozen_string_literal: true

module TaskerCore
  module Testing
    # One attempt that {Testing#perform_tasks} has run.
    #
    # - `task_id`, `workflow`, `step`, `attempt`: which one
    # - `outcome`: completed, failed, or stale where the step was taken away meanwhile
    # - `result`: the Hash of a completed one
    # - `exception`: what the handler of a failed one raised, if it raised
    PerformedStep = Struct.new(:task_id, :workflow, :step, :attempt, :outcome, :result, :exception, keyword_init: true) do
      def completed? = outcome == "completed"

      def failed? = outcome == "failed"
    end
  end
end
