-- Resolves a task that ended with an error and was handled outside: its steps stay as they are, and it no longer counts
-- as failed.
-- Returns {state, emitted: as build_events}.
-- Errors: TC003 for an unknown task, TC004 for one in another state, TC006 without reason or actor.
-- Locks: its steps, so that no other action changes one of them, then the task.

create function tasker_core_v1.resolve_task(p_task bigint, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_state text;
begin
  perform from tasker_workflow_steps where task_id = p_task order by position for update;
  perform from tasker_tasks where id = p_task for update;
  v_state := tasker_core_v1.task_state(p_task);
  if v_state <> 'error' then
    perform tasker_core_v1.raise_error('TC004',
      format('task %s is %s: only a task that has ended with an error can be resolved%s', p_task, v_state,
        case v_state when 'pending' then '; cancel it to end it' else '' end),
      jsonb_build_object('task', p_task, 'state', v_state, 'action', 'resolve'));
  end if;

  update tasker_tasks set state = 'resolved_manually' where id = p_task;
  perform tasker_core_v1.count_task(p_task, '{"resolved": 1}');
  perform tasker_core_v1.record_event(p_task, null, 'resolve', p_reason, p_by);
  return json_build_object('state', 'resolved_manually', 'emitted', tasker_core_v1.build_events(jsonb_build_array(
    tasker_core_v1.operator_event('task.resolved_manually', p_task, null, p_reason, p_by))));
end
$$;
