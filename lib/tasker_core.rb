# frozen_string_literal: true

require "json"
require "socket"
require "active_support"
require "active_support/core_ext"
require "active_support/parameter_filter"
require "active_support/tagged_logging"
require "active_record"
require "zeitwerk"

require_relative "tasker_core/errors"

# Workflow orchestration on the application's own PostgreSQL. See README.md.
module TaskerCore
  LOADER = Zeitwerk::Loader.for_gem.tap do |loader|
    loader.inflector.inflect("cli" => "CLI", "http" => "HTTP")
    loader.ignore("#{__dir__}/tasker_core/errors.rb", "#{__dir__}/tasker_core/native.rb",
                  "#{__dir__}/tasker_core/engine.rb", "#{__dir__}/tasker_core/testing.rb",
                  "#{__dir__}/tasker_core/testing", "#{__dir__}/tasks", "#{__dir__}/generators", "#{__dir__}/puma")
    loader.do_not_eager_load("#{__dir__}/tasker_core/step_job.rb") # an application may be without Active Job
    loader.push_dir("#{__dir__}/../app/models")
    loader.setup
  end
  private_constant :LOADER

  autoload :Bridge, "tasker_core/native"
  autoload :Native, "tasker_core/native"

  class << self
    # @return [Configuration] the current settings
    def config = @config ||= Configuration.new

    # Replaces the settings.
    # @param settings [Configuration, Hash] a Hash, by section, overrides defaults and environment variables
    # @return [Configuration]
    def configure(settings)
      @logging = nil
      @config = settings.is_a?(Configuration) ? settings : Configuration.new(settings)
    end

    # @return [Workflows::Registry] the declared workflows, by namespace and name
    def workflows = @workflows ||= Workflows::Registry.new

    # @param name [String]
    # @param namespace [String]
    # @return [Class<Workflow>, Workflows::YamlFile]
    # @raise [UnknownWorkflowError] when no such workflow is declared
    def workflow(name, namespace: "default") = workflows.fetch(name, namespace: namespace)

    # @return [HTTP::Access] decides who may use the mounted engine
    def access = @access ||= HTTP::Access.new

    # Sets how users of the mounted engine are authenticated: see {HTTP::Access#authenticate_with}.
    # @example
    #   TaskerCore.authenticate_with { |request| request.env["warden"].user(:admin) }
    def authenticate_with(...) = access.authenticate_with(...)

    # Sets what users of the mounted engine may do: see {HTTP::Access#authorize_with}.
    # @example
    #   TaskerCore.authorize_with { |actor, action, resource, record| actor.admin? || %i[list show].include?(action) }
    def authorize_with(&block) = access.authorize_with(&block)

    # @api private for tests: reverts {authenticate_with} and {authorize_with}
    def reset_access! = @access = nil

    # @return [Events] of this process
    def events = @events ||= Events.new

    # @api private
    # @return [Worker::ErrorReporter] of this process
    def error_reporter = @error_reporter ||= Worker::ErrorReporter.new

    # Replaces the logger, which is Rails's by default.
    # @param logger [Logger]
    def logger=(logger)
      @logger = logger
      @logging = nil
    end

    # @return [Logger] by default Rails's, or without Rails one that writes to the standard error
    def logger = @logger ||= (defined?(Rails.logger) && Rails.logger) || ActiveSupport::Logger.new($stderr)

    # Adds to the settings of log lines; an argument that is omitted keeps its value.
    # @param fields [Hash, nil] added to every line
    # @param filter [Array, nil] what is hidden in inputs and results, as in Rails's `config.filter_parameters`
    def log_as(fields: nil, filter: nil)
      @log_settings = @log_settings.to_h.merge({ fields: fields, filter: filter }.compact)
      @logging = nil
    end

    # @api private
    # @return [Logging]
    # @raise [ConfigurationError]
    def logging
      @logging ||= begin
        own = @log_settings.to_h
        fields = config[:logging, :fields].to_h { |assignment| assignment.split("=", 2) }
        Logging.new(logger: logger, level: config[:logging, :level], format: config[:logging, :format],
                    tags: config[:logging, :tags], capacity: config[:logging, :buffer_capacity],
                    fields: fields.merge(own[:fields].to_h.stringify_keys),
                    filter: config[:logging, :filter] + own[:filter].to_a)
      end
    end

    # @api private writes the waiting lines of Rust: {Bridge} calls it when the process exits
    def flush_logs = Logging::Pump.flush

    # @return [String, nil] the id of the current step, request, job or block; see docs/logging.md
    def correlation_id = Correlation.current

    # Makes an id current while the block runs: tasks that are created and lines that are logged meanwhile have it.
    # @param id [String, nil] a UUID, or any text, which is converted to one; nil generates a new one
    # @return [Object] what the block returns
    def with_correlation_id(id = nil, &block) = Correlation.within(id, &block)

    # @api private the prefix of the gem's tables
    def table_name_prefix = "tasker_"
  end
end

# Public names for classes in wings: migrations install the functions, tools read the database's address, and programs
# run their own supervisor.
TaskerCore::Functions = TaskerCore::Postgres::Functions
TaskerCore::DatabaseAddress = TaskerCore::Postgres::Address
TaskerCore::Supervisor = TaskerCore::Worker::Supervisor

# Wings that react to others, which do not know them.
TaskerCore::Logging::Subscriber.attach
TaskerCore::Worker::ErrorReporter.attach
TaskerCore::Worker::JobHandler.attach
TaskerCore::Postgres::Functions.observe do |connection, result|
  TaskerCore::Events::AfterCommit.publish(connection, result)
end

# With Rails at once; if Rails is loaded later (the command line boots the application), then.
ActiveSupport.on_load(:before_configuration) { require "tasker_core/engine" }
require_relative "tasker_core/engine" if defined?(Rails::Engine)
