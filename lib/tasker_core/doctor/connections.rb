# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether every handler can get a connection, from Active Record's pool and from the server.
    #
    # @api private
    class Connections < Check
      LIMITS = <<~SQL
        select
          current_setting('max_connections')::integer
            - current_setting('superuser_reserved_connections')::integer as server,
          (select nullif(datconnlimit, -1) from pg_database where datname = current_database()) as database,
          (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user) as role
      SQL
      private_constant :LIMITS

      private

      def issues = [pool, server].compact

      def pool
        return if size >= handlers

        warning("Active Record's pool has #{counted(size, 'connection')}, but a worker process needs #{handlers}, " \
                "for #{needs_of_a_process}",
                "set `pool: #{handlers}` in config/database.yml, or lower execution.threads")
      end

      def server
        return if needed <= allowed

        error("#{counted(processes, 'worker process')} may open #{needed} connections, but PostgreSQL allows " \
              "only #{allowed}",
              "raise PostgreSQL's max_connections (or the limit of the role or of the database), lower " \
              "execution.processes or database.pool.max_connections, or use a pooler with `database.poll_only: true`")
      end

      def ok_message
        "Active Record's pool of #{size} is enough for #{needs_of_a_process}; " \
          "#{counted(processes, 'worker process')} may open #{needed} of #{allowed} connections"
      end

      def size = ApplicationRecord.connection_pool.size

      def threads = @configuration[:execution, :threads]

      def subscriptions = @configuration[:subscriptions, :deliver] ? Subscriber.durable_subscribers.size : 0

      # The most connections that a worker process takes from Active Record's pool.
      def handlers = threads + subscriptions

      def needs_of_a_process
        return counted(threads, "thread") if subscriptions.zero?

        "#{counted(threads, 'thread')} and #{counted(subscriptions, 'durable subscription')}"
      end

      def processes = [@configuration[:execution, :processes], health["processes"]].max

      # The connections of all processes: each has the workers' own pool, one connection that listens, and Active
      # Record's.
      def needed
        own = @configuration[:database, :pool, :max_connections] + (@configuration[:database, :poll_only] ? 0 : 1)
        processes * (own + [size, handlers].min)
      end

      def allowed = @allowed ||= rows(LIMITS).first.values.compact.min
    end
  end
end
