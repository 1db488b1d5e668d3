-- Removes tasks that ended more than p_keep ago, with all their rows. At the end of the tasks also removes workflow
-- versions that no task refers to and that were replaced as long ago (unused_versions), and outbox events of that age,
-- delivered or not.
-- Reads up to p_limit tasks after the uuid p_after (null: from the beginning), oldest first.
-- Returns {removed: number of rows by table (with p_dry_run: that would be removed), after: for the next call, null at
-- the end}. Called by maintenance and by `tasker prune`; several sessions may run it at once.
--
-- Index: the one on uuid, which is in the order of creation; a task created after p_keep cannot have ended before it.
-- Locks: steps by (task, position), then tasks by id, skipping those that are locked.

create function tasker_core_v1.prune(p_keep interval, p_after uuid, p_limit integer, p_dry_run boolean) returns json
language plpgsql as $$
declare
  v_before timestamptz := tasker_core_v1.current_time() - p_keep;
  v_seen integer;
  v_after uuid;
  v_tasks bigint[];
  v_locked_tasks bigint[];
  v_versions bigint[];
  v_events bigint[];
  v_counts json;
begin
  select count(*), max(uuid::text)::uuid, array_agg(id order by id) filter (where ended_at < v_before)
  into v_seen, v_after, v_tasks
  from (
    select id, uuid, ended_at
    from tasker_tasks
    where uuid > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
      and uuid < tasker_core_v1.uuid_v7_floor(v_before)
    order by uuid
    limit p_limit
  ) as old;

  if not p_dry_run then
    perform
    from unnest(v_tasks) as old(id)
    join tasker_workflow_steps s on s.task_id = any(array[old.id])
    order by s.task_id, s.position
    for update of s;

    -- A task that was retried meanwhile has not ended.
    select array_agg(id) into v_locked_tasks
    from (
      select id
      from tasker_tasks
      where id = any(v_tasks) and ended_at < v_before
      order by id
      for update skip locked
    ) as still;
    v_tasks := v_locked_tasks;
  end if;

  v_versions := case when v_seen < p_limit then
    tasker_core_v1.unused_versions(v_before, case when p_dry_run then null else p_limit end, p_dry_run) end;
  v_events := case when v_seen < p_limit then array(
    select id
    from (
      select id, occurred_at
      from tasker_outbox_events
      order by id
      limit case when p_dry_run then null else p_limit end
    ) as oldest
    where occurred_at < v_before) end;
  v_counts := json_build_object(
    'tasks', coalesce(cardinality(v_tasks), 0),
    'task_inputs', (select count(*) from tasker_task_inputs where task_id = any(v_tasks)),
    'idempotency_keys', (select count(*) from tasker_idempotency_keys where task_id = any(v_tasks)),
    'workflow_steps', (select count(*) from tasker_workflow_steps where task_id = any(v_tasks)),
    'step_attempts', (select count(*) from tasker_step_attempts where task_id = any(v_tasks)),
    'task_events', (select count(*) from tasker_task_events where task_id = any(v_tasks)),
    'workflow_versions', coalesce(cardinality(v_versions), 0),
    'step_definitions', (select count(*) from tasker_step_definitions where workflow_version_id = any(v_versions)),
    'outbox_events', coalesce(cardinality(v_events), 0));

  if not p_dry_run then
    with old as materialized (
      select t.workflow_version_id, t.state
      from unnest(v_tasks) as given(id)
      join tasker_tasks t on t.id = any(array[given.id])
    ), removed as (
      select workflow_version_id,
        count(*) filter (where state = 'complete') as complete, count(*) filter (where state = 'error') as error,
        count(*) filter (where state = 'cancelled') as cancelled,
        count(*) filter (where state = 'resolved_manually') as resolved
      from old
      group by workflow_version_id
    )
    insert into tasker_counts (
      namespace, workflow, removed_complete, removed_error, removed_cancelled, removed_resolved)
    select v.namespace, v.name, removed.complete, removed.error, removed.cancelled, removed.resolved
    from removed
    join tasker_workflow_versions v on v.id = any(array[removed.workflow_version_id]);

    delete from tasker_task_inputs where task_id = any(v_tasks);
    delete from tasker_idempotency_keys where task_id = any(v_tasks);
    delete from tasker_step_attempts where task_id = any(v_tasks);
    delete from tasker_task_events where task_id = any(v_tasks);
    delete from tasker_workflow_steps where task_id = any(v_tasks);
    delete from tasker_tasks where id = any(v_tasks);
    delete from tasker_step_definitions where workflow_version_id = any(v_versions);
    delete from tasker_workflow_versions where id = any(v_versions);
    delete from tasker_outbox_events where id = any(v_events);
  end if;

  return json_build_object('removed', v_counts, 'after', case
    when v_seen >= p_limit then v_after
    when not p_dry_run and (cardinality(v_events) >= p_limit or cardinality(v_versions) > 0) then
      coalesce(v_after, p_after, tasker_core_v1.uuid_v7_floor(v_before))
  end);
end
$$;
