-- Returns the tasks created since a time with their workflow versions, of one namespace and workflow if given.
-- Called by analytics, slowest_steps and slowest_tasks, into which PostgreSQL inlines it.
-- Index: the one on the tasks' uuid, which is in the order of creation.

create function tasker_core_v1.tasks_since(p_since timestamptz, p_namespace text, p_workflow text)
returns table (
  id bigint,
  uuid uuid,
  workflow_version_id bigint,
  namespace text,
  workflow text,
  version text,
  state text,
  created_at timestamptz,
  ended_at timestamptz
)
language sql stable as $$
  select t.id, t.uuid, t.workflow_version_id, v.namespace, v.name, v.version, t.state, t.created_at, t.ended_at
  from tasker_tasks t
  join tasker_workflow_versions v on v.id = t.workflow_version_id
  where t.uuid >= tasker_core_v1.uuid_v7_floor(p_since)
    and (p_namespace is null or v.namespace = p_namespace)
    and (p_workflow is null or v.name = p_workflow);
$$;
