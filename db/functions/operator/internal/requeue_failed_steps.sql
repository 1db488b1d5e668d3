-- Gives failed steps of a task all their attempts again: they become ready, and a task that had ended goes on.
-- Called by reset_step and reset_attempts, which have locked the steps. Answers {state, steps, ready_queues,
-- emitted: as build_events}.
-- A task that is cancelled or resolved is refused: TC004.
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
  v_now timestamptz := tasker_core_v1.current_time();
  v_task_state text;
  v_queues text[];
begin
  select state into v_task_state from tasker_tasks where id = p_task for update;
  if v_task_state not in ('pending', 'error') then
    perform tasker_core_v1.raise_error('TC004',
      format('task %s is %s: none of its steps can be reset', p_task, v_task_state),
      jsonb_build_object('task', p_task, 'state', v_task_state, 'verb', 'reset'));
  end if;

  update tasker_workflow_steps
  set state = 'pending', attempts = 0, last_error = null
  where task_id = p_task and position = any(p_positions);

  with ready as (
    insert into tasker_ready_steps (queue, priority, task_id, position, ready_at)
    select d.queue, t.priority + d.priority, p_task, d.position, v_now
    from tasker_tasks t
    join tasker_step_definitions d on d.workflow_version_id = any(array[t.workflow_version_id])
    where t.id = p_task and d.position = any(p_positions)
    order by d.position
    returning queue
  )
  select array_agg(distinct queue) into v_queues from ready;

  update tasker_tasks
  set active = active + cardinality(p_positions), state = 'pending', ended_at = null
  where id = p_task;

  perform tasker_core_v1.record_event(p_task, p_event_position, 'reset', p_reason, p_by);
  return json_build_object(
    'state', 'ready',
    'steps', cardinality(p_positions),
    'ready_queues', v_queues,
    'emitted', tasker_core_v1.build_events(jsonb_build_array(
      tasker_core_v1.operator_event('task.retried', p_task, null, p_reason, p_by))));
end
$$;
