# frozen_string_literal: true

module TaskerCore
  # A registered worker process. {WorkflowStep#claimed_by} and {StepAttempt} have its id. Its row is removed when it
  # ends, or when it has sent no heartbeat for too long.
  class RegisteredProcess < ApplicationRecord
    self.table_name = "tasker_processes"

    # @return [String] "worker-0 (pid 4711 on web-1)"
    def label = "#{name} (pid #{pid} on #{hostname})"
  end
end
