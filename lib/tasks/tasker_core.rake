# frozen_string_literal: true

namespace :tasker_core do
  namespace :functions do
    desc "Install the SQL functions of this version of tasker_core"
    task install: :environment do
      TaskerCore::ApplicationRecord.on_connection { |connection| TaskerCore::Functions.install!(connection) }
    end

    desc "Tell whether the SQL functions of this version of tasker_core are installed"
    task verify: :environment do
      TaskerCore::ApplicationRecord.on_connection { |connection| TaskerCore::Functions.verify!(connection) }
    end

    # schema.rb holds tables and no functions: they are installed whenever it was loaded.
    task install_after_load: :load_config do
      TaskerCore::ApplicationRecord.on_connection do |connection|
        TaskerCore::Functions.install!(connection) if connection.data_source_exists?("tasker_tasks")
      end
    end
  end
end

# db:test:prepare and db:prepare load the schema through these.
%w[db:schema:load db:test:load_schema].each do |name|
  next unless Rake::Task.task_defined?(name)

  Rake::Task[name].enhance do
    Rake::Task["tasker_core:functions:install_after_load"].reenable
    Rake::Task["tasker_core:functions:install_after_load"].invoke
  end
end
