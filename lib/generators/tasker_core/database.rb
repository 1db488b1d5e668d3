# frozen_string_literal: true

module TaskerCore
  module Generators
    # Finds the database for the gem's tables, and copies the migrations.
    #
    # @api private
    module Database
      SOURCE = File.expand_path("../../../db/migrate", __dir__)
      private_constant :SOURCE

      private

      # @return [ActiveRecord::DatabaseConfigurations::DatabaseConfig]
      # @raise [Thor::Error] when the gem's tables cannot be in this database
      def database
        @database ||= (options[:database] ? named_database : ApplicationRecord.connection_db_config).tap do |config|
          Postgres::Address.current(config)
        end
      rescue ConfigurationError => e
        raise Thor::Error, "#{e.message}; --database selects another database in config/database.yml"
      end

      def named_database
        name = options[:database]
        config = ActiveRecord::Base.configurations.configs_for(env_name: ::Rails.env, name: name)
        return config if config && (primary?(config) || config.migrations_paths.present?)

        raise Thor::Error, <<~MESSAGE
          --database #{name}: config/database.yml must have this database in #{::Rails.env}, with a directory for its
          migrations:

            #{::Rails.env}:
              primary:
                <<: *default
                database: …
              #{name}:
                <<: *default
                database: …_#{name}
                migrations_paths: db/#{name}_migrate
        MESSAGE
      end

      def primary?(config) = ActiveRecord::Base.configurations.primary?(config.name)

      # @return [String] below the application's directory
      def migrations_path
        Array(database.migrations_paths).first || ::Rails.application.config.paths["db/migrate"].to_ary.first
      end

      # Copies them as `tasker_core:install:migrations` does, so that neither copies those of the other again.
      # @return [Array<ActiveRecord::MigrationProxy>] the copied ones
      def copy_missing_migrations
        return [] if options[:pretend] || behavior == :revoke # migrations that have run must not be removed

        directory = File.expand_path(migrations_path, destination_root)
        copied = ActiveRecord::Migration.copy(directory, { tasker_core: SOURCE })
        copied.each { |migration| say_status :create, relative_to_original_destination_root(migration.filename) }
        say_status :identical, migrations_path, :blue if copied.empty?
        copied
      end
    end
  end
end
