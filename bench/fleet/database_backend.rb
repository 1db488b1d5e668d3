# frozen_string_literal: true

require "pg"

module Fleet
  # A queue with its tables in the database of the application, which Active Record is connected to.
  class DatabaseBackend < Backend
    # Not by renaming the table, because Active Record would remember that it does not exist.
    REJECT = <<~SQL
      create or replace function reject_jobs() returns trigger language plpgsql as $$
      begin
        raise exception 'the queue is away' using errcode = '57P03';
      end $$
    SQL
    PATIENCE = 30 # seconds
    private_constant :REJECT, :PATIENCE

    def lose_jobs = sql("truncate #{tables.join(', ')}")

    def unavailable
      sql(REJECT)
      sql("create trigger away before insert on #{jobs} execute function reject_jobs()")
      yield
    ensure
      patiently { sql("drop function if exists reject_jobs() cascade") }
    end

    def stalled
      connected do |connection|
        connection.transaction do
          connection.exec("lock table #{jobs} in share mode")
          yield
        end
      end
    end

    def stop
      super
      sql("drop table if exists #{tables.join(', ')} cascade") if tables.any?
    end

    private

    def tables
      sql("select tablename from pg_tables where schemaname = any(current_schemas(false))").column_values(0)
                                                                                         .grep(self.class::TABLES)
    end

    def jobs = self.class::JOBS

    def sql(text) = connected { |connection| connection.exec(text) }

    def connected
      connection = PG.connect(@database)
      connection.exec("set client_min_messages = warning")
      yield connection
    ensure
      connection&.close
    end

    # Retries while the server is down.
    def patiently
      deadline = Fleet.now + PATIENCE
      begin
        yield
      rescue PG::Error
        raise if Fleet.now > deadline

        sleep 0.1
        retry
      end
    end

    # Runs a migration without its output.
    def quietly
      verbose = ActiveRecord::Migration.verbose
      ActiveRecord::Migration.verbose = false
      yield
    ensure
      ActiveRecord::Migration.verbose = verbose
    end

    def templates(path) = "#{Gem.loaded_specs.fetch(name).full_gem_path}/lib/generators/#{name}/#{path}"
  end
end
