-- Ends a step in place of its handler: as resolved_manually, or as complete with a result. Its children may run then,
-- and a task that had ended with an error continues. Called by resolve_step and complete_step.
-- Returns {state, ready_queues, ended: as advance_tasks, emitted: as build_events}.
--
-- Errors: TC003 for an unknown step; TC004 for one that is claimed, as its handler may be about to finish it, for one
-- that is done or cancelled, and for one of a task that is cancelled or resolved; TC006 without reason or actor.
-- Locks: the step, its live row, then those of advance_tasks.

create function tasker_core_v1.override_step(
  p_task bigint,
  p_position integer,
  p_state text,
  p_result jsonb,
  p_action text,
  p_reason text,
  p_by text
) returns json
language plpgsql as $$
declare
  v_step record := tasker_core_v1.lock_step(p_task, p_position);
  v_is_live boolean := v_step.state = 'pending' and v_step.pending_parents = 0;
  v_state text := v_step.state;
  v_task_state text;
  v_advanced record;
begin
  if v_is_live and tasker_core_v1.delete_live_rows(p_task, array[p_position], false, null) = 0 then
    v_state := 'in_progress';
  end if;

  if v_state not in ('pending', 'error') then
    perform tasker_core_v1.raise_error('TC004',
      format('step %s of task %s is %s: only a step that has failed or has not started can be resolved or completed%s',
        v_step.name, p_task, v_state,
        case v_state
          when 'in_progress' then '; wait for its handler, release the step or cancel the task'
          when 'cancelled' then ''
          else '; update_result replaces its result'
        end),
      jsonb_build_object('task', p_task, 'step', v_step.name, 'state', v_state, 'action', p_action));
  end if;

  v_task_state := tasker_core_v1.task_state(p_task);
  if v_task_state not in ('pending', 'error') then
    perform tasker_core_v1.raise_error('TC004',
      format('task %s is %s: none of its steps can be resolved or completed', p_task, v_task_state),
      jsonb_build_object('task', p_task, 'state', v_task_state, 'action', p_action));
  end if;

  update tasker_workflow_steps
  set state = p_state, result = p_result, result_bytes = octet_length(p_result::text)
  where task_id = p_task and position = p_position;

  v_advanced := tasker_core_v1.advance_tasks(
    null, case when v_is_live then array[p_task] end, array[p_task], array[p_position], 0, 0);
  perform tasker_core_v1.record_event(p_task, p_position, p_action, p_reason, p_by);

  return json_build_object(
    'state', p_state,
    'ready_queues', coalesce(v_advanced.ready_queues, '{}'),
    'ended', coalesce(v_advanced.ended, '[]'),
    'emitted', tasker_core_v1.build_events(
      tasker_core_v1.operator_event('step.resolved_manually', p_task, p_position, p_reason, p_by)
        || coalesce(v_advanced.ended::jsonb, '[]')));
end
$$;
