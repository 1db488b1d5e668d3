# frozen_string_literal: true

require "rails"
require "active_record/railtie"
require "action_controller/railtie"
require "active_job/railtie"
require "tasker_core"
require_relative "../../../bench/fleet/adapter"

module Dummy
  # The smallest host: handlers and workflows in app/workflows, a YAML workflow in config/tasker/workflows.
  class Application < Rails::Application
    config.root = File.expand_path("..", __dir__)
    config.load_defaults Rails::VERSION::STRING.to_f
    config.eager_load = false
    config.secret_key_base = "a dummy's"
    # A test reads this log, each line as JSON.
    log = ActiveSupport::Logger.new(ENV["DUMMY_LOG"] || config.root.join("log/test.log").tap { _1.dirname.mkpath })
    log.formatter = TaskerCore::JsonFormatter.new if ENV["DUMMY_LOG"]
    config.log_level = :info if ENV["DUMMY_LOG"]
    config.logger = ActiveSupport::TaggedLogging.new(log)
    config.filter_parameters += [:card]
    config.active_job.queue_adapter = :test
    Fleet::Adapter.configure(config)
    # Only for processes with a queue: a worker refuses it without one.
    config.to_prepare { load File.expand_path("../queued/slow_job.rb", __dir__) } if ENV.key?("QUEUE_ADAPTER")
    config.active_record.maintain_test_schema = false
    config.active_record.schema_format = :ruby
    config.paths["db/migrate"] << File.expand_path("../../../db/migrate", __dir__)
    config.after_initialize { load File.expand_path("../ledger.rb", __dir__) } if ENV.key?("DUMMY_LEDGER")
    # Detects silent processes early and retries soon, so that tests do not wait.
    config.tasker_core.leases = { heartbeat_interval: "100ms", process_timeout: "3s" }
    config.tasker_core.database = { connect_timeout: "60s" } # of a busy machine
    config.tasker_core.maintenance = { sweep_interval: "100ms" }
    config.tasker_core.systems = { bank: { base_url: "https://bank.example" } }
    config.tasker_core.discovery = { unknown_handler_delay: "50ms" }
  end
end
