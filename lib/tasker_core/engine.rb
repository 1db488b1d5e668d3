# frozen_string_literal: true

module TaskerCore
  # The Rails face: settings, migrations, functions at boot, workflow files.
  class Engine < ::Rails::Engine
    isolate_namespace TaskerCore

    config.tasker_core = ActiveSupport::OrderedOptions.new
    # The gem's own loader has app/models too, so that they are there without Rails.
    %w[app app/models].each { |path| config.paths[path].skip_eager_load! }

    initializer "tasker_core.configuration" do |app|
      TaskerCore.configure(app.config.tasker_core.to_h)
    end

    initializer "tasker_core.logger", after: :initialize_logger do
      TaskerCore.logger = Rails.logger
    end

    config.after_initialize do |app|
      Dir[app.root.join("config/tasker/workflows/*.{yml,yaml}")].sort.each { |path| TaskerCore.workflows.load_file(path) }
    end

    rake_tasks { load File.expand_path("../tasks/tasker_core.rake", __dir__) }
  end
end
