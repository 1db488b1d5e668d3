-- Makes a step that waits for its next attempt, or for its time to begin, ready at once. Who and why are recorded.
-- Answers {state, ready_queues}. A step that does not wait is refused: TC004; an unknown one: TC003.
-- Locks: the step, then its waiting row.

create function tasker_core_v1.retry_now(p_task bigint, p_position integer, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_step record := tasker_core_v1.lock_step(p_task, p_position);
  v_queues text[];
begin
  with waiting as (
    delete from tasker_waiting_steps
    where task_id = p_task and position = p_position
    returning task_id, position
  ), ready as (
    insert into tasker_ready_steps (queue, priority, task_id, position, ready_at)
    select d.queue, t.priority + d.priority, waiting.task_id, waiting.position, v_now
    from waiting
    join tasker_tasks t on t.id = any(array[waiting.task_id])
    cross join lateral (
      select queue, priority
      from tasker_step_definitions
      where workflow_version_id = t.workflow_version_id and position = waiting.position
      limit 1
    ) as d
    returning queue
  )
  select array_agg(queue) into v_queues from ready;

  if v_queues is null then
    perform tasker_core_v1.raise_error('TC004',
      format('step %s of task %s does not wait: only a step that waits for its time can be retried now; '
        'reset_step gives a failed one its attempts again', v_step.name, p_task),
      jsonb_build_object('task', p_task, 'step', v_step.name, 'state', v_step.state, 'verb', 'retry_now'));
  end if;

  perform tasker_core_v1.record_event(p_task, p_position, 'retry_now', p_reason, p_by);
  return json_build_object('state', 'ready', 'ready_queues', v_queues);
end
$$;
