# frozen_string_literal: true

require "active_record/database_configurations"

module TaskerCore
  module Postgres
    # Where the workers' own connections go: to the database that Active Record uses, as the same role and with the same
    # settings. What a worker's connection cannot do as Active Record's does is refused by the name of its key; no message
    # has a value of an address.
    #
    # @api private
    module Address
      # As `ext/orchestrator/src/database/identity.rs` asks the worker's connection.
      IDENTITY = <<~SQL
        select current_database()::text as database, current_schemas(false)::text as schemas, current_user::text as user,
          case when has_function_privilege('pg_control_system()', 'execute')
            then (select system_identifier::text from pg_control_system()) end as system
      SQL
      private_constant :IDENTITY

      # An address as `Bridge.start_orchestrator` takes it; printed, it is a list of its keys.
      class Resolved < Hash
        def inspect = "#<#{self.class} with #{keys.join(', ')}>"
        alias to_s inspect

        def pretty_print(printer) = printer.text(inspect)
      end

      module_function

      # @param database [ActiveRecord::DatabaseConfigurations::DatabaseConfig] by default that of the gem's rows
      # @return [Resolved]
      # @raise [ConfigurationError] when it is not PostgreSQL, or has what a worker's connection cannot do
      def current(database = ApplicationRecord.connection_db_config) = of(database.configuration_hash)

      # @param configuration [Hash] a database's, with the keys of config/database.yml, or what this has answered
      # @return [Resolved] with defaults, service file, password file and the environment's variables, as libpq looks at them
      # @raise [ConfigurationError]
      def of(configuration)
        return configuration if configuration.is_a?(Resolved)

        configuration = expanded(configuration.to_h.symbolize_keys)
        verify_adapter(configuration.fetch(:adapter, "postgresql"))
        Resolved.new.merge(Parameters.new(configuration).to_h, session: Session.new(configuration).settings)
      end

      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
      # @return [Hash{String => String}] what has to be the same on a worker's connection: database, schemas, user, system
      # @raise [ConfigurationError] when it can see no table at all
      def identity(connection)
        identity = connection.uncached { connection.select_one(IDENTITY, "TaskerCore") }
        return identity unless identity["schemas"] == "{}"

        raise ConfigurationError.new("search_path: no worker can be started, as none of the schemas of Active Record's search " \
                                     "path exists; several are separated by commas in `schema_search_path`, and would be taken " \
                                     "for one name in `variables`")
      end

      def verify_adapter(adapter)
        return if adapter.to_s.match?(/postg/)

        raise ConfigurationError.new("database adapter: #{adapter.inspect} (#{adapter.class}) must be postgresql: tasker_core " \
                                     "keeps its tables in PostgreSQL")
      end

      # As Active Record does, for an address that is given as a URL.
      def expanded(configuration)
        return configuration unless configuration[:url]

        url = configuration[:url].to_s
        ActiveRecord::DatabaseConfigurations::UrlConfig.new("any", "any", url, configuration.except(:url)).configuration_hash
      rescue URI::Error
        raise ConfigurationError.new("url: it cannot be read as a URL: " \
                                     "write characters that have a meaning there percent-encoded")
      end
      private_class_method :verify_adapter, :expanded
    end
  end
end
