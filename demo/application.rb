# frozen_string_literal: true

# A small shop as a Rails application in one file. `tasker work --require demo/application.rb` starts a worker in it;
# bin/demo creates its tables and its tasks.

require "rails"
require "active_record/railtie"
require "tasker_core"

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
end

Shop.initialize!

require_relative "shop"
require_relative "order_fulfillment"
