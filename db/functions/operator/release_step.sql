-- Takes a step from the process that runs it and makes it ready for all, without spending an attempt: its handler can finish
-- nothing any more, and hears of it with the next heartbeat. Who and why are recorded. Answers {state, ready_queues}.
-- A step that no process has is refused: TC004; an unknown one: TC003.
-- Locks: the claim, so that a finish that is under way comes first; then the step.

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
      format('step %s of task %s is run by no process: there is nothing to take from it', v_step.name, p_task),
      jsonb_build_object('task', p_task, 'step', v_step.name, 'state', v_step.state, 'verb', 'release'));
  end if;

  v_released := tasker_core_v1.return_claims(v_tokens, '0', 'operator', true);
  perform tasker_core_v1.record_event(p_task, p_position, 'release', p_reason, p_by);
  return json_build_object('state', 'ready', 'ready_queues', v_released->'ready_queues');
end
$$;
