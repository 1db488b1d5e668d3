-- Which attempts of tasks created since a time took longest, from start to end? Slowest first, in seconds.
-- Read by operators and by the API; costs as much as there are attempts since then.
-- Index: the one on the tasks' uuid, which is in the order of creation.

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
  select t.id, t.uuid, v.namespace, v.name, v.version, d.name, a.attempt, a.outcome, a.started_at,
    extract(epoch from a.finished_at - a.started_at)::float
  from tasker_tasks t
  join tasker_workflow_versions v on v.id = t.workflow_version_id
  join tasker_step_attempts a on a.task_id = any(array[t.id])
  join tasker_step_definitions d on d.workflow_version_id = t.workflow_version_id and d.position = a.position
  where t.uuid >= tasker_core_v1.uuid_v7_floor(p_since)
    and (p_namespace is null or v.namespace = p_namespace)
    and (p_workflow is null or v.name = p_workflow)
  order by a.finished_at - a.started_at desc, a.token
  limit p_limit;
$$;
