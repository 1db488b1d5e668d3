# frozen_string_literal: true

module TaskerCore
  # One immutable version of a workflow, as it was registered.
  class WorkflowVersion < ApplicationRecord
    self.table_name = "tasker_workflow_versions"

    has_many :tasks, class_name: "TaskerCore::Task", inverse_of: :workflow_version
  end
end
