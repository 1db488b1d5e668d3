# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether expired leases or overdue waiting steps remain, although each worker sweeps, and whether steps wait for a
    # repair.
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

        warning("#{counted(count, 'step')} #{count == 1 ? 'is' : 'are'} still claimed after the lease expired", remedy)
      end

      def waiting
        count = health["overdue_waiting_steps"]
        return if count.zero? || (live_workers.positive? && late < 2 * sweep_interval)

        steps = "#{counted(count, 'step')} #{count == 1 ? 'is' : 'are'}"
        warning("#{steps} due but still waiting, the first for #{span(late)}", remedy)
      end

      def unreadable
        count = health["unreadable_steps"]
        return if count.zero?

        warning("#{counted(count, 'step')} cannot be read by the database and #{count == 1 ? 'is' : 'are'} set aside",
                "`tasker list --status waiting_for_repair` lists the tasks, and `tasker why TASK` names the damage")
      end

      def late = @late ||= rows(OVERDUE, health["next_run_at"]).first["seconds"]

      def sweep_interval = @configuration[:maintenance, :sweep_interval]

      def remedy
        return start_a_worker if live_workers.zero?

        "the next sweeps (every #{span(sweep_interval)} in each worker) should resolve this; if not, check the " \
          "workers' log for sweep errors"
      end

      def ok_message = "no lease has expired, no waiting step is overdue, and every step can be read"
    end
  end
end
