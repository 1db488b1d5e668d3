# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether a worker is live, and which workers are silent.
    #
    # @api private
    class Workers < Check
      SHOWN = 5
      SILENT = <<~SQL.freeze
        select name, pid, hostname,
          extract(epoch from #{Postgres::Functions::SCHEMA}.current_time() - heartbeat_at)::float as silence
        from tasker_processes
        where heartbeat_at + heartbeat_timeout <= #{Postgres::Functions::SCHEMA}.current_time()
        order by heartbeat_at desc
        limit #{SHOWN}
      SQL
      private_constant :SHOWN, :SILENT

      private

      def issues = [absent, *silent]

      def absent
        warning("there is no live worker: ready steps do not run", start_a_worker) if live_workers.zero?
      end

      def silent
        rows(SILENT).map do |process|
          worker = "the worker #{process['name']} (pid #{process['pid']} on #{process['hostname']})"
          warning("#{worker} has been silent for #{span(process['silence'])}", remedy)
        end
      end

      def remedy
        "check whether it runs and reaches the database; sweeps of other workers recover its steps" \
          "#{"; #{start_a_worker}" if live_workers.zero?}"
      end

      def ok_message = "#{counted(live_workers, 'live worker')}, #{health['idle_processes']} waiting for work"
    end
  end
end
