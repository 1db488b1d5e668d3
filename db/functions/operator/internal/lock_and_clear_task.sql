-- Locks a task with all its steps and deletes all its live rows; running attempts are recorded as released with
-- p_error.
-- Returns the number of live rows. Called by cancel_task and repair_task.
--
-- Locks: in the order of finish_steps: claims, steps, the task. A claim that was made after the claims were locked may
-- be held by a finish that waits for one of the steps. Then it releases all its locks and begins again by waiting for
-- that claim.

create function tasker_core_v1.lock_and_clear_task(p_task bigint, p_error jsonb) returns integer
language plpgsql as $$
begin
  loop
    begin
      perform from tasker_claimed_steps where task_id = p_task order by token for update;
      perform from tasker_workflow_steps where task_id = p_task order by position for update;
      perform from tasker_tasks where id = p_task for update;
      return tasker_core_v1.delete_live_rows(p_task, null, true, p_error);
    exception
      when sqlstate 'TC007' then null;
    end;
  end loop;
end
$$;
