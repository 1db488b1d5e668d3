# frozen_string_literal: true

module TaskerCore
  # Where the workers' own connections go: to the database that Active Record uses.
  module DatabaseAddress
    KEYS = %i[host port username password database sslmode sslrootcert sslcert sslkey].freeze
    private_constant :KEYS

    module_function

    # @param database [ActiveRecord::DatabaseConfigurations::DatabaseConfig] by default that of the gem's rows
    # @return [Hash] as `Door.start_orchestrator` takes it
    # @raise [ConfigurationError] when it is not PostgreSQL
    def current(database = ApplicationRecord.connection_db_config)
      configuration = database.configuration_hash
      refuse(configuration[:adapter]) unless configuration[:adapter].to_s.match?(/postg/)

      address = configuration.slice(*KEYS)
      address[:username] ||= configuration[:user]
      address[:port] = address[:port].to_i if address[:port]
      address[:search_path] = configuration[:schema_search_path]
      address.compact
    end

    def refuse(adapter)
      raise ConfigurationError.new("database adapter: #{adapter.inspect} (#{adapter.class}) must be postgresql: tasker_core " \
                                   "keeps its tables in PostgreSQL")
    end
    private_class_method :refuse
  end
end
