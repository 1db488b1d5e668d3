# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether every queue with ready steps has workers that keep up. Skips from queue to queue on the index, which has
    # the steps of workers and of jobs apart, and counts a limited number of steps in each.
    #
    # @api private
    class Queues < Check
      CAP = 1000
      MOST = 100
      LONG = 300
      READY = <<~SQL.freeze
        with recursive part(queue, dispatched, number) as (
          (select queue, dispatched, 1 from tasker_ready_steps order by queue, dispatched limit 1)
          union all
          select next.queue, next.dispatched, part.number + 1
          from part
          cross join lateral (
            select queue, dispatched
            from tasker_ready_steps
            where (queue, dispatched) > (part.queue, part.dispatched)
            order by queue, dispatched
            limit 1
          ) as next
          where part.number < #{MOST}
        )
        select part.queue as name, sum(ready.steps)::integer as steps,
          extract(epoch from clock.now - min(ready.oldest))::float as age,
          exists (
            select from tasker_processes p
            where p.heartbeat_at + p.heartbeat_timeout > clock.now and p.queues && array[part.queue, '*']
          ) as served
        from part
        cross join (select #{Postgres::Functions::SCHEMA}.current_time() as now) as clock
        cross join lateral (
          select count(*) as steps, min(ready_at) as oldest
          from (
            select ready_at
            from tasker_ready_steps
            where queue = part.queue and dispatched = part.dispatched
            order by priority, seq
            limit #{CAP}
          ) as first
        ) as ready
        where ready.steps > 0
        group by part.queue, clock.now
        order by part.queue
      SQL
      private_constant :CAP, :MOST, :LONG, :READY

      private

      def issues = queues.filter_map { |queue| queue["served"] ? slow(queue) : unserved(queue) }

      def queues = @queues ||= rows(READY)

      def unserved(queue)
        name, age = queue.values_at("name", "age")
        error("no live worker serves the queue #{name}: #{steps(queue)} ready, the oldest for #{span(age)}",
              "start a worker for it (`tasker work --queues #{name}`), or add it to the workers' execution.queues")
      end

      def slow(queue)
        return if queue["age"] < LONG

        warning("the workers of the queue #{queue['name']} do not keep up: #{steps(queue)} ready, one of them for " \
                "#{span(queue['age'])}",
                "start more workers (`tasker work`), or raise execution.threads or execution.processes")
      end

      def steps(queue)
        count = queue["steps"]
        return "#{CAP} steps or more are" if count >= CAP

        "#{counted(count, 'step')} #{count == 1 ? 'is' : 'are'}"
      end

      def ok_message
        return "no step is ready" if queues.empty?

        names = queues.map { |queue| queue["name"] }
        "every queue with ready steps has live workers: #{names.join(', ').truncate(200)}"
      end
    end
  end
end
