-- Takes the idempotency keys of requests for the tasks p_ids. Returns for each request the task that has its key: the
-- one of p_ids, or an older one. A request without a key keeps its task.
-- Called by create_tasks. Locks: new rows only, but waits for a session that is taking the same key.

create function tasker_core_v1.take_idempotency_keys(p_requests jsonb, p_ids bigint[]) returns bigint[]
language plpgsql as $$
begin
  insert into tasker_idempotency_keys (namespace, workflow, idempotency_key, task_id)
  select r.request->>'namespace', r.request->>'workflow', r.request->>'idempotency_key', r.id
  from rows from (jsonb_array_elements(p_requests), unnest(p_ids)) as r(request, id)
  where r.request->>'idempotency_key' is not null
  order by 1, 2, 3
  on conflict do nothing;

  return (
    select array_agg(coalesce(k.task_id, r.id) order by r.number)
    from rows from (jsonb_array_elements(p_requests), unnest(p_ids)) with ordinality as r(request, id, number)
    left join tasker_idempotency_keys k
      on k.namespace = any(array[r.request->>'namespace'])
      and k.workflow = any(array[r.request->>'workflow'])
      and k.idempotency_key = any(array[r.request->>'idempotency_key']));
end
$$;
