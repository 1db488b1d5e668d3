# frozen_string_literal: true

module TaskerCore
  # A worker process that is registered: its id is that of {WorkflowStep#claimed_by} and {StepAttempt}. It is removed when it
  # ends, or when it was given up for dead.
  class RegisteredProcess < ApplicationRecord
    self.table_name = "tasker_processes"

    # @return [String] "worker-0 (pid 4711 on web-1)"
    def label = "#{name} (pid #{pid} on #{hostname})"
  end
end
