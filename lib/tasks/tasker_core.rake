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
  end
end
