# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether a worker hears a notice: it listens as a worker does, on a connection to the workers' address, and one is sent as
    # the application does.
    #
    # @api private
    class Listening < Check
      PATIENCE = 2.0
      private_constant :PATIENCE

      private

      def issues
        return ok("database.poll_only is set: workers look every #{poll} and listen to nothing") if poll_only?
        return within_transaction if ApplicationRecord.on_connection(&:transaction_open?)

        unreachable("a notice was not heard within #{span(PATIENCE)}") unless received?
      rescue PG::Error => e
        unreachable("a worker's connection cannot be used to listen (#{e.message.squish})")
      end

      def ok_message = "a notice that the application sends is heard at the workers' address"

      def within_transaction
        warning("it cannot be tried within a transaction, as notices are sent by its commit",
                "look again outside of it: `tasker doctor`")
      end

      def unreachable(what)
        error("#{what}: a transaction pooler is in between, or the workers' address is another database",
              "connect to PostgreSQL itself, or set `database.poll_only: true` in config/tasker-core.yaml")
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

      # As a worker does.
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
