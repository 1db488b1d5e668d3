# frozen_string_literal: true

module TaskerCore
  # One execution of a step: when it was ready, claimed, started and finished, and what it came to.
  class StepAttempt < ApplicationRecord
    self.table_name = "tasker_step_attempts"
    self.primary_key = %i[task_id position token]

    belongs_to :task, class_name: "TaskerCore::Task", inverse_of: :attempts
  end
end
