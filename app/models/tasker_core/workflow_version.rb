# frozen_string_literal: true

module TaskerCore
  # A registered version of a workflow. Immutable.
  class WorkflowVersion < ApplicationRecord
    self.table_name = "tasker_workflow_versions"

    has_many :tasks, class_name: "TaskerCore::Task", inverse_of: :workflow_version

    POSITIONS = <<~SQL
      select name, position from tasker_step_definitions where workflow_version_id = ? order by position
    SQL
    private_constant :POSITIONS

    # @return [Hash{String => Integer}] by step name; every parent comes first
    def positions
      statement = self.class.sanitize_sql_array([POSITIONS, id])
      self.class.on_connection { |connection| connection.select_rows(statement, "TaskerCore") }.to_h
    end
  end
end
