# frozen_string_literal: true

module TaskerCore
  module Operations
    # Statistics of the installation, at a cost that does not grow with the number of tasks: for /health and /metrics.
    #
    # @api private
    class Health
      # Rows of a table that are counted at most.
      CAP = 10_000
      MOST_PROCESSES = 1000

      PROCESSES = <<~SQL.freeze
        select process.*, coalesce(held.steps, 0) as claimed_steps,
          case when silent then 'silent' when held.steps > 0 then 'running' else 'waiting_for_work' end as state
        from (
          select id, name, hostname, pid, queues, started_at, heartbeat_at,
            heartbeat_at + heartbeat_timeout <= #{Postgres::Functions::SCHEMA}.current_time() as silent
          from tasker_processes
          order by started_at, id
          limit #{MOST_PROCESSES}
        ) as process
        left join (
          select process_id, count(*) as steps
          from (select process_id from tasker_claimed_steps limit #{CAP}) as counted
          group by process_id
        ) as held on held.process_id = process.id
        order by process.started_at, process.id
      SQL
      QUEUES = <<~SQL.freeze
        select queue, steps,
          greatest(extract(epoch from #{Postgres::Functions::SCHEMA}.current_time() - oldest_at), 0)::float
            as oldest_seconds
        from #{Postgres::Functions::SCHEMA}.ready_queues(#{CAP})
      SQL
      private_constant :MOST_PROCESSES, :PROCESSES, :QUEUES

      # @raise [DatabaseError, FunctionsMissingError] if tasks cannot be created and run
      def verify! = ApplicationRecord.on_connection { |connection| Postgres::Functions.verify!(connection) }

      # @return [Hash{String => Numeric, Time, nil}] the columns of the function system_health
      def stats = select("select * from #{Postgres::Functions::SCHEMA}.system_health(#{CAP})").first

      # @return [Hash{String => Integer}] ready steps by queue, at most {CAP} of each
      def queues = queue_stats.to_h { |row| row.values_at("queue", "steps") }

      # @return [Array<Hash{String => Object}>] `queue`, its ready `steps`, and `oldest_seconds`: the age of the oldest
      #   among the {CAP} most urgent
      def queue_stats = select(QUEUES)

      # @return [Array<Hash{String => Object}>] the columns of the function task_counts, one row for each workflow
      def task_counts = select("select * from #{Postgres::Functions::SCHEMA}.task_counts()")

      # @return [Hash{String => Object}] the result of the function process_stats
      def process_stats
        JSON.parse(select("select #{Postgres::Functions::SCHEMA}.process_stats()::text as stats").first.fetch("stats"))
      end

      # @return [Array<Hash{String => Object}>] the worker processes: `state` is silent, running (its `claimed_steps`
      #   run or are about to) or waiting_for_work
      def processes = select(PROCESSES)

      # @return [Array<Hash{String => Object}>] the durable subscriptions, without the error of their next event
      def subscriptions
        select("select * from #{Postgres::Functions::SCHEMA}.subscription_health(#{CAP})").map { _1.except("last_error") }
      end

      # @return [Hash{String => Object}] all statistics, times as text
      def to_h
        serializable({ "version" => VERSION, "stats" => stats, "queues" => queues, "processes" => processes,
                       "subscriptions" => subscriptions })
      end

      private

      def select(sql) = Postgres::Rows.read(sql)

      def serializable(value)
        case value
        when Hash then value.transform_values { |inner| serializable(inner) }
        when Array then value.map { |inner| serializable(inner) }
        else value.acts_like?(:time) ? value.utc.iso8601(6) : value
        end
      end
    end
  end
end
