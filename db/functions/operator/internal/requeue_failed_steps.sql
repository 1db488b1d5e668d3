-- Resets the attempts of a task's failed steps: they become ready, and a task that had ended continues. Called
-- by retry_step and retry_task, which hold the steps' locks.
-- p_event_position: the step to record with the action, or null for the task.
-- Returns {state, steps: how many, ready_queues, emitted: as build_events}.
-- Errors: TC004 for a task that is cancelled or resolved, TC006 without reason or actor.
-- Locks: the task, after its steps.

create function tasker_core_v1.requeue_failed_steps(
  p_task bigint,
  p_positions integer[],
  p_event_position integer,
  p_reason text,
  p_by text
) returns json
language plpgsql as $$
declare
  v_task_state text;
  v_queues text[];
begin
  select state into v_task_state from tasker_tasks where id = p_task for update;
  if v_task_state not in ('pending', 'error') then
    perform tasker_core_v1.raise_error('TC004',
      format('task %s is %s: none of its steps can be retried; create a new task', p_task, v_task_state),
      jsonb_build_object('task', p_task, 'state', v_task_state, 'action', 'retry'));
  end if;

  update tasker_workflow_steps
  set state = 'pending', attempts = 0, last_error = null
  where task_id = p_task and position = any(p_positions);

  v_queues := tasker_core_v1.enqueue_steps(array_fill(p_task, array[cardinality(p_positions)]), p_positions);

  update tasker_tasks
  set active = active + cardinality(p_positions), state = 'pending', ended_at = null
  where id = p_task;

  if v_task_state = 'error' then
    perform tasker_core_v1.count_task(p_task, '{"reopened": 1}');
  end if;

  perform tasker_core_v1.record_event(p_task, p_event_position, 'retry', p_reason, p_by);
  return json_build_object(
    'state', 'ready',
    'steps', cardinality(p_positions),
    'ready_queues', v_queues,
    'emitted', tasker_core_v1.build_events(jsonb_build_array(
      tasker_core_v1.operator_event('task.retried', p_task, null, p_reason, p_by))));
end
$$;
