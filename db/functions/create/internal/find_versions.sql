-- Returns the ids of the workflow versions that requests name, in the order of the requests. Called by create_tasks.
-- Raises TC002, or returns null with p_null_if_unregistered, if a version is unregistered or its digest differs.

create function tasker_core_v1.find_versions(p_requests jsonb, p_null_if_unregistered boolean) returns bigint[]
language plpgsql as $$
declare
  v_ids bigint[];
  v_missing jsonb;
begin
  select array_agg(v.id order by r.number), jsonb_agg(r.request order by r.number) filter (where v.id is null)
  into v_ids, v_missing
  from jsonb_array_elements(p_requests) with ordinality as r(request, number)
  left join tasker_workflow_versions v
    on v.namespace = any(array[r.request->>'namespace'])
    and v.name = any(array[r.request->>'workflow'])
    and v.version = any(array[r.request->>'version'])
    and v.digest = coalesce(r.request->>'digest', v.digest);

  if v_missing is null then
    return coalesce(v_ids, '{}');
  elsif p_null_if_unregistered then
    return null;
  end if;
  perform tasker_core_v1.raise_error('TC002',
    format('workflow %s.%s version %s is not registered: call register_workflow first',
      v_missing->0->>'namespace', v_missing->0->>'workflow', v_missing->0->>'version'),
    (v_missing->0) - 'input');
end
$$;
