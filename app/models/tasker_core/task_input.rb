# frozen_string_literal: true

module TaskerCore
  # The input of a task. It has a table of its own, as the task's row is updated when steps end.
  class TaskInput < ApplicationRecord
    self.table_name = "tasker_task_inputs"
    self.primary_key = "task_id"

    # Omits inputs of more bytes.
    scope :up_to, lambda { |bytes|
      select(:task_id, :input_bytes, sanitize_sql_array(["case when input_bytes <= ? then input end as input", bytes]))
    }
  end
end
