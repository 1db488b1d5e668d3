# frozen_string_literal: true

module TaskerCore
  # One node of a task, as people see it: ready, in progress and waiting are told by live rows.
  class WorkflowStep < ApplicationRecord
    self.table_name = "tasker_workflow_steps"
    self.primary_key = %i[task_id position]

    # @param task [Task]
    # @return [Array<WorkflowStep>] by position
    def self.of(task)
      uncached { find_by_sql(["select * from tasker_core_v1.step_states(array[?]::bigint[]) order by position", task.id]) }
    end

    # @return [String]
    def name = self[:name]

    # @return [String] pending, ready, in_progress, waiting, complete, error, cancelled or resolved_manually
    def state = self[:state]

    # @return [Integer] executions so far
    def attempts = self[:attempts]

    # @return [Hash, nil] class, message, code and backtrace of the last failure
    def error = self[:last_error]

    # @return [Array<Integer>] positions of the steps it depends on
    def dependencies = self[:dependencies]

    # @return [Time, nil] before which a waiting step is not ready
    def run_at = self[:run_at]
  end
end
