# frozen_string_literal: true

module TaskerCore
  # A task as one object for programs: what `tasker run --json` prints.
  class TaskReport
    STEP = %i[name state attempts error started_at finished_at running_ms].freeze
    private_constant :STEP

    def initialize(task)
      @task = task
    end

    # @return [Hash] state, execution_status, results by step name, steps; elapsed_ms from creation to end, or to now;
    #   running_ms, what all attempts took together
    def to_h
      task = Representation.task(@task)
      { **task.slice(:state, :execution_status), results: @task.results, steps: steps, **task.slice(:elapsed_ms, :running_ms) }
    end

    # @return [Array<Hash>] of each step name, state, attempts, error, started_at and finished_at (ISO 8601, UTC), running_ms
    def steps = Representation.steps(@task).map { |step| step.slice(*STEP) }
  end
end
