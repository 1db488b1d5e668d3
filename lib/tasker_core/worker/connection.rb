# frozen_string_literal: true

module TaskerCore
  class Worker
    # Starts the orchestrator of a process on the database that Active Record uses.
    #
    # @api private
    module Connection
      module_function

      # @param configuration [Configuration]
      # @param name [String] shown in the list of processes
      # @param role [Symbol] `:worker`, `:dispatcher` (also enqueues jobs) or `:jobs` (only runs jobs)
      # @param database [Postgres::Address]
      # @return [Native::Orchestrator]
      # @raise [DatabaseError, FunctionsMissingError] when the database cannot be reached, or is not prepared
      # @raise [ConfigurationError] when the connections reach another database than Active Record's, or cannot be used
      #   as `database.poll_only` says
      def start(configuration:, name:, role:, database: Postgres::Address.of(Postgres::Address.current))
        address = database.merge(identity: verify_database)
        Bridge.start_orchestrator(database: address, configuration: configuration, name: name, role: role)
      end

      # Ensures that the functions are current; returns the identity of Active Record's database.
      def verify_database
        ApplicationRecord.on_connection do |connection|
          Postgres::Address.identity(connection).tap { Postgres::Functions.ensure_current(connection) }
        end
      end
      private_class_method :verify_database
    end
  end
end
