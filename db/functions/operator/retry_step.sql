-- Retries a step. One that waits for its next attempt, or for its time, becomes ready now; one that has failed gets all
-- its attempts again, and its task continues.
-- Returns {state, steps: 1, ready_queues}, and for a failed step `emitted` too, as requeue_failed_steps does.
-- Errors: TC003 for an unknown step, TC004 for one in another state, TC006 without reason or actor.
-- Locks: the step, then its waiting row or its task.

create function tasker_core_v1.retry_step(p_task bigint, p_position integer, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_step record := tasker_core_v1.lock_step(p_task, p_position);
  v_state text := v_step.state;
  v_waits record;
begin
  if v_state = 'error' then
    return tasker_core_v1.requeue_failed_steps(p_task, array[p_position], p_position, p_reason, p_by);
  end if;

  v_waits := tasker_core_v1.end_waits(p_task, array[p_position]);
  if v_waits.steps > 0 then
    perform tasker_core_v1.record_event(p_task, p_position, 'retry', p_reason, p_by);
    return json_build_object('state', 'ready', 'steps', v_waits.steps, 'ready_queues', v_waits.ready_queues);
  end if;

  if v_state = 'pending' and v_step.pending_parents = 0 then
    v_state := case
      when exists (select from tasker_claimed_steps where task_id = p_task and position = p_position) then 'in_progress'
      else 'ready'
    end;
  end if;
  perform tasker_core_v1.raise_error('TC004',
    format('step %s of task %s is %s: only a waiting or failed step can be retried; %s',
      v_step.name, p_task, v_state,
      case v_state
        when 'pending' then 'it becomes ready when its parents are done'
        when 'ready' then 'a worker that serves its queue will run it'
        when 'in_progress' then 'wait for its handler, or release the step'
        when 'cancelled' then 'create a new task'
        else 'update_result replaces its result'
      end),
    jsonb_build_object('task', p_task, 'step', v_step.name, 'state', v_state, 'action', 'retry'));
end
$$;
