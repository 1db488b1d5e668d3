-- Gives a failed step all its attempts again. Who and why are recorded. Answers as requeue_failed_steps does.
-- A step that has not failed is refused: TC004; an unknown one: TC003.
-- Locks: the step, then its task.

create function tasker_core_v1.reset_step(p_task bigint, p_position integer, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_step record := tasker_core_v1.lock_step(p_task, p_position);
begin
  if v_step.state <> 'error' then
    perform tasker_core_v1.raise_error('TC004',
      format('step %s of task %s has not failed: only a step that has can be reset', v_step.name, p_task),
      jsonb_build_object('task', p_task, 'step', v_step.name, 'state', v_step.state, 'verb', 'reset'));
  end if;

  return tasker_core_v1.requeue_failed_steps(p_task, array[p_position], p_position, p_reason, p_by);
end
$$;
