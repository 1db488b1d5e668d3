# frozen_string_literal: true

# The campaign's application with --dispatch: a Rails application, because the queues of Active Job need one.

require "rails"
require "active_record/railtie"
require "action_controller/railtie"
require "tasker_core"
require_relative "../fleet/adapter"

module Chaos
  class Application < Rails::Application
    config.root = __dir__
    config.eager_load = false
    config.secret_key_base = "not a secret: the campaign serves nothing"
    config.logger = ActiveSupport::Logger.new($stderr)
    config.log_level = :warn
    Fleet::Adapter.configure(config)
  end

  Application.initialize!
end
