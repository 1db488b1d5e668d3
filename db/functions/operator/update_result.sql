-- Replaces the result of a step that is done; children that start later read the new one.
-- Returns {state}.
-- Errors: TC003 for an unknown step, TC004 for one that is not done, TC006 without reason or actor, or if the result is
-- not an object.
-- Locks: the step.

create function tasker_core_v1.update_result(
  p_task bigint,
  p_position integer,
  p_result jsonb,
  p_reason text,
  p_by text
) returns json
language plpgsql as $$
declare
  v_step record := tasker_core_v1.lock_step(p_task, p_position);
begin
  perform tasker_core_v1.check_result(p_result, 'update_result');
  if v_step.state not in ('complete', 'resolved_manually') then
    perform tasker_core_v1.raise_error('TC004',
      format('step %s of task %s is not done: only the result of a step that is done can be replaced; '
        'use complete for a step without a result', v_step.name, p_task),
      jsonb_build_object('task', p_task, 'step', v_step.name, 'state', v_step.state, 'action', 'update_result'));
  end if;

  update tasker_workflow_steps
  set result = p_result, result_bytes = octet_length(p_result::text)
  where task_id = p_task and position = p_position;
  perform tasker_core_v1.record_event(p_task, p_position, 'update_result', p_reason, p_by);
  return json_build_object('state', v_step.state);
end
$$;
