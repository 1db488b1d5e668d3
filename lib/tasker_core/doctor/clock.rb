# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether this machine's clock agrees with the database's: `wait_until` comes from this machine, all other times
    # from the database.
    #
    # @api private
    class Clock < Check
      TOLERANCE = 1.0
      SAMPLES = 3
      private_constant :TOLERANCE, :SAMPLES

      private

      def issues
        return if difference.abs <= TOLERANCE

        warning("this machine's clock is #{span(difference.abs)} #{difference.positive? ? 'behind' : 'ahead of'} " \
                "the database's",
                "synchronize both machines with NTP (`timedatectl` shows the status)")
      end

      def ok_message = "this machine's clock and the database's differ by #{span(difference.abs)}"

      # Seconds by which the database is ahead, by the quickest of several responses: the time of the way back is
      # unknown.
      def difference = @difference ||= Array.new(SAMPLES) { sample }.min_by(&:first).last

      def sample
        before = Time.current
        database = rows("select #{Postgres::Functions::SCHEMA}.current_time() as now").first["now"]
        taken = Time.current - before
        [taken, database - (before + (taken / 2))]
      end
    end
  end
end
