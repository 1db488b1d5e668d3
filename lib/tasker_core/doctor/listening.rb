# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether workers receive notifications: listens like a worker, on a connection to the workers' address, and
    # notifies like the application.
    #
    # @api private
    class Listening < Check
      PATIENCE = 2.0
      private_constant :PATIENCE

      private

      def issues
        return ok("database.poll_only is set: workers poll every #{poll} and do not listen") if poll_only?
        return within_transaction if ApplicationRecord.on_connection(&:transaction_open?)

        unreachable("no notification arrived within #{span(PATIENCE)}") unless received?
      rescue PG::Error => e
        unreachable("a worker's connection cannot listen (#{e.message.squish})")
      end

      def ok_message = "notifications from the application reach the workers' address"

      def within_transaction
        warning("this check cannot run in a transaction, because notifications are sent at commit",
                "run `tasker doctor` outside a transaction")
      end

      def unreachable(what)
        error("#{what}: the workers connect through a transaction pooler, or to another database",
              "connect the workers to PostgreSQL itself, or set `database.poll_only: true` in config/tasker-core.yaml")
      end

      def poll_only? = @configuration[:database, :poll_only]

      def poll = span(@configuration[:discovery, :poll_only_interval])

      def received?
        channel = "tasker_doctor_#{SecureRandom.hex(8)}"
        listener = connect(Postgres::Address.of(@database || Postgres::Address.current))
        listener.exec("listen #{channel}")
        ApplicationRecord.on_connection { |connection| connection.execute("notify #{channel}") }
        listener.wait_for_notify(PATIENCE) == channel
      ensure
        listener&.close
      end

      # With a worker's options.
      def connect(address)
        servers = address[:hosts]
        listener = PG.connect(
          host: servers.map { _1[:host] }.join(","), port: servers.map { _1[:port] }.join(","),
          password: servers.first[:password], user: address[:user], dbname: address[:database],
          connect_timeout: @configuration[:database, :connect_timeout].ceil,
          **address.slice(:sslmode, :sslrootcert, :sslcert, :sslkey, :target_session_attrs)
        )
        address[:session].each { |setting| listener.exec("set session #{setting[:name]} to #{setting[:value]}") }
        listener
      end
    end
  end
end
