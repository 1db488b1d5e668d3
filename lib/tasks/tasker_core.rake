# frozen_string_literal: true

namespace :tasker_core do
  namespace :functions do
    desc "Install the SQL functions of this version of tasker_core, in every shard"
    task install: :environment do
      TaskerCore::ApplicationRecord.on_each_shard { |connection| TaskerCore::Postgres::Functions.install!(connection) }
    end

    desc "Verify that the SQL functions of this version of tasker_core are installed, in every shard"
    task verify: :environment do
      TaskerCore::ApplicationRecord.on_each_shard { |connection| TaskerCore::Postgres::Functions.verify!(connection) }
    end
  end

  desc "Print the grants for a role of the application and its workers, or with [ROLE,read] for a read-only role"
  task :grants, %i[role purpose] => :environment do |_, given|
    surplus = [given[:purpose], *given.extras].compact - ["read"]
    abort "tasker_core:grants: #{surplus.first}: expected [ROLE] or [ROLE,read]" if surplus.any?

    TaskerCore::ApplicationRecord.on_connection do |connection|
      puts TaskerCore::Postgres::Grants.new(connection, given[:role], read_only: given[:purpose] == "read").statements
    end
  end
end
