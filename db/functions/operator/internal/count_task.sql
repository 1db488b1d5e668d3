-- Adds to the counters of a task's workflow what the caller's transaction does to the task: p_counts is {name of a
-- column: by how much}. create_tasks, advance_tasks and prune, which change many tasks, insert their rows themselves.
-- Called by the operator's actions.

create function tasker_core_v1.count_task(p_task bigint, p_counts jsonb) returns void
language plpgsql as $$
begin
  insert into tasker_counts (
    namespace, workflow, cancelled, resolved, reopened, removed_complete, removed_error, removed_cancelled,
    removed_resolved)
  select v.namespace, v.name, n.cancelled, n.resolved, n.reopened, n.removed_complete, n.removed_error,
    n.removed_cancelled, n.removed_resolved
  from tasker_tasks t
  join tasker_workflow_versions v on v.id = any(array[t.workflow_version_id])
  cross join jsonb_to_record(p_counts) as n(
    cancelled bigint, resolved bigint, reopened bigint, removed_complete bigint, removed_error bigint,
    removed_cancelled bigint, removed_resolved bigint)
  where t.id = p_task;
end
$$;
