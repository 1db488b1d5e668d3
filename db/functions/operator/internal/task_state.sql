-- Returns the stored state of a task for an operator's action. It takes no lock.
-- Errors: TC003 for an unknown task.

create function tasker_core_v1.task_state(p_task bigint) returns text
language plpgsql as $$
declare
  v_state text := (select state from tasker_tasks where id = p_task);
begin
  if v_state is null then
    perform tasker_core_v1.raise_error('TC003',
      format('there is no task %s', p_task), jsonb_build_object('task', p_task));
  end if;
  return v_state;
end
$$;
