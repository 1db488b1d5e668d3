-- Raises TC008 when the idempotency key of a request belongs to a task with another input.
-- p_ids are the ids reserved for the requests, p_found_ids the tasks that have their keys (take_idempotency_keys).
-- Called by create_tasks after it has inserted the inputs: two requests of one call may have the same key.

create function tasker_core_v1.check_idempotency_keys(p_requests jsonb, p_ids bigint[], p_found_ids bigint[])
returns void
language plpgsql as $$
declare
  v_taken jsonb;
begin
  select jsonb_build_object('idempotency_key', r.request->'idempotency_key',
    'task', jsonb_build_object('id', t.id, 'uuid', t.uuid))
  into v_taken
  from rows from (jsonb_array_elements(p_requests), unnest(p_ids), unnest(p_found_ids)) with ordinality
    as r(request, id, found_id, number)
  join tasker_task_inputs i on i.task_id = any(array[r.found_id])
  join tasker_tasks t on t.id = any(array[r.found_id])
  where r.found_id <> r.id and i.input <> coalesce(r.request->'input', '{}')
  order by r.number
  limit 1;

  if v_taken is not null then
    perform tasker_core_v1.raise_error('TC008',
      format('idempotency key %s belongs to task %s, which has another input: use another key or the same input',
        v_taken->'idempotency_key', v_taken->'task'->>'id'),
      v_taken);
  end if;
end
$$;
