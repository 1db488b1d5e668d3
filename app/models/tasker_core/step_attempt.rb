# frozen_string_literal: true

module TaskerCore
  # One execution of a step: when it was ready, claimed, started and finished, and what it came to.
  class StepAttempt < ApplicationRecord
    self.table_name = "tasker_step_attempts"
    self.primary_key = %i[task_id position token]

    belongs_to :task, class_name: "TaskerCore::Task", inverse_of: :attempts

    # Attempts as people see them: those that have ended, and those that run, whose outcome is "running". `seconds` is the
    # duration, of one that runs up to now. Its start is the time at which its process claimed it.
    #
    # @param tasks [Array<Task>]
    # @return [ActiveRecord::Relation<StepAttempt>]
    def self.with_running(tasks)
      ids = PG::TextEncoder::Array.new.encode(Array(tasks).map(&:id))
      from(sanitize_sql_array(["tasker_core_v1.step_attempts(?::bigint[]) as #{table_name}", ids])).select("#{table_name}.*")
    end

    # @return [Float] seconds from start to end, or to now
    def seconds = has_attribute?(:seconds) ? self[:seconds] : finished_at - started_at
  end
end
