# frozen_string_literal: true

module TaskerCore
  # The input of a task, apart from the row that its steps' ends update.
  class TaskInput < ApplicationRecord
    self.table_name = "tasker_task_inputs"
    self.primary_key = "task_id"
  end
end
