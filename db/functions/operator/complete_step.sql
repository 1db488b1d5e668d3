-- Completes a step with a result that the operator supplies. Its children read it like a result of its handler.
-- Returns and errors: as override_step; TC006 if the result is not an object.

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
