# frozen_string_literal: true

# A small shop as a Rails application in one file. `tasker work --require demo/application.rb` starts a worker in it;
# bin/demo creates its tables and its tasks.

require "rails"
require "active_record/railtie"
require "tasker_core"
require_relative "../bench/fleet/adapter"

class Shop < Rails::Application
  config.root = __dir__
  config.eager_load = false
  config.secret_key_base = "not a secret: the demo serves nothing"
  config.logger = ActiveSupport::Logger.new($stderr)
  config.log_level = ENV.fetch("DEMO_LOG_LEVEL", "error").to_sym
  config.active_record.maintain_test_schema = false
  # The death of a worker is detected after three seconds instead of twenty, so that the demo is short.
  config.tasker_core.leases = { heartbeat_interval: "500ms", process_timeout: "3s" }
  config.tasker_core.maintenance = { sweep_interval: "1s" }
  # With --dispatch: a job that Sidekiq fetched but had not started when its worker was killed is lost. Its step is
  # dispatched again after 15 seconds, in which at most 50 jobs are ahead of any other.
  Fleet::Adapter.configure(config)
  config.tasker_core.dispatch = { in_flight: 50, start_timeout: "15s" }
end

Shop.initialize!

require_relative "shop"
require_relative "order_fulfillment"
