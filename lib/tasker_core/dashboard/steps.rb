# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # Some of a task's steps, by position, each with its latest attempt and the process that runs it.
    class Steps
      LATEST = "distinct on (position) task_id, position, token, started_at, finished_at, outcome, seconds"
      private_constant :LATEST

      # @return [Array<WorkflowStep>]
      attr_reader :rows
      # @return [Integer, nil] the position after which the next page begins
      attr_reader :next

      # @param task [Task]
      # @param after [Integer] a position
      def initialize(task, after:, limit:)
        found = WorkflowStep.of(task, after: after, limit: limit + 1)
        @rows = found.first(limit)
        @next = @rows.last.position if found.size > limit
        @latest = StepAttempt.with_running([task]).where(position: @rows.map(&:position)).reselect(LATEST)
                             .order(:position, token: :desc).index_by(&:position)
        @processes = RegisteredProcess.where(id: @rows.filter_map(&:claimed_by).uniq).index_by(&:id)
      end

      # @param step [WorkflowStep]
      # @return [Boolean] whether its result is shown on its own page only
      def large_result?(step) = step.result_bytes.to_i > WorkflowStep::INLINE_BYTES

      # @param step [WorkflowStep]
      # @return [StepAttempt, nil] the one that runs, or the last that has ended
      def latest_attempt(step) = @latest[step.position]

      # @param step [WorkflowStep]
      # @return [RegisteredProcess, nil] the one that runs it
      def process(step) = @processes[step.claimed_by]
    end
  end
end
