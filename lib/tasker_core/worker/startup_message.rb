# frozen_string_literal: true

module TaskerCore
  class Worker
    # The first message of `tasker work`: the version, the database's name and host, queues, processes and threads.
    #
    # @api private
    class StartupMessage
      # Excludes a whole address with a password, which libpq accepts in place of a name.
      PRESENTABLE = /\A[^=:?@]+\z/
      private_constant :PRESENTABLE

      # @param configuration [Configuration]
      # @param database [Hash{Symbol => Object}] Active Record's configuration
      def initialize(configuration, database: ApplicationRecord.connection_db_config.configuration_hash)
        @configuration = configuration
        @execution = configuration[:execution]
        @database = database
      end

      # @return [String]
      def to_s
        processes, threads, queues = @execution.values_at(:processes, :threads, :queues)
        "tasker_core #{VERSION}: database #{database}, #{'queue'.pluralize(queues.size)} #{queues.join(', ')}, " \
          "#{processes} #{'process'.pluralize(processes)} of #{threads} #{'thread'.pluralize(threads)}#{jobs}"
      end

      private

      def jobs
        ", jobs by #{Dispatch::Adapter.new.name}" if Dispatch.used?(@configuration)
      end

      def database
        name, host = @database.values_at(:database, :host).map { |part| presentable(part) }
        [name || "of the default address", ("on #{host}" if host)].compact.join(" ")
      end

      def presentable(part) = part.to_s.match?(PRESENTABLE) ? part.to_s : nil
    end
  end
end
