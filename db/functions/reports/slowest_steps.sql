-- Returns the longest attempts of tasks created since a time, slowest first. `seconds` is from start to end, or to
-- now for a running attempt, whose outcome is 'running'.
-- Read by operators and by the API. The cost grows with the number of attempts since then.

create function tasker_core_v1.slowest_steps(
  p_since timestamptz,
  p_limit integer,
  p_namespace text default null,
  p_workflow text default null
)
returns table (
  task_id bigint,
  task_uuid uuid,
  namespace text,
  workflow text,
  version text,
  step text,
  attempt integer,
  outcome text,
  started_at timestamptz,
  seconds float
)
language sql stable as $$
  with task as materialized (
    select id, uuid, workflow_version_id, namespace, workflow, version
    from tasker_core_v1.tasks_since(p_since, p_namespace, p_workflow)
  ), attempt as (
    select task.*, a.position, a.token, a.attempt, a.outcome, a.started_at,
      extract(epoch from a.finished_at - a.started_at)::float as seconds
    from task
    join tasker_step_attempts a on a.task_id = any(array[task.id])
    union all
    select task.*, c.position, c.token, c.attempt, 'running', c.claimed_at,
      extract(epoch from tasker_core_v1.current_time() - c.claimed_at)::float
    from task
    join tasker_claimed_steps c on c.task_id = task.id
  )
  select a.id, a.uuid, a.namespace, a.workflow, a.version, d.name, a.attempt, a.outcome, a.started_at, a.seconds
  from attempt a
  join tasker_step_definitions d on d.workflow_version_id = a.workflow_version_id and d.position = a.position
  order by a.seconds desc, a.token
  limit p_limit;
$$;
