# frozen_string_literal: true

module TaskerCore
  # The Rails engine: reads settings, loads workflows and subscribers, dumps the schema, and adds correlation ids.
  class Engine < ::Rails::Engine
    isolate_namespace TaskerCore

    # Settings by section; and `connects_to`, with Active Record's keys, if the gem's tables have a database of their
    # own; and `reading_role`, the role of Active Record on which the dashboard and the API read, for a replica.
    config.tasker_core = ActiveSupport::OrderedOptions.new
    # The gem's own loader loads app/models, also without Rails; Rails loads the controllers.
    %w[app app/models].each { |path| config.paths[path].skip_eager_load! }

    initializer "tasker_core.configuration" do |app|
      TaskerCore.configure(@configuration = configuration_in(app))
    end

    # Includes the settings of the application's initializers.
    initializer "tasker_core.later_configuration", after: :load_config_initializers do |app|
      later = configuration_in(app)
      TaskerCore.configure(later) if later.overrides != @configuration.overrides
    end

    initializer "tasker_core.database", after: :load_config_initializers do |app|
      database = app.config.tasker_core.connects_to
      next unless database
      raise wrong_database(database) unless database.is_a?(Hash)

      ActiveSupport.on_load(:tasker_core_record) { connects_to(**database) }
    end

    initializer "tasker_core.reading_role", after: :load_config_initializers do |app|
      role = app.config.tasker_core.reading_role
      raise wrong_role(role) unless role.nil? || role.is_a?(Symbol)
    end

    initializer "tasker_core.logger", after: :initialize_logger do
      TaskerCore.logger = Rails.logger
    end

    initializer "tasker_core.correlation", after: "tasker_core.later_configuration" do |app|
      settings = TaskerCore.config[:correlation]
      app.middleware.unshift(Correlation::RackMiddleware) if settings.fetch(:middleware)
      ActiveSupport.on_load(:active_job) { include Correlation::ActiveJobExtension } if settings.fetch(:jobs)
    end

    initializer "tasker_core.schema" do
      ActiveSupport.on_load(:active_record_postgresqladapter) do
        ActiveRecord::ConnectionAdapters::PostgreSQL::SchemaDumper.prepend(Postgres::SchemaDump)
      end
      ActiveSupport.on_load(:active_record) do
        ActiveRecord::Tasks::DatabaseTasks.singleton_class.prepend(Postgres::SchemaLoad)
        ActiveRecord::Tasks::PostgreSQLDatabaseTasks.prepend(Postgres::StructureDump)
        ActiveRecord::Schema::Definition.prepend(Postgres::Tables)
      end
    end

    # Loaded when the application has booted, and again after each reload. Workflows and handlers declare the events of
    # subscribers, so they are loaded first.
    DIRECTORIES = %w[app/workflows app/handlers app/subscribers].freeze
    WORKFLOW_FILES = "config/tasker/workflows"
    private_constant :DIRECTORIES, :WORKFLOW_FILES

    config.to_prepare do
      directories = DIRECTORIES.map { |path| Rails.root.join(path) }.select(&:directory?)
      Workflows::DirectoryLoader.load(directories, Rails.autoloaders.main)
      TaskerCore.workflows.load_directory(Rails.root.join(WORKFLOW_FILES))
      TaskerCore.workflows.verify!
    end

    # Rails itself watches only directories that exist when it boots, and no YAML files.
    initializer "tasker_core.watch" do |app|
      next unless app.config.reloading_enabled?

      directories = DIRECTORIES.to_h { |path| [app.root.join(path).to_s, ["rb"]] }
      watched = directories.merge(app.root.join(WORKFLOW_FILES).to_s => %w[yml yaml])
      watcher = app.config.file_watcher.new([], watched) { nil }
      app.reloaders << watcher
      app.reloader.to_run { watcher.execute_if_updated }
    end

    initializer "tasker_core.subscribers" do |app|
      app.reloader.before_class_unload do
        Subscriber.descendants.each(&:unsubscribe)
        TaskerCore.events.unsubscribe_unloaded { |class_name| Rails.autoloaders.main.unloadable_cpath?(class_name) }
      end
      at_exit { TaskerCore.events.stop }
    end

    config.after_initialize do |app|
      TaskerCore.log_as(filter: app.config.filter_parameters)
      TaskerCore.config.to_h
    end

    private

    # @return [Configuration] of the application's settings so far
    def configuration_in(app)
      overrides = app.config.tasker_core.to_h.except(:connects_to, :reading_role)
      Configuration.in(app.root, environment: Rails.env, overrides: overrides)
    end

    def wrong_role(value)
      ConfigurationError.new("config.tasker_core.reading_role: #{value.inspect} (#{value.class}) must be a role of " \
                             "Active Record's connects_to: :reading")
    end

    def wrong_database(value)
      ConfigurationError.new("config.tasker_core.connects_to: #{value.inspect} (#{value.class}) must be an " \
                             "argument of Active Record's connects_to: { database: { writing: :tasker } }")
    end
  end
end
