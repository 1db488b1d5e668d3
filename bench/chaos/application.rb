# frozen_string_literal: true

# The application of the campaign's workers: workflows, the database, and settings that make recoveries quick.

require "tasker_core"

if ENV.key?("QUEUE_ADAPTER")
  require_relative "queue_application"
else
  ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))
end
TaskerCore.logger = Logger.new($stderr, level: :warn)
TaskerCore.configure(
  database: { statement_timeout: "3s", lock_timeout: "2s", pool: { acquire_timeout: "2s" } },
  execution: { shutdown_timeout: "3s" },
  steps: { timeout: "5s" },
  leases: { heartbeat_interval: "500ms", process_timeout: "3s", deadline_grace: "2s" },
  dispatch: { in_flight: 40, start_timeout: "8s" },
  discovery: { poll_interval: "1s" },
  maintenance: { sweep_interval: "500ms", audit_interval: "5s" },
  retention: { interval: "5s" },
  retry: { base: "100ms", cap: "1s" },
  subscriptions: { poll_interval: "500ms" }
)

require_relative "workflows"
require_relative "ledger"
