-- Creates tasks with their steps and, for each root step, a ready row, or a waiting row if wait_until is in the future.
-- Returns [{id, uuid, correlation_id, existing, queues}] in the order of the requests. A request whose idempotency key
-- already belongs to a task creates nothing; that task is returned with existing = true. Raises TC008 if its input
-- differs, and TC002 if a version is unregistered or its digest differs. With p_null_if_unregistered it returns null
-- instead of TC002, so that the caller can register the version in the same transaction and retry.
-- Called in the application's transaction. Locks only the rows it inserts, but blocks while another transaction holds
-- the same idempotency key. `any(array[...])`: see db/README.md, "Plans".

create function tasker_core_v1.create_tasks(p_requests jsonb, p_null_if_unregistered boolean default false) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_version_ids bigint[] := tasker_core_v1.find_versions(p_requests, p_null_if_unregistered);
  v_new_ids bigint[];
  v_task_ids bigint[];
  v_created_versions bigint[];
begin
  if v_version_ids is null then
    return null;
  end if;

  v_new_ids := array(select nextval('tasker_tasks_id_seq') from generate_series(1, jsonb_array_length(p_requests)));
  v_task_ids := case when jsonb_path_exists(p_requests, '$[*].idempotency_key ? (@ != null)')
    then tasker_core_v1.take_idempotency_keys(p_requests, v_new_ids) else v_new_ids end;

  -- active counts the ready, waiting and claimed steps; remaining, the steps that are not done.
  insert into tasker_tasks (
    id, workflow_version_id, uuid, state, active, remaining, priority, correlation_id, parent_correlation_id,
    tags, created_at)
  select
    r.id, r.version_id, tasker_core_v1.uuid_v7(v_now), 'pending', steps.roots, steps.total, coalesce(r.priority, 0),
    coalesce(r.correlation_id, tasker_core_v1.uuid_v7(v_now)), r.parent_correlation_id, coalesce(r.tags, '{}'), v_now
  from rows from (
    jsonb_to_recordset(p_requests) as (priority integer, correlation_id uuid, parent_correlation_id uuid, tags text[]),
    unnest(v_new_ids), unnest(v_task_ids), unnest(v_version_ids)
  ) as r(priority, correlation_id, parent_correlation_id, tags, id, task_id, version_id)
  cross join lateral (
    select count(*) as total, count(*) filter (where dependencies = '{}') as roots from tasker_step_definitions
    where workflow_version_id = any(array[r.version_id])
  ) as steps
  where r.task_id = r.id;

  v_created_versions := array(
    select version_id
    from unnest(v_new_ids, v_task_ids, v_version_ids) as r(id, task_id, version_id)
    where r.task_id = r.id);
  insert into tasker_counts (namespace, workflow, created)
  select namespace, name, cardinality(array_positions(v_created_versions, id))
  from tasker_workflow_versions
  where id = any(v_created_versions);

  insert into tasker_task_inputs (task_id, input_bytes, input, trace_context)
  select r.id, octet_length(given.input::text), given.input, r.request->'trace_context'
  from rows from (jsonb_array_elements(p_requests), unnest(v_new_ids), unnest(v_task_ids)) as r(request, id, task_id)
  cross join lateral (select coalesce(r.request->'input', '{}')) as given(input)
  where r.task_id = r.id;

  -- Two of the requests may have the same key: the check compares their inputs, now stored.
  if v_task_ids <> v_new_ids then
    perform tasker_core_v1.check_idempotency_keys(p_requests, v_new_ids, v_task_ids);
  end if;

  insert into tasker_workflow_steps (task_id, position, state, pending_parents, attempts)
  select r.id, d.position, 'pending', cardinality(d.dependencies), 0
  from unnest(v_new_ids, v_task_ids, v_version_ids) as r(id, task_id, version_id)
  join tasker_step_definitions d on d.workflow_version_id = any(array[r.version_id])
  where r.task_id = r.id
  order by r.id, d.position;

  -- Does not call enqueue_steps, which would look up each root's task and definition again.
  with root as (
    select r.id, d.position, d.queue, d.dispatch is not null as dispatched,
      coalesce(r.priority, 0) + d.priority as priority,
      case when r.wait_until > v_now then r.wait_until end as run_at
    from rows from (
      jsonb_to_recordset(p_requests) as (priority integer, wait_until timestamptz),
      unnest(v_new_ids), unnest(v_task_ids), unnest(v_version_ids)
    ) as r(priority, wait_until, id, task_id, version_id)
    join tasker_step_definitions d on d.workflow_version_id = any(array[r.version_id])
    where r.task_id = r.id and d.dependencies = '{}'
  ), waiting as (
    insert into tasker_waiting_steps (task_id, position, run_at, reason)
    select id, position, run_at, 'delay' from root where run_at is not null
  )
  insert into tasker_ready_steps (queue, priority, task_id, position, ready_at, dispatched)
  select queue, priority, id, position, v_now, dispatched from root where run_at is null order by id, position;

  if 'task.created' = any(tasker_core_v1.subscribed_event_names()) then
    perform tasker_core_v1.build_events(
      jsonb_agg(jsonb_build_object('name', 'task.created', 'task_id', r.id) order by r.id))
    from unnest(v_new_ids, v_task_ids) as r(id, task_id)
    where r.task_id = r.id;
  end if;

  return tasker_core_v1.describe_created_tasks(v_new_ids, v_task_ids, v_version_ids);
end
$$;
