-- How does each of these tasks stand? Counts by state, and the status that people see; the first that fits wins. Blocked
-- outranks ready: a task with a step that failed for good needs somebody, whatever else still runs.
-- The only place that derives a task's state. Reads the ready steps of all tasks once.

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
  next_run_at timestamptz
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
      min(s.run_at) as next_run_at
    from tasker_core_v1.step_states(p_tasks) s
    group by s.task_id
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
      when step.waiting > 0 then 'waiting_for_retry'
      when step.completed = step.total then 'all_complete'
      else 'waiting_for_dependencies'
    end,
    step.total, step.completed, step.failed, step.ready, step.in_progress, step.waiting, step.next_run_at
  from tasker_tasks t
  join step on step.task_id = t.id;
$$;
