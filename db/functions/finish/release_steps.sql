-- Releases claims of a process without spending an attempt. p_held: as in held_claims. Ignores claims that the process
-- does not hold, and repetitions.
-- Returns {ready_queues}. p_delay, p_reason, p_begun and p_error: as in return_claims. Called by workers and
-- dispatchers. Locks: the claims by token.

create function tasker_core_v1.release_steps(
  p_process bigint,
  p_held jsonb,
  p_delay interval,
  p_reason text,
  p_begun boolean default false,
  p_error jsonb default null
) returns json
language plpgsql as $$
begin
  return tasker_core_v1.return_claims(
    tasker_core_v1.held_claims(p_process, p_held), p_delay, p_reason, p_begun, p_error);
end
$$;
