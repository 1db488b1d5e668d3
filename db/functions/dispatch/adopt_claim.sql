-- Gives the step of a job to the process that runs the job: replaces the dispatcher's claim with a claim of p_process,
-- as insert_claims returns it, with a time limit that begins now.
-- p_dispatched: {token, task_id, position, attempt} of the dispatcher's claim; all must agree, and no process may have
-- started the job. Otherwise, as for a job that the queue runs twice or later than the claim lasted, it returns no
-- claim. Raises TC005 for an unknown process. Called by StepJob.
-- Locks: the dispatcher's claim.

create function tasker_core_v1.adopt_claim(p_process bigint, p_dispatched jsonb, p_inline_bytes integer) returns json
language plpgsql as $$
declare
  v_claim record;
begin
  delete from tasker_claimed_steps c
  using jsonb_to_record(p_dispatched) as job (token bigint, task_id bigint, position integer, attempt integer)
  where c.token = any(array[job.token])
    and (c.task_id, c.position, c.attempt) = (job.task_id, job.position, job.attempt)
    and c.dispatch in ('claimed', 'enqueued')
  returning c.task_id, c.position, c.ready_at into v_claim;

  if v_claim.task_id is null then
    return '{"versions":{},"claims":[]}';
  end if;
  return tasker_core_v1.insert_claims(
    p_process, array[v_claim.task_id], array[v_claim.position], array[v_claim.ready_at], p_inline_bytes, 'started');
end
$$;
