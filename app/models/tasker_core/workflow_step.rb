# frozen_string_literal: true

module TaskerCore
  # One node of a task, as people see it: ready, in progress and waiting are told by live rows.
  class WorkflowStep < ApplicationRecord
    self.table_name = "tasker_workflow_steps"
    self.primary_key = %i[task_id position]

    belongs_to :task, class_name: "TaskerCore::Task"

    STATES = <<~SQL
      select * from tasker_core_v1.step_states(array[?]::bigint[]) where position > ? order by position limit ?
    SQL
    private_constant :STATES

    # @param task [Task]
    # @param after [Integer] a position
    # @param limit [Integer, nil] steps at most
    # @return [Array<WorkflowStep>] by position
    def self.of(task, after: -1, limit: nil) = uncached { find_by_sql([STATES, task.id, after, limit]) }

    # @return [String]
    def name = self[:name]

    # @return [String] pending, ready, in_progress, waiting, complete, error, cancelled or resolved_manually
    def state = self[:state]

    # @return [Integer] executions so far, the one that runs included
    def attempts = self[:attempts]

    # @return [Integer] executions at most
    def max_attempts = self[:max_attempts]

    # @return [Hash, nil] class, message, code and backtrace of the last failure
    def error = self[:last_error]

    # @return [Array<Integer>] positions of the steps it depends on
    def dependencies = self[:dependencies]

    # @return [Time, nil] before which a waiting step is not ready
    def run_at = self[:run_at]

    # @return [String, nil] why a waiting step waits: for its next attempt (retry), for the time for which its task
    #   was created (delay), for capacity (limited), for a worker that knows its handler (unknown_handler), or for
    #   one that can load the application's code (not_loaded)
    def waiting_reason = self[:waiting_reason]

    # @return [Integer, nil] the process that runs it
    def claimed_by = self[:claimed_by]

    # @return [Time, nil] since when a process has it: it runs from then on
    def claimed_at = self[:claimed_at]

    # @return [RegisteredProcess, nil] the process that runs it, as long as that is registered
    def process = claimed_by && RegisteredProcess.uncached { RegisteredProcess.find_by(id: claimed_by) }

    # Gives a failed step all its attempts again. Parameters and errors of all verbs: {Task#cancel_with_reason!}.
    # @return [self]
    # @raise [TransitionError] when it has not failed
    def reset_attempts!(reason, by:) = changed { OperatorVerb.call(:reset_step, task_id, position, reason, by) }

    # Makes a step that waits for its next attempt, or for its time, ready at once.
    # @raise [TransitionError] when it does not wait
    def retry_now!(reason, by:) = changed { OperatorVerb.call(:retry_now, task_id, position, reason, by) }

    # Takes a step from the process that runs it, without spending an attempt.
    # @raise [TransitionError] when no process has it
    def release!(reason, by:) = changed { OperatorVerb.call(:release_step, task_id, position, reason, by) }

    # Declares a step that failed or has not begun to be dealt with; its children may run.
    # @raise [TransitionError] when it is done, cancelled, or just being run
    def mark_resolved!(reason, by:) = changed { OperatorVerb.call(:resolve_step, task_id, position, reason, by) }

    # As {#mark_resolved!}, with a result that its children see.
    # @param result [Hash]
    def complete!(result, reason:, by:)
      changed { OperatorVerb.call(:complete_step, task_id, position, OperatorVerb.payload(result), reason, by) }
    end

    # Replaces the result of a step that is done; children that start later see it.
    # @param result [Hash]
    # @raise [TransitionError] when it is not done
    def update_result!(result, reason:, by:)
      changed { OperatorVerb.call(:update_step_result, task_id, position, OperatorVerb.payload(result), reason, by) }
    end

    # As it is now.
    # @return [self]
    def reload(*)
      fresh = self.class.of(Task.find(task_id)).find { |step| step.position == position }
      @attributes = fresh.instance_variable_get(:@attributes)
      self
    end

    private

    def changed
      yield
      reload
    end
  end
end
