-- Raises TC006 unless the result is an object, as a handler's is. Called by the actions that take a result.

create function tasker_core_v1.check_result(p_result jsonb, p_action text) returns void
language plpgsql as $$
begin
  if p_result is null or jsonb_typeof(p_result) <> 'object' then
    perform tasker_core_v1.raise_error('TC006',
      format('result: %s (%s) must be an object, like the result of a handler',
        coalesce(left(p_result::text, 80), 'null'), coalesce(jsonb_typeof(p_result), 'null')),
      jsonb_build_object('field', 'result', 'action', p_action));
  end if;
end
$$;
