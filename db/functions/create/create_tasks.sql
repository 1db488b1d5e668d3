-- Creates tasks with their steps, and a ready row (with wait_until: a waiting row) for each root.
-- Returns [{id, uuid, correlation_id, existing, queues}] in the order of the requests. A request whose idempotency key
-- is taken creates nothing and returns the task that has the key, marked as existing.
-- Raises TC002 for a version that is not registered, or not with the digest in the request (with p_if_registered
-- returns null: the caller then registers the version in the same transaction); TC008 as check_idempotency_keys does.
-- Called in the application's transaction. Locks: new rows only, but waits for a session that is taking the same key.

create function tasker_core_v1.create_tasks(p_requests jsonb, p_if_registered boolean default false) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_version_ids bigint[] := tasker_core_v1.find_versions(p_requests, p_if_registered);
  v_own_ids bigint[];
  v_ids bigint[];
begin
  if v_version_ids is null then
    return null;
  end if;

  v_own_ids := array(
    select nextval('tasker_tasks_id_seq') from generate_series(1, jsonb_array_length(p_requests)) as number);
  v_ids := case when jsonb_path_exists(p_requests, '$[*].idempotency_key ? (@ != null)')
    then tasker_core_v1.take_idempotency_keys(p_requests, v_own_ids) else v_own_ids end;

  insert into tasker_tasks (
    id, workflow_version_id, uuid, state, active, remaining, priority, correlation_id, parent_correlation_id,
    tags, created_at)
  select
    r.id, r.version_id, tasker_core_v1.uuid_v7(v_now), 'pending', steps.roots, steps.total, coalesce(r.priority, 0),
    coalesce(r.correlation_id, tasker_core_v1.uuid_v7(v_now)), r.parent_correlation_id, coalesce(r.tags, '{}'), v_now
  from rows from (
    jsonb_to_recordset(p_requests)
      as (priority integer, correlation_id uuid, parent_correlation_id uuid, tags text[]),
    unnest(v_own_ids), unnest(v_ids), unnest(v_version_ids)
  ) as r(priority, correlation_id, parent_correlation_id, tags, id, found_id, version_id)
  cross join lateral (
    select count(*) as total, count(*) filter (where dependencies = '{}') as roots
    from tasker_step_definitions
    where workflow_version_id = any(array[r.version_id])
  ) as steps
  where r.found_id = r.id;

  insert into tasker_task_inputs (task_id, input_bytes, input)
  select r.id, octet_length(given.input::text), given.input
  from rows from (jsonb_array_elements(p_requests), unnest(v_own_ids), unnest(v_ids)) as r(request, id, found_id)
  cross join lateral (select coalesce(r.request->'input', '{}')) as given(input)
  where r.found_id = r.id;

  if v_ids <> v_own_ids then
    perform tasker_core_v1.check_idempotency_keys(p_requests, v_own_ids, v_ids);
  end if;

  insert into tasker_workflow_steps (task_id, position, state, pending_parents, attempts)
  select r.id, d.position, 'pending', cardinality(d.dependencies), 0
  from unnest(v_own_ids, v_ids, v_version_ids) as r(id, found_id, version_id)
  join tasker_step_definitions d on d.workflow_version_id = any(array[r.version_id])
  where r.found_id = r.id
  order by r.id, d.position;

  -- Not by enqueue_steps, which would look up the task and the definition of each root again.
  with root as (
    select r.id, d.position, d.queue, coalesce(r.priority, 0) + d.priority as priority,
      case when r.wait_until > v_now then r.wait_until end as run_at
    from rows from (
      jsonb_to_recordset(p_requests) as (priority integer, wait_until timestamptz),
      unnest(v_own_ids), unnest(v_ids), unnest(v_version_ids)
    ) as r(priority, wait_until, id, found_id, version_id)
    join tasker_step_definitions d on d.workflow_version_id = any(array[r.version_id])
    where r.found_id = r.id and d.dependencies = '{}'
  ), waiting as (
    insert into tasker_waiting_steps (task_id, position, run_at, reason)
    select id, position, run_at, 'delay' from root where run_at is not null
  )
  insert into tasker_ready_steps (queue, priority, task_id, position, ready_at)
  select queue, priority, id, position, v_now from root where run_at is null order by id, position;

  if 'task.created' = any(tasker_core_v1.subscribed_event_names()) then
    perform tasker_core_v1.build_events(
      jsonb_agg(jsonb_build_object('name', 'task.created', 'task_id', r.id) order by r.id))
    from unnest(v_own_ids, v_ids) as r(id, found_id)
    where r.found_id = r.id;
  end if;

  return tasker_core_v1.created_tasks(v_own_ids, v_ids, v_version_ids);
end
$$;
