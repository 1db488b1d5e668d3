-- Records that a process is alive, and reconciles its claims with those that it says it holds.
-- Returns {known: whether the process is registered; revoked: tokens of p_held that the process does not hold
-- (cancelled, lost, or from another state of the database), whose handlers it stops; server: server_identity;
-- clock_jump since the last heartbeat}.
--
-- p_held: all claims that the process holds, as in held_claims, each with its age_ms. With null, no claim is read,
-- moved, revoked or returned: a process whose claims cannot be read or are locked must not be declared dead because
-- of them.
-- p_age: how long ago, by the process's own clock, the database received its last heartbeat.
-- p_stats: {name: number}, what the process has counted since it registered; summed in the metrics (process_stats).
--
-- A claim that the process does not know, as when the connection broke before the response, is returned once it is
-- older than the process's heartbeat timeout, which is longer than any response takes. It is recorded as released: a
-- process that was paused between writing p_held and sending it may have started the step. A claim whose job is
-- enqueued does not depend on its dispatcher, and stays.
--
-- Claims are judged by the database's clock, which may be set, or be another server's after a fail-over. So a claim
-- whose age differs from the process's is moved to the current clock together with its deadline, and keeps the length
-- of its lease. When the clock has jumped, the age of a claim that the process does not know starts again.
--
-- The number of statements does not depend on the number of claims. Called by each worker every few seconds. Locks: the
-- process, then claims by token.

create function tasker_core_v1.heartbeat(
  p_process bigint,
  p_held jsonb,
  p_age interval default null,
  p_stats jsonb default null
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_first_claim bigint := tasker_core_v1.claim_scan_start();
  v_process record;
  v_clock_jump json := tasker_core_v1.clock_jump(p_process, p_age, v_now);
  v_tolerance interval;
  v_held bigint[];
  v_unknown bigint[];
begin
  update tasker_processes
  set heartbeat_at = v_now, stats = coalesce(p_stats, stats)
  where id = p_process
  returning heartbeat_timeout, lease_grace into v_process;

  if p_held is null then
    return json_build_object(
      'known', v_process.heartbeat_timeout is not null,
      'revoked', array[]::bigint[],
      'server', tasker_core_v1.server_identity(),
      'clock_jump', v_clock_jump);
  end if;

  v_held := tasker_core_v1.held_claims(p_process, p_held);
  v_tolerance := least(v_process.heartbeat_timeout, v_process.lease_grace) / 4;

  update tasker_claimed_steps c
  set claimed_at = lease.claimed_at, deadline = c.deadline + (lease.claimed_at - c.claimed_at)
  from (
    select token, v_now - make_interval(secs => age_ms / 1000.0) as claimed_at
    from jsonb_to_recordset(p_held) as held (token bigint, age_ms float)
    where token = any(v_held)
    order by token
  ) as lease
  where c.token = any(array[lease.token])
    and c.process_id = p_process
    and lease.claimed_at - c.claimed_at not between -v_tolerance and v_tolerance;

  if v_clock_jump is not null then
    update tasker_claimed_steps
    set claimed_at = v_now, deadline = deadline + (v_now - claimed_at)
    where ctid = any(array(
      select ctid
      from tasker_claimed_steps
      where token >= v_first_claim and process_id = p_process and not token = any(v_held)
      order by token
      for update));
  end if;

  select array_agg(token) into v_unknown
  from tasker_claimed_steps
  where token >= v_first_claim
    and process_id = p_process
    and dispatch is distinct from 'enqueued'
    and claimed_at < v_now - v_process.heartbeat_timeout
    and not token = any(v_held);

  if v_unknown is not null then
    perform tasker_core_v1.return_claims(v_unknown, '0', 'unknown_claim', true);
  end if;

  return json_build_object(
    'known', v_process.heartbeat_timeout is not null,
    'revoked', array(
      select token
      from jsonb_to_recordset(p_held) as held (token bigint)
      where not token = any(v_held)),
    'server', tasker_core_v1.server_identity(),
    'clock_jump', v_clock_jump);
end
$$;
