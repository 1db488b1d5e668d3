-- Declares a task that ended with an error to be dealt with outside: it stays as it is and counts as failed no more.
-- Who and why are recorded. A task in another state is refused: TC004; an unknown one: TC003.
-- Answers {state, emitted: as build_events}.
-- Locks: its steps, so that no other verb is at work on one of them, then the task.

create function tasker_core_v1.resolve_task(p_task bigint, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_state text;
begin
  perform from tasker_workflow_steps where task_id = p_task order by position for update;
  select state into v_state from tasker_tasks where id = p_task for update;

  if not found then
    perform tasker_core_v1.raise_error('TC003', format('there is no task %s', p_task), jsonb_build_object('task', p_task));
  elsif v_state <> 'error' then
    perform tasker_core_v1.raise_error('TC004',
      format('task %s is %s: only a task that has ended with an error can be resolved', p_task, v_state),
      jsonb_build_object('task', p_task, 'state', v_state, 'verb', 'resolve'));
  end if;

  update tasker_tasks set state = 'resolved_manually' where id = p_task;
  perform tasker_core_v1.record_event(p_task, null, 'resolve', p_reason, p_by);
  return json_build_object('state', 'resolved_manually', 'emitted', tasker_core_v1.build_events(jsonb_build_array(
    tasker_core_v1.operator_event('task.resolved_manually', p_task, null, p_reason, p_by))));
end
$$;
