# frozen_string_literal: true

module TaskerCore
  # What somebody did to a task, or to one of its steps, and why: `verb`, `actor`, `reason`.
  class TaskEvent < ApplicationRecord
    self.table_name = "tasker_task_events"

    belongs_to :task, class_name: "TaskerCore::Task", inverse_of: :events
  end
end
