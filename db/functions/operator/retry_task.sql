-- Retries a task: all its failed steps become ready with their attempts reset, and the task continues. If none has
-- failed, all its waiting steps become ready now.
-- Returns {state, steps: how many, ready_queues}, and for failed steps `emitted` too, as requeue_failed_steps does.
-- Errors: TC003 for an unknown task, TC004 if no step has failed or waits, TC006 without reason or actor.
-- Locks: the failed steps by position, then the task; or else the waiting steps by position, then their waiting rows.

create function tasker_core_v1.retry_task(p_task bigint, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_failed integer[] := array(
    select position from tasker_workflow_steps where task_id = p_task and state = 'error' order by position for update);
  v_waits record;
  v_state text;
begin
  if v_failed <> '{}' then
    return tasker_core_v1.requeue_failed_steps(p_task, v_failed, null, p_reason, p_by);
  end if;

  v_waits := tasker_core_v1.end_waits(p_task, array(
    select s.position
    from tasker_waiting_steps w
    join tasker_workflow_steps s on s.task_id = p_task and s.position = any(array[w.position])
    where w.task_id = p_task
    order by s.position
    for update of s));
  if v_waits.steps > 0 then
    perform tasker_core_v1.record_event(p_task, null, 'retry', p_reason, p_by);
    return json_build_object('state', 'ready', 'steps', v_waits.steps, 'ready_queues', v_waits.ready_queues);
  end if;

  v_state := tasker_core_v1.task_state(p_task);
  perform tasker_core_v1.raise_error('TC004',
    format('task %s is %s and has no waiting or failed step: there is nothing to retry%s', p_task, v_state,
      case v_state when 'pending' then '; use release to take a step from its process' else '' end),
    jsonb_build_object('task', p_task, 'state', v_state, 'action', 'retry'));
end
$$;
