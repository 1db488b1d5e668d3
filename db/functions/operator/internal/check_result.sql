-- Refuses a result that no handler could have answered, as it is no object: TC006. Called by the operator's verbs
-- that take a result.

create function tasker_core_v1.check_result(p_result jsonb, p_verb text) returns void
language plpgsql as $$
begin
  if p_result is null or jsonb_typeof(p_result) <> 'object' then
    perform tasker_core_v1.raise_error('TC006',
      format('result: %s (%s) must be an object, as a handler answers it',
        coalesce(left(p_result::text, 80), 'null'), coalesce(jsonb_typeof(p_result), 'null')),
      jsonb_build_object('field', 'result', 'verb', p_verb));
  end if;
end
$$;
