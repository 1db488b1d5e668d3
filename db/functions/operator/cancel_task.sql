-- Cancels a task: its live rows go, its unended steps become cancelled, and a handler that is still running can
-- finish nothing any more; its attempt is recorded as released. Who and why are recorded.
-- A task that has ended is refused: TC004; an unknown one: TC003. Answers {state, emitted: as build_events}.
-- Locks: those of lock_and_clear_task.

create function tasker_core_v1.cancel_task(p_task bigint, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_state text;
  v_events jsonb;
begin
  perform tasker_core_v1.lock_and_clear_task(
    p_task, jsonb_build_object('class', 'TaskerCore::TaskCancelled', 'message', p_reason));
  select state into v_state from tasker_tasks where id = p_task;

  if not found then
    perform tasker_core_v1.raise_error('TC003', format('there is no task %s', p_task), jsonb_build_object('task', p_task));
  elsif v_state <> 'pending' then
    perform tasker_core_v1.raise_error('TC004',
      format('task %s is %s: only a task that has not ended can be cancelled', p_task, v_state),
      jsonb_build_object('task', p_task, 'state', v_state, 'verb', 'cancel'));
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

  perform tasker_core_v1.record_event(p_task, null, 'cancel', p_reason, p_by);
  return json_build_object('state', 'cancelled', 'emitted', tasker_core_v1.build_events(
    tasker_core_v1.operator_event('task.cancelled', p_task, null, p_reason, p_by) || coalesce(v_events, '[]')));
end
$$;
