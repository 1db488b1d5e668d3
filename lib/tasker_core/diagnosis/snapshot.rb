# frozen_string_literal: true

module TaskerCore
  class Diagnosis
    # Reads what a diagnosis needs: one statement for the task, one for its active and failed steps, others on demand.
    #
    # @api private
    class Snapshot
      # The number of steps that are explained one by one in each group. A group has one state, and one queue (ready
      # steps) or one reason (waiting steps).
      SHOWN = 10
      # The most steps that are counted behind a step, or ahead of it in its queue.
      CAP = 500

      TASK = <<~SQL.freeze
        select c.*, t.workflow_version_id, t.created_at, t.ended_at, v.namespace, v.name as workflow, v.version,
          #{Postgres::Functions::SCHEMA}.current_time() as now
        from #{Postgres::Functions::SCHEMA}.task_execution_context($1::bigint) c
        join tasker_tasks t on t.id = c.task_id
        join tasker_workflow_versions v on v.id = t.workflow_version_id
      SQL

      # Scans the tables of live rows once, because they have no index by task, and limits the rows before the joins,
      # because a wide task may have thousands. Reads all states at once: with a condition on the state, whose
      # selectivity it cannot estimate, the planner would expect few steps. Finds the steps behind a step from parent to
      # child, each once, up to the number that is counted.
      STEPS = <<~SQL.freeze
        with any_step as materialized (
          select position, name, state, attempts, max_attempts, run_at, waiting_reason, last_error
          from #{Postgres::Functions::SCHEMA}.step_states(array[$1::bigint])
        ), step as materialized (
          select any_step.*,
            row_number() over (partition by state, waiting_reason order by run_at, position) as number,
            count(*) over (partition by state, waiting_reason) as of_group
          from any_step
          where state in ('error', 'in_progress', 'ready', 'waiting')
        ), ready as materialized (
          select *
          from (
            select position, queue, priority, seq, ready_at, dispatched,
              row_number() over (partition by queue order by priority, seq) as number,
              count(*) over (partition by queue) as of_group
            from tasker_ready_steps
            where task_id = $1::bigint
          ) as r
          where number <= #{SHOWN}
        ), claim as materialized (
          select position, process_id, attempt, claimed_at, deadline, dispatch, row_number() over (order by token) as number
          from tasker_claimed_steps
          where task_id = $1::bigint
          order by token
          limit #{SHOWN}
        ), busy as materialized (
          select array(
            select distinct process_id
            from (select process_id from tasker_claimed_steps limit #{Operations::Health::CAP}) as sampled
          ) as ids
        ), ranked as materialized (
          select step.position, step.name, step.state, step.attempts, step.max_attempts, step.run_at,
            step.waiting_reason, step.last_error, r.priority, r.seq, r.ready_at,
            c.process_id, c.attempt, c.claimed_at, c.deadline, c.dispatch, coalesce(r.dispatched, false) as dispatched,
            coalesce(r.queue, step.waiting_reason, '') as "group",
            coalesce(r.number, c.number, step.number) as number,
            coalesce(r.of_group, step.of_group)::integer as of_group
          from step
          left join ready r on r.position = step.position and step.state = 'ready'
          left join claim c on c.position = step.position and step.state = 'in_progress'
          where case step.state
            when 'ready' then r.position is not null
            when 'in_progress' then c.position is not null
            else step.number <= #{SHOWN}
          end
        )
        select ranked.*, d.handler, d.queue, d.system, d.timeout_ms, p.name as process_name, p.hostname, p.pid,
          p.heartbeat_at, extract(epoch from p.heartbeat_timeout)::float as heartbeat_timeout,
          worker.*, behind.steps as steps_behind, ahead.steps as steps_ahead
        from ranked
        join tasker_step_definitions d on d.workflow_version_id = $2::bigint and d.position = ranked.position
        left join tasker_processes p on p.id = ranked.process_id
        cross join lateral (
          select count(*)::integer as workers,
            count(*) filter (where live)::integer as live_workers,
            count(*) filter (where live and serves)::integer as serving_workers,
            count(*) filter (where live and serves and idle)::integer as idle_workers
          from (
            select heartbeat_at + heartbeat_timeout > $3::timestamptz as live,
              queues && array[d.queue, '*'] and (idle_dispatcher is not null or not ranked.dispatched) as serves,
              case when ranked.dispatched then idle_dispatcher else not id = any((select ids from busy)::bigint[]) end
                as idle
            from tasker_processes
            where queues <> '{}'
          ) as process
        ) as worker
        cross join lateral (
          with recursive behind(position) as (
            select child.position
            from unnest(d.dependents) as child(position)
            cross join lateral (
              select state from tasker_workflow_steps where task_id = $1::bigint and position = child.position limit 1
            ) as s
            where s.state = 'pending'
            union
            select child.position
            from behind
            cross join lateral (
              select dependents
              from tasker_step_definitions
              where workflow_version_id = $2::bigint and position = behind.position
              limit 1
            ) as b
            cross join lateral unnest(b.dependents) as child(position)
            cross join lateral (
              select state from tasker_workflow_steps where task_id = $1::bigint and position = child.position limit 1
            ) as s
            where s.state = 'pending'
          )
          select count(*)::integer as steps from (select from behind limit #{CAP + 1}) as counted
        ) as behind
        cross join lateral (
          select count(*)::integer as steps
          from (
            select
            from tasker_ready_steps r
            where ranked.state = 'ready'
              and ranked.number = 1
              and r.queue = ranked."group"
              and r.dispatched = ranked.dispatched
              and (r.priority, r.seq) < (ranked.priority, ranked.seq)
            order by r.priority, r.seq
            limit #{CAP + 1}
          ) as counted
        ) as ahead
        order by ranked.state, ranked."group", ranked.number
      SQL

      DECISION = <<~SQL
        select actor, reason, created_at
        from tasker_task_events
        where task_id = $1::bigint and action = $2 and position is null
        order by id desc
        limit 1
      SQL

      STEP_OVERRIDES = <<~SQL.freeze
        select distinct on (e.position) d.name, e.action, e.actor, e.reason, e.created_at
        from tasker_task_events e
        join tasker_step_definitions d on d.workflow_version_id = $2::bigint and d.position = e.position
        where e.task_id = $1::bigint and e.action in ('resolve', 'complete')
        order by e.position, e.id desc
        limit #{SHOWN}
      SQL

      SLOWEST = <<~SQL
        select d.name, extract(epoch from a.finished_at - a.started_at)::float as seconds
        from tasker_step_attempts a
        join tasker_step_definitions d on d.workflow_version_id = $2::bigint and d.position = a.position
        where a.task_id = $1::bigint and a.outcome = 'completed'
        order by a.finished_at - a.started_at desc, a.position
        limit 1
      SQL
      READABLE_ERROR = "#{Postgres::Functions::SCHEMA}.readable_error($1::bigint, step.position) as last_error".freeze
      UNREADABLE_REASON = "'(the database cannot read the reason)' as reason"
      READABLE_STEPS = STEPS.sub("step.last_error", READABLE_ERROR).freeze
      private_constant :TASK, :STEPS, :READABLE_ERROR, :UNREADABLE_REASON, :READABLE_STEPS, :DECISION, :STEP_OVERRIDES,
                       :SLOWEST

      # @param id [Integer] of the task
      def initialize(id)
        @id = id
      end

      # @return [Hash{String => Object}] the task, its workflow, its counts of steps, and `now`
      # @raise [TaskNotFoundError]
      def task = @task ||= rows(TASK, @id).first || raise(TaskNotFoundError.new("there is no task #{@id}"))

      # @return [Time] on the database's clock
      def now = task["now"]

      # @return [Array<Hash{String => Object}>] the failed and active steps
      def steps
        @steps ||= ApplicationRecord.reading_either("the steps of task #{@id}", STEPS, READABLE_STEPS) do |sql|
          rows(sql, @id, version, now)
        end
      end

      # @param action [String] an operator's, on the task
      # @return [Hash{String => Object}, nil] actor, reason and time of the latest
      def decision(action) = events(DECISION, action).first

      # @return [Array<Hash{String => Object}>] the latest operator's action that ended each step
      def step_overrides = events(STEP_OVERRIDES, version)

      # @return [Hash{String => Object}, nil] name and seconds of the slowest attempt
      def slowest = rows(SLOWEST, @id, version).first

      private

      def version = task["workflow_version_id"]

      def rows(...) = Postgres::Rows.read(...)

      def events(statement, *binds)
        without_reasons = statement.sub(/\b(e\.)?reason\b/, UNREADABLE_REASON)
        ApplicationRecord.reading_either("the events of task #{@id}", statement, without_reasons) do |sql|
          rows(sql, @id, *binds)
        end
      end
    end
  end
end
