# frozen_string_literal: true

module TaskerCore
  module Testing
    # The database's clock on the test's connection (db/functions/support/current_time.sql). It runs on from the time to
    # which it is moved, and follows a moved `Time.now`, as by Active Support's `travel`.
    #
    # @api private
    class Clock
      # Seconds by which two readings of the same clock may differ.
      SAME = 0.01
      private_constant :SAME

      def initialize
        @moved = 0
      end

      # Moves the clock forward.
      # @param seconds [Numeric]
      # @param connection [ActiveRecord::ConnectionAdapters::AbstractAdapter]
      def travel(seconds, connection)
        @moved += seconds.to_f
        set(connection)
      end

      # Resets the clock.
      def back(connection)
        @moved = 0
        # A failed transaction resets it when it is rolled back.
        write(connection, nil) unless Savepoint.broken?(connection)
      end

      # Sets the clock while the block runs.
      # @param time [Time, nil] nil: the time to which the test has moved it
      # @return [Object] what the block returns
      def at(time, connection)
        set(connection, time)
        yield
      ensure
        set(connection) unless Savepoint.broken?(connection)
      end

      private

      def set(connection, time = nil)
        moved = @moved != 0 || (Time.now.to_f - Process.clock_gettime(Process::CLOCK_REALTIME)).abs > SAME
        write(connection, time || (Time.now + @moved if moved))
      end

      # Computes the offset with the database's clock, which may differ from this machine's.
      def write(connection, time)
        at = connection.quote(time.to_time.utc.iso8601(6)) if time
        offset = at ? "(#{at}::timestamptz - clock_timestamp())::text" : "''"
        connection.execute("select set_config('tasker_core.clock_offset', #{offset}, false)")
      end
    end
  end
end
