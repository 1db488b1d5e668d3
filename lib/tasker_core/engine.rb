# frozen_string_literal: true

module TaskerCore
  # The Rails face: settings, migrations, functions at boot, workflow files.
  class Engine < ::Rails::Engine
    isolate_namespace TaskerCore

    config.tasker_core = ActiveSupport::OrderedOptions.new
    # The gem's own loader has app/models too, so that they are there without Rails.
    %w[app app/models].each { |path| config.paths[path].skip_eager_load! }

    initializer "tasker_core.configuration" do |app|
      TaskerCore.configure(Configuration.in(app.root, environment: Rails.env, overrides: app.config.tasker_core.to_h))
    end

    initializer "tasker_core.logger", after: :initialize_logger do
      TaskerCore.logger = Rails.logger
    end

    initializer "tasker_core.correlation" do |app|
      app.middleware.unshift(CorrelationMiddleware)
      ActiveSupport.on_load(:active_job) { include JobCorrelation }
    end

    initializer "tasker_core.schema" do
      ActiveSupport.on_load(:active_record_postgresqladapter) do
        ActiveRecord::ConnectionAdapters::PostgreSQL::SchemaDumper.prepend(SchemaDump)
      end
      ActiveSupport.on_load(:active_record) do
        ActiveRecord::Tasks::DatabaseTasks.singleton_class.prepend(SchemaLoad)
      end
    end

    # Subscribers listen as soon as the application is there, and after a reload their classes anew and no other. What they
    # listen to is registered by workflows and handlers, which come first.
    config.to_prepare do
      %w[app/workflows app/handlers app/subscribers].map { Rails.root.join(_1) }.select(&:directory?).each do |directory|
        Rails.autoloaders.main.eager_load_dir(directory)
      end
    end

    initializer "tasker_core.subscribers" do |app|
      app.reloader.before_class_unload { Subscriber.descendants.each(&:unsubscribe) }
      at_exit { TaskerCore.events.stop }
    end

    config.after_initialize do |app|
      TaskerCore.log_as(filter: app.config.filter_parameters)
      TaskerCore.config.to_h
      Dir[app.root.join("config/tasker/workflows/*.{yml,yaml}")].sort.each { |path| TaskerCore.workflows.load_file(path) }
    end
  end
end
