-- Returns the state of each step of tasks, as users see it. Ready, in_progress and waiting come from the live row,
-- the others are stored. The only function that derives the state of a step. `attempts` includes the running one,
-- unless its job has not started; its process and time of claim are returned with it. The stored count changes only
-- when an attempt ends.
-- `result_bytes` is the length of the result as text, so that callers need not read long ones. `last_error` of a step
-- that was set aside, or whose job was not enqueued, says why. `dispatch` of a step that runs as a job: claimed,
-- enqueued or started.
-- Read by models, pages, the API and the command line.
-- Indexes: the primary keys of steps, definitions and waiting steps. Claimed and ready steps have no index by task:
-- their tables are read once for all tasks.

create function tasker_core_v1.step_states(p_tasks bigint[])
returns table (
  task_id bigint,
  "position" integer,
  name text,
  state text,
  attempts integer,
  max_attempts integer,
  pending_parents integer,
  dependencies integer[],
  run_at timestamptz,
  waiting_reason text,
  claimed_by bigint,
  claimed_at timestamptz,
  result jsonb,
  result_bytes integer,
  last_error jsonb,
  dispatch text
)
language sql stable as $$
  select s.task_id, s.position, d.name,
    case
      when c.token is not null then 'in_progress'
      when w.run_at is not null then 'waiting'
      when s.state = 'pending' and r.task_id is not null then 'ready'
      else s.state
    end,
    case when c.dispatch is null or c.dispatch = 'started' then coalesce(c.attempt, s.attempts) else s.attempts end,
    d.max_attempts, s.pending_parents, d.dependencies, w.run_at, w.reason,
    c.process_id, c.claimed_at, s.result, s.result_bytes, coalesce(w.error, s.last_error),
    c.dispatch
  from tasker_workflow_steps s
  join tasker_tasks t on t.id = s.task_id
  join tasker_step_definitions d on d.workflow_version_id = t.workflow_version_id and d.position = s.position
  left join tasker_claimed_steps c on c.task_id = s.task_id and c.position = s.position
  left join tasker_waiting_steps w on w.task_id = s.task_id and w.position = s.position
  left join tasker_ready_steps r on r.task_id = s.task_id and r.position = s.position
  where s.task_id = any(p_tasks);
$$;
