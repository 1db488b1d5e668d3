-- Releases a step from the process that runs it: it becomes ready for every worker, and no attempt is used. Its
-- handler cannot finish it any more; the process stops it after its next heartbeat.
-- Returns {state, ready_queues}.
-- Errors: TC003 for an unknown step, TC004 for one that is not claimed, TC006 without reason or actor.
-- Locks: the claim, so that a finish in progress completes first; then the step.

create function tasker_core_v1.release_step(p_task bigint, p_position integer, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_tokens bigint[] := array(
    select token from tasker_claimed_steps where task_id = p_task and position = p_position for update);
  v_step record := tasker_core_v1.lock_step(p_task, p_position);
  v_released json;
begin
  if v_tokens = '{}' then
    perform tasker_core_v1.raise_error('TC004',
      format('step %s of task %s is not in progress: only a running step can be released',
        v_step.name, p_task),
      jsonb_build_object('task', p_task, 'step', v_step.name, 'state', v_step.state, 'action', 'release'));
  end if;

  v_released := tasker_core_v1.return_claims(v_tokens, '0', 'operator', true);
  perform tasker_core_v1.record_event(p_task, p_position, 'release', p_reason, p_by);
  return json_build_object('state', 'ready', 'ready_queues', v_released->'ready_queues');
end
$$;
