# frozen_string_literal: true

module TaskerCore
  module Testing
    # The clock of the test's connection (db/functions/support/current_time.sql). It goes on from where it is moved to, and
    # follows a `Time.now` that was moved, as by Active Support's `travel`.
    class Clock
      # Seconds by which two looks at the same clock may differ.
      SAME = 0.01
      private_constant :SAME

      def initialize
        @moved = 0
      end

      # Moves the clock forward.
      # @param seconds [Numeric]
      def travel(seconds, connection)
        @moved += seconds.to_f
        set(connection)
      end

      # Sets it right.
      def back(connection)
        @moved = 0
        # Set in a transaction that has failed, it is taken back with that.
        write(connection, nil) unless Savepoint.broken?(connection)
      end

      # @param time [Time, nil] what time it is while the block runs; nil: as the test has moved it
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

      # The offset is reckoned by the database's own clock, which may differ from this machine's.
      def write(connection, time)
        offset = time ? "(#{connection.quote(time.to_time.utc.iso8601(6))}::timestamptz - clock_timestamp())::text" : "''"
        connection.execute("select set_config('tasker_core.clock_offset', #{offset}, false)")
      end
    end
  end
end
