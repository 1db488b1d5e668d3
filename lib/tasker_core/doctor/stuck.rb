# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether leases and waiting steps whose time has passed are found: each worker sweeps, so that there are none for long. And
    # whether steps wait for a repair.
    #
    # @api private
    class Stuck < Check
      OVERDUE = "select extract(epoch from #{Postgres::Functions::SCHEMA}.current_time() - " \
                "$1::timestamptz)::float as seconds".freeze
      private_constant :OVERDUE

      private

      def issues = [leases, waiting, unreadable].compact

      def leases
        count = health["overdue_leases"]
        return if count.zero?

        warning("#{counted(count, 'step')} #{count == 1 ? 'is' : 'are'} still taken after the end of the lease", remedy)
      end

      def waiting
        count = health["overdue_waiting_steps"]
        return if count.zero? || (live_workers.positive? && late < 2 * sweep_interval)

        warning("#{counted(count, 'step')} #{count == 1 ? 'waits' : 'wait'} although due, the first for #{span(late)}", remedy)
      end

      def unreadable
        count = health["unreadable_steps"]
        return if count.zero?

        warning("#{counted(count, 'step')} cannot be read by the database and #{count == 1 ? 'is' : 'are'} set aside",
                "`tasker list --status waiting_for_repair` lists the tasks, `tasker why TASK` names what is damaged")
      end

      def late = @late ||= rows(OVERDUE, health["next_run_at"]).first["seconds"]

      def sweep_interval = @configuration[:maintenance, :sweep_interval]

      def remedy
        return start_a_worker if live_workers.zero?

        "the next sweeps (one every #{span(sweep_interval)} by each worker) should put that right; if not, look for their " \
          "errors in the workers' log"
      end

      def ok_message = "no lease and no waiting step is overdue, and every step can be read"
    end
  end
end
