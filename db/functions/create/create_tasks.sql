-- Creates tasks, their steps, and a ready (or, with wait_until, a waiting) row for each root.
-- Answers in the order of the requests: [{id, uuid, correlation_id, existing, queues}]; an idempotency key that is
-- taken answers with the task that took it, marked as existing, and creates nothing; with another input it is refused: TC008.
-- A request may have the digest of its version's content. Where a version is not registered, or with another digest, the
-- whole is refused (TC002), or with p_if_registered the answer is null: a caller registers it then, in the same transaction.
-- Called inside the application's transaction: nobody sees the task before the commit.
-- Locks: new rows only; a key that is being taken elsewhere is waited for. Refuses TC002, TC006, TC008.

create function tasker_core_v1.create_tasks(p_requests jsonb, p_if_registered boolean default false) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_missing jsonb;
  v_taken jsonb;
  v_own_ids bigint[];
  v_ids bigint[];
  v_version_ids bigint[];
begin
  select array_agg(v.id order by r.number), jsonb_agg(r.request order by r.number) filter (where v.id is null)
  into v_version_ids, v_missing
  from jsonb_array_elements(p_requests) with ordinality as r(request, number)
  left join tasker_workflow_versions v
    on v.namespace = any(array[r.request->>'namespace'])
    and v.name = any(array[r.request->>'workflow'])
    and v.version = any(array[r.request->>'version'])
    and v.digest = coalesce(r.request->>'digest', v.digest);

  if v_missing is not null and p_if_registered then
    return null;
  end if;

  if v_missing is not null then
    perform tasker_core_v1.raise_error('TC002',
      format('workflow %s.%s version %s is not registered: call register_workflow first',
        v_missing->0->>'namespace', v_missing->0->>'workflow', v_missing->0->>'version'),
      (v_missing->0) - 'input');
  end if;

  select array_agg(nextval('tasker_tasks_id_seq') order by number) into v_own_ids
  from generate_series(1, jsonb_array_length(p_requests)) as number;

  insert into tasker_idempotency_keys (namespace, workflow, idempotency_key, task_id)
  select r.request->>'namespace', r.request->>'workflow', r.request->>'idempotency_key', r.id
  from rows from (jsonb_array_elements(p_requests), unnest(v_own_ids)) as r(request, id)
  where r.request->>'idempotency_key' is not null
  order by 1, 2, 3
  on conflict do nothing;

  select array_agg(coalesce(k.task_id, r.id) order by r.number) into v_ids
  from rows from (jsonb_array_elements(p_requests), unnest(v_own_ids)) with ordinality as r(request, id, number)
  left join tasker_idempotency_keys k
    on k.namespace = any(array[r.request->>'namespace'])
    and k.workflow = any(array[r.request->>'workflow'])
    and k.idempotency_key = any(array[r.request->>'idempotency_key']);

  insert into tasker_tasks (
    id, workflow_version_id, uuid, state, active, remaining, priority, correlation_id, parent_correlation_id,
    tags, created_at)
  select
    r.id, r.version_id, tasker_core_v1.uuid_v7(v_now), 'pending', steps.roots, steps.total,
    coalesce((r.request->>'priority')::integer, 0),
    coalesce((r.request->>'correlation_id')::uuid, tasker_core_v1.uuid_v7(v_now)),
    (r.request->>'parent_correlation_id')::uuid,
    array(select jsonb_array_elements_text(coalesce(r.request->'tags', '[]'))),
    v_now
  from rows from (jsonb_array_elements(p_requests), unnest(v_own_ids), unnest(v_ids), unnest(v_version_ids))
    as r(request, id, found_id, version_id)
  cross join lateral (
    select count(*) as total, count(*) filter (where d.dependencies = '{}') as roots
    from tasker_step_definitions d
    where d.workflow_version_id = any(array[r.version_id])
  ) as steps
  where r.found_id = r.id;

  insert into tasker_task_inputs (task_id, input_bytes, input)
  select r.id, octet_length(given.input::text), given.input
  from rows from (jsonb_array_elements(p_requests), unnest(v_own_ids), unnest(v_ids)) as r(request, id, found_id)
  cross join lateral (select coalesce(r.request->'input', '{}')) as given(input)
  where r.found_id = r.id;

  -- After the inputs: two requests of one call may have the same key.
  if v_ids <> v_own_ids then
    select jsonb_build_object('idempotency_key', r.request->'idempotency_key',
      'task', jsonb_build_object('id', t.id, 'uuid', t.uuid))
    into v_taken
    from rows from (jsonb_array_elements(p_requests), unnest(v_own_ids), unnest(v_ids)) with ordinality
      as r(request, id, found_id, number)
    join tasker_task_inputs i on i.task_id = any(array[r.found_id])
    join tasker_tasks t on t.id = any(array[r.found_id])
    where r.found_id <> r.id and i.input <> coalesce(r.request->'input', '{}')
    order by r.number
    limit 1;

    if v_taken is not null then
      perform tasker_core_v1.raise_error('TC008',
        format('the idempotency key %s is taken by the task %s, which has another input: give this one another key, or its input',
          v_taken->'idempotency_key', v_taken->'task'->>'id'),
        v_taken);
    end if;
  end if;

  insert into tasker_workflow_steps (task_id, position, state, pending_parents, attempts)
  select r.id, d.position, 'pending', cardinality(d.dependencies), 0
  from unnest(v_own_ids, v_ids, v_version_ids) as r(id, found_id, version_id)
  join tasker_step_definitions d on d.workflow_version_id = any(array[r.version_id])
  where r.found_id = r.id
  order by r.id, d.position;

  insert into tasker_waiting_steps (task_id, position, run_at, reason)
  select r.id, d.position, (r.request->>'wait_until')::timestamptz, 'delay'
  from rows from (jsonb_array_elements(p_requests), unnest(v_own_ids), unnest(v_ids), unnest(v_version_ids))
    as r(request, id, found_id, version_id)
  join tasker_step_definitions d on d.workflow_version_id = any(array[r.version_id])
  where r.found_id = r.id
    and d.dependencies = '{}'
    and (r.request->>'wait_until')::timestamptz > v_now;

  insert into tasker_ready_steps (queue, priority, task_id, position, ready_at)
  select d.queue, coalesce((r.request->>'priority')::integer, 0) + d.priority, r.id, d.position, v_now
  from rows from (jsonb_array_elements(p_requests), unnest(v_own_ids), unnest(v_ids), unnest(v_version_ids))
    as r(request, id, found_id, version_id)
  join tasker_step_definitions d on d.workflow_version_id = any(array[r.version_id])
  where r.found_id = r.id
    and d.dependencies = '{}'
    and coalesce((r.request->>'wait_until')::timestamptz <= v_now, true)
  order by r.id, d.position;

  if 'task.created' = any(tasker_core_v1.subscribed_event_names()) then
    perform tasker_core_v1.build_events(jsonb_agg(
      jsonb_build_object('name', 'task.created', 'task_id', r.id) order by r.id))
    from unnest(v_own_ids, v_ids) as r(id, found_id)
    where r.found_id = r.id;
  end if;

  return (
    select coalesce(json_agg(json_build_object(
      'id', t.id,
      'uuid', t.uuid,
      'correlation_id', t.correlation_id,
      'existing', r.found_id <> r.id,
      'queues', array(
        select distinct d.queue
        from tasker_step_definitions d
        where d.workflow_version_id = any(array[r.version_id])
          and d.dependencies = '{}')
    ) order by r.number), '[]')
    from unnest(v_own_ids, v_ids, v_version_ids) with ordinality as r(id, found_id, version_id, number)
    join tasker_tasks t on t.id = any(array[r.found_id]));
end
$$;
