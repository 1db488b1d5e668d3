# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Some of a task's steps, by position, each with its latest attempt and the process that runs it.
    class Steps
      # A result of up to this size, as it is stored, is shown with its step in a list; a larger one on the step's own page.
      LARGEST_RESULT = 4096

      ROWS = <<~SQL.freeze
        select task_id, position, name, state, attempts, max_attempts, dependencies, run_at, waiting_reason, claimed_by, claimed_at, last_error,
          case when pg_column_size(result) <= #{LARGEST_RESULT} then result end as result,
          pg_column_size(result) > #{LARGEST_RESULT} as large_result
        from #{Functions::SCHEMA}.step_states(array[?]::bigint[])
        where position > ?
        order by position
        limit ?
      SQL

      LATEST = "distinct on (position) task_id, position, token, started_at, finished_at, outcome, seconds"
      private_constant :ROWS, :LATEST

      # @return [Array<WorkflowStep>]
      attr_reader :rows
      # @return [Integer, nil] the position after which the next page begins
      attr_reader :next

      # @param task [Task]
      # @param after [Integer] a position
      def initialize(task, after:, limit:)
        found = WorkflowStep.uncached { WorkflowStep.find_by_sql([ROWS, task.id, after, limit + 1]) }
        @rows = found.first(limit)
        @next = @rows.last.position if found.size > limit
        @latest = StepAttempt.with_running([task]).where(position: @rows.map(&:position)).reselect(LATEST)
                             .order(:position, token: :desc).index_by(&:position)
        @processes = RegisteredProcess.where(id: @rows.filter_map(&:claimed_by).uniq).index_by(&:id)
      end

      # @param step [WorkflowStep]
      # @return [StepAttempt, nil] the one that runs, or the last that has ended
      def latest_attempt(step) = @latest[step.position]

      # @param step [WorkflowStep]
      # @return [RegisteredProcess, nil] the one that runs it
      def process(step) = @processes[step.claimed_by]
    end
  end
end
