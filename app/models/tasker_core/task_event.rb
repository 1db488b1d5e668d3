# frozen_string_literal: true

module TaskerCore
  # An operator's action on a task or on one of its steps: `action`, `actor`, `reason`.
  class TaskEvent < ApplicationRecord
    self.table_name = "tasker_task_events"

    belongs_to :task, class_name: "TaskerCore::Task", inverse_of: :events
  end
end
