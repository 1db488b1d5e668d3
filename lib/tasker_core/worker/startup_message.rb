# frozen_string_literal: true

module TaskerCore
  class Worker
    # What `tasker work` says first: which version works on which database with what. Of the database's address only name and
    # host.
    #
    # @api private
    class StartupMessage
      # What a name may consist of; libpq takes a whole address with a password for a name as well.
      PRESENTABLE = /\A[^=:?@]+\z/
      private_constant :PRESENTABLE

      # @param configuration [Configuration]
      # @param database [Hash{Symbol => Object}] as Active Record has it
      def initialize(configuration, database: ApplicationRecord.connection_db_config.configuration_hash)
        @execution = configuration[:execution]
        @database = database
      end

      # @return [String]
      def to_s
        processes, threads, queues = @execution.values_at(:processes, :threads, :queues)
        "tasker_core #{VERSION}: database #{database}, #{'queue'.pluralize(queues.size)} #{queues.join(', ')}, " \
          "#{processes} #{'process'.pluralize(processes)} of #{threads} #{'thread'.pluralize(threads)}"
      end

      private

      def database
        name, host = @database.values_at(:database, :host).map { |part| presentable(part) }
        [name || "of the default address", ("on #{host}" if host)].compact.join(" ")
      end

      def presentable(part) = part.to_s.match?(PRESENTABLE) ? part.to_s : nil
    end
  end
end
