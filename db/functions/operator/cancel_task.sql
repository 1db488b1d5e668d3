-- Cancels a task: deletes its live rows and cancels its steps that have not ended. A handler that still runs cannot
-- finish its step any more; its attempt is recorded as released.
-- Returns {state, emitted: as build_events}.
-- Errors: TC003 for an unknown task, TC004 for one that has ended, TC006 without reason or actor.
-- Locks: those of lock_and_clear_task.

create function tasker_core_v1.cancel_task(p_task bigint, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_state text;
  v_events jsonb;
begin
  perform tasker_core_v1.lock_and_clear_task(
    p_task, jsonb_build_object('class', 'TaskerCore::TaskCancelled', 'message', p_reason));
  v_state := tasker_core_v1.task_state(p_task);
  if v_state <> 'pending' then
    perform tasker_core_v1.raise_error('TC004',
      format('task %s is %s: only a task that has not ended can be cancelled%s', p_task, v_state,
        case v_state when 'error' then '; resolve it so that it no longer counts as failed' else '' end),
      jsonb_build_object('task', p_task, 'state', v_state, 'action', 'cancel'));
  end if;

  with step as (
    update tasker_workflow_steps
    set state = 'cancelled'
    where task_id = p_task and state = 'pending'
    returning position
  )
  select jsonb_agg(tasker_core_v1.operator_event('step.cancelled', p_task, position, p_reason, p_by) order by position)
  into v_events
  from step;

  update tasker_tasks
  set state = 'cancelled', active = 0, ended_at = tasker_core_v1.current_time()
  where id = p_task;

  perform tasker_core_v1.count_task(p_task, '{"cancelled": 1}');
  perform tasker_core_v1.record_event(p_task, null, 'cancel', p_reason, p_by);
  return json_build_object('state', 'cancelled', 'emitted', tasker_core_v1.build_events(
    tasker_core_v1.operator_event('task.cancelled', p_task, null, p_reason, p_by) || coalesce(v_events, '[]')));
end
$$;
