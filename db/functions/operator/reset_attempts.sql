-- Gives every failed step of a task all its attempts again. Who and why are recorded. Answers as requeue_failed_steps does.
-- A task without a failed step is refused: TC004; an unknown one: TC003.
-- Locks: the failed steps by position, then the task.

create function tasker_core_v1.reset_attempts(p_task bigint, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_positions integer[] := array(
    select position from tasker_workflow_steps where task_id = p_task and state = 'error' order by position for update);
begin
  if v_positions = '{}' then
    if not exists (select from tasker_tasks where id = p_task) then
      perform tasker_core_v1.raise_error('TC003', format('there is no task %s', p_task), jsonb_build_object('task', p_task));
    end if;
    perform tasker_core_v1.raise_error('TC004', format('task %s has no failed step: there is nothing to reset', p_task),
      jsonb_build_object('task', p_task, 'verb', 'reset'));
  end if;

  return tasker_core_v1.requeue_failed_steps(p_task, v_positions, null, p_reason, p_by);
end
$$;
