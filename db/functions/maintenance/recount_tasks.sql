-- Compares how many tasks are counted in each state (task_counts) with the tasks, and corrects the counters by the
-- difference. Totals of created and ended tasks stay as they are. With p_dry_run it only compares.
-- Returns [{namespace, workflow, state, counted, actual}], the differences. Reads all tasks: called at the end of a
-- round of audits, by `tasker audit`, and when functions are installed, because older functions count nothing.
--
-- One statement sees tasks and counters in the same snapshot, and every transaction changes both, so the difference
-- is exact while others run. The lock prevents two sessions from correcting the same difference.

create function tasker_core_v1.recount_tasks(p_dry_run boolean default false) returns json
language plpgsql as $$
declare
  v_differences json;
begin
  if not p_dry_run then
    perform pg_advisory_xact_lock(1952543595, 1);
  end if;

  with actual as (
    select v.namespace, v.name as workflow, t.state, sum(t.tasks) as tasks
    from (select workflow_version_id, state, count(*) as tasks from tasker_tasks group by workflow_version_id, state) t
    join tasker_workflow_versions v on v.id = t.workflow_version_id
    group by v.namespace, v.name, t.state
  ), counted as (
    select c.namespace, c.workflow, counted.state, counted.tasks
    from tasker_core_v1.task_counts() c
    cross join lateral (
      values ('pending', c.in_pending), ('complete', c.in_complete), ('error', c.in_error),
        ('cancelled', c.in_cancelled), ('resolved_manually', c.in_resolved)
    ) as counted(state, tasks)
  ), difference as materialized (
    select namespace, workflow, state, coalesce(counted.tasks, 0) as counted, coalesce(actual.tasks, 0) as actual
    from actual
    full join counted using (namespace, workflow, state)
    where coalesce(counted.tasks, 0) <> coalesce(actual.tasks, 0)
  ), corrected as (
    insert into tasker_counts (
      namespace, workflow, reopened, removed_complete, removed_error, removed_cancelled, removed_resolved)
    select d.namespace, d.workflow, c.reopened, c.removed_complete, c.removed_error, c.removed_cancelled,
      c.removed_resolved
    from (
      select namespace, workflow, jsonb_object_agg(state, actual - counted) as missing
      from difference
      where not p_dry_run
      group by namespace, workflow
    ) as d
    cross join lateral jsonb_to_record(tasker_core_v1.count_corrections(
      coalesce((d.missing->>'pending')::bigint, 0), coalesce((d.missing->>'complete')::bigint, 0),
      coalesce((d.missing->>'error')::bigint, 0), coalesce((d.missing->>'cancelled')::bigint, 0),
      coalesce((d.missing->>'resolved_manually')::bigint, 0)
    )) as c(reopened bigint, removed_complete bigint, removed_error bigint, removed_cancelled bigint,
      removed_resolved bigint)
  )
  select json_agg(difference order by namespace, workflow, state) into v_differences from difference;

  return coalesce(v_differences, '[]');
end
$$;
