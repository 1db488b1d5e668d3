-- Deletes a claim that cannot be ended because of damaged data, records its attempt as released with p_attempt_error,
-- and sets the step aside with p_error. Returns [{task_id, position, error}]. Called by end_lost_attempts and
-- return_unstarted_claims, which have locked the claim.

create function tasker_core_v1.set_aside_claim(p_token bigint, p_attempt_error jsonb, p_error jsonb) returns jsonb
language plpgsql as $$
declare
  v_claim record;
begin
  delete from tasker_claimed_steps where token = p_token returning * into v_claim;
  insert into tasker_step_attempts (
    task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, finished_at, outcome, error)
  values (
    v_claim.task_id, v_claim.position, v_claim.attempt, v_claim.token, v_claim.process_id, v_claim.ready_at,
    v_claim.claimed_at, v_claim.claimed_at, tasker_core_v1.current_time(), 'released', p_attempt_error);
  perform tasker_core_v1.set_aside(array[v_claim.task_id], array[v_claim.position], array[p_error]);
  return jsonb_build_array(jsonb_build_object(
    'task_id', v_claim.task_id, 'position', v_claim.position, 'error', p_error));
end
$$;
