# frozen_string_literal: true

module TaskerCore
  # A task as one object for programs: what `tasker run --json` prints.
  class TaskReport
    def initialize(task)
      @task = task
    end

    # @return [Hash] state, execution_status, results by step name, steps, duration_ms
    def to_h
      { state: @task.state, execution_status: @task.execution_status, results: @task.results, steps: steps,
        duration_ms: duration_ms }
    end

    # @return [Array<Hash>] of each step name, state, attempts, error, started_at and finished_at (ISO 8601, UTC)
    def steps
      Representation.steps(@task).map { |step| step.slice(:name, :state, :attempts, :error, :started_at, :finished_at) }
    end

    private

    def duration_ms
      task = Task.find(@task.id)
      task.ended_at && ((task.ended_at - task.created_at) * 1000).round(3)
    end
  end
end
