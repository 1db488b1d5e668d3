# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether every queue with ready steps has workers that keep up. Counts a limited number of steps in each.
    #
    # @api private
    class Queues < Check
      CAP = 1000
      MOST = 100
      LONG = 300
      READY = <<~SQL.freeze
        select ready.queue as name, ready.steps, extract(epoch from clock.now - ready.oldest_at)::float as age,
          exists (
            select from tasker_processes p
            where p.heartbeat_at + p.heartbeat_timeout > clock.now and p.queues && array[ready.queue, '*']
          ) as served
        from #{Postgres::Functions::SCHEMA}.ready_queues(#{CAP}, #{MOST}) as ready
        cross join (select #{Postgres::Functions::SCHEMA}.current_time() as now) as clock
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
