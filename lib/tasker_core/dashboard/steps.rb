# frozen_string_literal: true

module TaskerCore
  module Dashboard
    # A page of a task's steps, by position, each with its current run and the process that runs it.
    #
    # @api private
    class Steps
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
        @runs = StepAttempt.current_runs([task]).where(position: @rows.map(&:position)).index_by(&:position)
        @processes = RegisteredProcess.where(id: @rows.filter_map(&:claimed_by).uniq).index_by(&:id)
      end

      # @param step [WorkflowStep]
      # @return [Boolean] whether its result is shown on its own page only
      def large_result?(step) = step.result_bytes.to_i > WorkflowStep::INLINE_BYTES

      # @param step [WorkflowStep]
      # @return [StepAttempt, nil] see {StepAttempt.current_runs}
      def run(step) = @runs[step.position]

      # @param step [WorkflowStep]
      # @return [RegisteredProcess, nil] the one that runs it
      def process(step) = @processes[step.claimed_by]
    end
  end
end
