# frozen_string_literal: true

require "json"
require "socket"
require "active_support"
require "active_support/core_ext"
require "active_record"
require "zeitwerk"

require_relative "tasker_core/errors"

# Workflow orchestration on the application's own PostgreSQL. See README.md.
module TaskerCore
  LOADER = Zeitwerk::Loader.for_gem.tap do |loader|
    loader.inflector.inflect("cli" => "CLI")
    loader.ignore("#{__dir__}/tasker_core/errors.rb", "#{__dir__}/tasker_core/native.rb",
                  "#{__dir__}/tasker_core/engine.rb", "#{__dir__}/tasks", "#{__dir__}/generators")
    loader.push_dir("#{__dir__}/../app/models")
    loader.setup
  end
  private_constant :LOADER

  autoload :Door, "tasker_core/native"
  autoload :Native, "tasker_core/native"

  class << self
    # @return [Configuration] the settings in force
    def config = @config ||= Configuration.new

    # Takes settings in place of those that were there before.
    # @param settings [Configuration, Hash] a Hash goes over the defaults and environment variables, by section
    def configure(settings)
      @config = settings.is_a?(Configuration) ? settings : Configuration.new(settings)
    end

    # @return [Workflows] the declared workflows, by namespace and name
    def workflows = @workflows ||= Workflows.new

    # @return [Class<Workflow>, WorkflowFile]
    # @raise [UnknownWorkflowError] when none of that name is declared
    def workflow(name, namespace: "default") = workflows.fetch(name, namespace: namespace)

    # @return [Events] of this process
    def events = @events ||= Events.new

    # @return [Logger] Rails's where there is Rails
    attr_writer :logger

    def logger = @logger ||= (defined?(Rails.logger) && Rails.logger) || ActiveSupport::Logger.new($stderr)

    # @api private the prefix of the gem's tables
    def table_name_prefix = "tasker_"
  end
end

# With Rails, at once; where Rails comes later (the command line boots the application), as soon as it does.
ActiveSupport.on_load(:before_configuration) { require "tasker_core/engine" }
require_relative "tasker_core/engine" if defined?(Rails::Engine)
