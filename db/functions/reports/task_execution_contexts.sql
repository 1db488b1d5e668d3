-- Returns the state, status and step counts of tasks, as users see them. The only function that derives a task's state.
-- The first status that applies wins. Blocked comes before ready: a task with a step that failed permanently needs an
-- operator, whatever else still runs. When all active steps wait, the status says what for: repair of data that the
-- database cannot read, a handler that no worker knows, code that cannot be loaded, the next attempt, capacity, or the
-- time for which the task was created (`scheduled`).
-- `elapsed_seconds` is from creation to end, or to now, waits included. `running_seconds` is the sum of its attempts'
-- durations, running ones included; concurrent attempts each count.
-- Reads the ready and the claimed steps of all tasks once. Called by models, pages, the API, the command line and
-- find_tasks.

create function tasker_core_v1.task_execution_contexts(p_tasks bigint[])
returns table (
  task_id bigint,
  state text,
  execution_status text,
  total_steps integer,
  completed_steps integer,
  failed_steps integer,
  ready_steps integer,
  in_progress_steps integer,
  waiting_steps integer,
  next_run_at timestamptz,
  elapsed_seconds float,
  running_seconds float
)
language sql stable as $$
  with step as (
    select
      s.task_id,
      count(*)::integer as total,
      count(*) filter (where s.state in ('complete', 'resolved_manually'))::integer as completed,
      count(*) filter (where s.state = 'error')::integer as failed,
      count(*) filter (where s.state = 'ready')::integer as ready,
      count(*) filter (where s.state = 'in_progress')::integer as in_progress,
      count(*) filter (where s.state = 'waiting')::integer as waiting,
      coalesce(sum(s.attempts), 0) as attempts,
      bool_or(s.waiting_reason = 'unreadable') as for_repair,
      bool_or(s.waiting_reason = 'unknown_handler') as for_handler,
      bool_or(s.waiting_reason = 'not_loaded') as for_code,
      bool_or(s.waiting_reason = 'not_enqueued') as for_queue,
      bool_or(s.waiting_reason = 'retry') as for_retry,
      bool_or(s.waiting_reason = 'limited') as for_capacity,
      min(s.run_at) as next_run_at
    from tasker_core_v1.step_states(p_tasks) s
    group by s.task_id
  ), attempt as (
    select a.task_id, sum(a.seconds) as seconds
    from tasker_core_v1.step_attempts(p_tasks) a
    group by a.task_id
  )
  select t.id,
    case
      when t.state = 'pending' and (step.completed > 0 or step.in_progress > 0 or step.attempts > 0) then 'in_progress'
      else t.state
    end,
    case
      when t.state in ('cancelled', 'resolved_manually') then t.state
      when step.failed > 0 then 'blocked_by_failures'
      when step.ready > 0 then 'has_ready_steps'
      when step.in_progress > 0 then 'processing'
      when step.for_repair then 'waiting_for_repair'
      when step.for_handler then 'waiting_for_handler'
      when step.for_code then 'waiting_for_code'
      when step.for_queue then 'waiting_for_queue'
      when step.for_retry then 'waiting_for_retry'
      when step.for_capacity then 'waiting_for_capacity'
      when step.waiting > 0 then 'scheduled'
      when step.completed = step.total then 'all_complete'
      else 'waiting_for_dependencies'
    end,
    step.total, step.completed, step.failed, step.ready, step.in_progress, step.waiting, step.next_run_at,
    extract(epoch from coalesce(t.ended_at, clock.now) - t.created_at)::float, coalesce(attempt.seconds, 0)
  from tasker_tasks t
  join step on step.task_id = t.id
  left join attempt on attempt.task_id = t.id
  cross join (select tasker_core_v1.current_time() as now) as clock;
$$;
