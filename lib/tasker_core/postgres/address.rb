# frozen_string_literal: true

require "active_record/database_configurations"

module TaskerCore
  module Postgres
    # The address of the workers' own connections: the database that Active Record uses, with the same role and
    # settings. Rejects what a worker's connection does not support, and names its key; no message contains a value of
    # an address.
    #
    # @api private
    module Address
      # The same query as in `ext/orchestrator/src/database/identity.rs`, for the worker's connection.
      IDENTITY = <<~SQL
        select current_database()::text as database, current_schemas(false)::text as schemas,
          current_user::text as user,
          case when has_function_privilege('pg_control_system()', 'execute')
            then (select system_identifier::text from pg_control_system()) end as system
      SQL
      private_constant :IDENTITY

      # An address for `Bridge.start_orchestrator`; inspection shows only its keys.
      class Resolved < Hash
        def inspect = "#<#{self.class} with #{keys.join(', ')}>"
        alias to_s inspect

        def pretty_print(printer) = printer.text(inspect)
      end

      module_function

      # @param database [ActiveRecord::DatabaseConfigurations::DatabaseConfig] by default that of the gem's models
      # @return [Resolved]
      # @raise [ConfigurationError] when it is not PostgreSQL, or has a key that a worker's connection does not support
      def current(database = ApplicationRecord.connection_db_config) = of(database.configuration_hash)

      # @param configuration [Hash] of a database, with the keys of config/database.yml, or a {Resolved} address
      # @return [Resolved] including defaults, service file, password file and environment variables, like libpq
      # @raise [ConfigurationError]
      def of(configuration)
        return configuration if configuration.is_a?(Resolved)

        configuration = expanded(configuration.to_h.symbolize_keys)
        verify_adapter(configuration.fetch(:adapter, "postgresql"))
        Resolved.new.merge(Parameters.new(configuration).to_h, session: Session.new(configuration).settings)
      end

      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
      # @return [Hash{String => String}] what must be equal on a worker's connection: database, schemas, user, system
      # @raise [ConfigurationError] when no schema of its search path exists
      def identity(connection)
        identity = connection.uncached { connection.select_one(IDENTITY, "TaskerCore") }
        return identity unless identity["schemas"] == "{}"

        raise ConfigurationError.new("search_path: workers cannot be started: no schema of Active Record's search " \
                                     "path exists; separate several schemas by commas in `schema_search_path`, " \
                                     "because `variables` reads them as one name")
      end

      def verify_adapter(adapter)
        return if adapter.to_s.match?(/postg/)

        raise ConfigurationError.new("database adapter: #{adapter.inspect} (#{adapter.class}) must be postgresql: " \
                                     "tasker_core keeps its tables in PostgreSQL")
      end

      # Expands an address given as a URL, as Active Record does.
      def expanded(configuration)
        return configuration unless configuration[:url]

        url = configuration[:url].to_s
        others = configuration.except(:url)
        ActiveRecord::DatabaseConfigurations::UrlConfig.new("any", "any", url, others).configuration_hash
      rescue URI::Error
        raise ConfigurationError.new("url: it is not a valid URL: percent-encode special characters")
      end
      private_class_method :verify_adapter, :expanded
    end
  end
end
