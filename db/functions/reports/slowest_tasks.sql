-- Returns the longest tasks created since a time, slowest first. `seconds` is from creation to end, or to now;
-- `running_seconds` is the sum of its attempts' durations, without waits. `state` is as in task_execution_contexts.
-- Read by operators and by the API. The cost grows with the number of tasks since then.

create function tasker_core_v1.slowest_tasks(
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
  state text,
  created_at timestamptz,
  ended_at timestamptz,
  steps bigint,
  attempts bigint,
  seconds float,
  running_seconds float
)
language sql stable as $$
  with slow as (
    select t.*,
      extract(epoch from coalesce(t.ended_at, tasker_core_v1.current_time()) - t.created_at)::float as seconds
    from tasker_core_v1.tasks_since(p_since, p_namespace, p_workflow) t
    order by seconds desc, t.id
    limit p_limit
  )
  select slow.id, slow.uuid, slow.namespace, slow.workflow, slow.version, context.state, slow.created_at, slow.ended_at,
    context.total_steps::bigint, attempt.number, slow.seconds, context.running_seconds
  from slow
  cross join lateral (
    select c.state, c.total_steps, c.running_seconds from tasker_core_v1.task_execution_context(slow.id) c
  ) as context
  cross join lateral (
    select count(*) as number from tasker_core_v1.step_attempts(array[slow.id])
  ) as attempt
  order by slow.seconds desc, slow.id;
$$;
