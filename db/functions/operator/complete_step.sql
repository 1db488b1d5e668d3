-- Completes a step with a result that an operator gives; its children see it as if its handler had answered it.
-- Who and why are recorded. Answers and refuses as override_step does; a result that is no object: TC006.

create function tasker_core_v1.complete_step(
  p_task bigint,
  p_position integer,
  p_result jsonb,
  p_reason text,
  p_by text
) returns json
language plpgsql as $$
begin
  perform tasker_core_v1.check_result(p_result, 'complete');
  return tasker_core_v1.override_step(p_task, p_position, 'complete', p_result, 'complete', p_reason, p_by);
end
$$;
