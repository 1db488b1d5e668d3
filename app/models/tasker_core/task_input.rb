# frozen_string_literal: true

module TaskerCore
  # The input of a task, apart from the row that its steps' ends update.
  class TaskInput < ApplicationRecord
    self.table_name = "tasker_task_inputs"
    self.primary_key = "task_id"

    # Does not read inputs of more bytes.
    scope :up_to, lambda { |bytes|
      select(:task_id, :input_bytes, sanitize_sql_array(["case when input_bytes <= ? then input end as input", bytes]))
    }
  end
end
