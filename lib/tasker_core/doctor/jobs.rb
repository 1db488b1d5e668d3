# frozen_string_literal: true

module TaskerCore
  class Doctor
    # Whether steps that run as jobs of the application's queue are enqueued and started.
    #
    # @api private
    class Jobs < Check
      CAP = 1000
      LATE = 60
      STATE = <<~SQL.freeze
        select
          (
            select row_to_json(enqueued)
            from (
              select count(*)::integer as steps, extract(epoch from clock.now - min(claimed_at))::float as age
              from (select claimed_at from tasker_claimed_steps where dispatch = 'enqueued' limit #{CAP}) as claimed
            ) as enqueued
          ) as enqueued,
          (
            select row_to_json(refused)
            from (
              select count(*)::integer as steps, (array_agg(error order by run_at desc))[1] as error
              from (
                select run_at, reason, error from tasker_waiting_steps order by run_at limit #{CAP}
              ) as waiting
              where reason = 'not_enqueued'
            ) as refused
          ) as refused,
          array(
            select distinct queue
            from (select queue from tasker_ready_steps where dispatched order by priority, seq limit #{CAP}) as ready
            where not exists (
              select
              from tasker_processes p
              where p.idle_dispatcher is not null
                and p.heartbeat_at + p.heartbeat_timeout > clock.now
                and p.queues && array[ready.queue, '*'])
            order by queue
          ) as unserved
        from (select #{Postgres::Functions::SCHEMA}.current_time() as now) as clock
      SQL
      private_constant :CAP, :LATE, :STATE

      private

      def issues = [adapter, unserved, refused, late]

      def state = @state ||= rows(STATE).first

      def enqueued = state["enqueued"]

      def adapter
        TaskerCore::Dispatch.verify!(@configuration)
        nil
      rescue ConfigurationError => e
        error(e.message, "workers do not start until this is corrected (docs/queues.md)")
      end

      def unserved
        queues = state["unserved"]
        return if queues.empty?

        error("steps that run as jobs are ready in #{queues.join(', ').truncate(200)}, but no live worker dispatches " \
              "them",
              "start a worker that serves the queue and runs the application's current code: `tasker work`")
      end

      def refused
        found = state["refused"]
        return if found["steps"].zero?

        error = found["error"]&.values_at("class", "message")&.join(": ").to_s
        problem = Support::Failure.headline(error).truncate(300)
        warning("the application's job queue did not accept the jobs of #{counted(found['steps'], 'step')}: #{problem}",
                "check that the queue's server runs; the steps are dispatched again by themselves")
      end

      def late
        return if enqueued["steps"].zero? || enqueued["age"] < LATE

        steps = enqueued["steps"] >= CAP ? "#{CAP} jobs or more" : counted(enqueued["steps"], "job")
        warning("#{steps} #{enqueued['steps'] == 1 ? 'is' : 'are'} enqueued and not started, the oldest for " \
                "#{span(enqueued['age'])}",
                "check that processes of the application's job queue run and serve the queues of these steps")
      end

      def ok_message
        return "no step waits as a job" if enqueued["steps"].zero?

        "#{counted(enqueued['steps'], 'job')} enqueued, the oldest for #{span(enqueued['age'])}"
      end
    end
  end
end
