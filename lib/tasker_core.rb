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
                  "#{__dir__}/tasker_core/engine.rb", "#{__dir__}/tasker_core/testing.rb", "#{__dir__}/tasker_core/testing",
                  "#{__dir__}/tasks", "#{__dir__}/generators")
    loader.push_dir("#{__dir__}/../app/models")
    loader.setup
  end
  private_constant :LOADER

  autoload :Bridge, "tasker_core/native"
  autoload :Native, "tasker_core/native"

  class << self
    # @return [Configuration] the settings in force
    def config = @config ||= Configuration.new

    # Takes settings in place of those that were there before.
    # @param settings [Configuration, Hash] a Hash goes over the defaults and environment variables, by section
    def configure(settings)
      @logging = nil
      @config = settings.is_a?(Configuration) ? settings : Configuration.new(settings)
    end

    # @return [Workflows::Registry] the declared workflows, by namespace and name
    def workflows = @workflows ||= Workflows::Registry.new

    # @return [Class<Workflow>, Workflows::YamlFile]
    # @raise [UnknownWorkflowError] when none of that name is declared
    def workflow(name, namespace: "default") = workflows.fetch(name, namespace: namespace)

    # @return [HTTP::Access] who may use the mounted engine
    def access = @access ||= HTTP::Access.new

    # Says who may use the mounted engine: see {HTTP::Access#authenticate_with}.
    # @example
    #   TaskerCore.authenticate_with { |request| request.env["warden"].user(:admin) }
    def authenticate_with(...) = access.authenticate_with(...)

    # Says who may do what there: see {HTTP::Access#authorize_with}.
    # @example
    #   TaskerCore.authorize_with { |actor, action, resource, record| actor.admin? || %i[list show].include?(action) }
    def authorize_with(&block) = access.authorize_with(&block)

    # @api private for tests: forgets what {authenticate_with} and {authorize_with} have set
    def reset_access! = @access = nil

    # @return [Events] of this process
    def events = @events ||= Events.new

    # @api private
    # @return [Worker::ErrorReporter] of this process
    def error_reporter = @error_reporter ||= Worker::ErrorReporter.new

    # Takes a logger in place of Rails's.
    def logger=(logger)
      @logger = logger
      @logging = nil
    end

    # @return [Logger] Rails's where there is Rails
    def logger = @logger ||= (defined?(Rails.logger) && Rails.logger) || ActiveSupport::Logger.new($stderr)

    # Says what goes into every line, and what of inputs and results is hidden, beside what the settings say; what is not said
    # stays.
    # @param fields [Hash, nil] go into every line
    # @param filter [Array, nil] as Rails's `config.filter_parameters`
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
                    fields: fields.merge(own[:fields].to_h.stringify_keys), filter: config[:logging, :filter] + own[:filter].to_a)
      end
    end

    # @return [String, nil] the id of the step, request, job or block that is being worked at; see docs/logging.md
    def correlation_id = Correlation.current

    # Makes an id current while the block runs: tasks that are created, and lines that are logged meanwhile have it.
    # @param id [String, nil] a UUID, or any text, which becomes one; nil makes a fresh one
    # @return [Object] what the block answers
    def with_correlation_id(id = nil, &block) = Correlation.within(id, &block)

    # @api private the prefix of the gem's tables
    def table_name_prefix = "tasker_"
  end
end

# Public names of what lies in a wing: migrations install the functions, tools read the database's address, and a program of
# one's own runs a supervisor.
TaskerCore::Functions = TaskerCore::Postgres::Functions
TaskerCore::DatabaseAddress = TaskerCore::Postgres::Address
TaskerCore::Supervisor = TaskerCore::Worker::Supervisor

TaskerCore::Logging::Subscriber.attach
TaskerCore::Worker::ErrorReporter.attach

# With Rails, at once; where Rails comes later (the command line boots the application), as soon as it does.
ActiveSupport.on_load(:before_configuration) { require "tasker_core/engine" }
require_relative "tasker_core/engine" if defined?(Rails::Engine)
