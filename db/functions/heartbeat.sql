-- A sign of life: one update, whatever the number of leases. p_tokens are all that the process holds.
-- Answers {known, revoked}: whether the process is still on the list, and which of its tokens are claimed no more
-- (cancelled, lost), so that it can tell their handlers.
-- A claim that the process does not know of, as when the connection broke between commit and answer, is given
-- back once it is older than any answer should be late (the time for which the process may be silent). It is recorded as
-- released, as a process that was paused between writing its list and sending it may have begun it after all.
-- Called by each worker every few seconds.

create function tasker_core_v1.heartbeat(p_process bigint, p_tokens bigint[]) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_first_claim bigint := tasker_core_v1.first_claim();
  v_patience interval;
  v_unknown bigint[];
begin
  update tasker_processes
  set heartbeat_at = v_now
  where id = p_process
  returning heartbeat_timeout into v_patience;

  select array_agg(token) into v_unknown
  from tasker_claimed_steps
  where token >= v_first_claim
    and process_id = p_process
    and claimed_at < v_now - v_patience
    and not token = any(p_tokens);

  if v_unknown is not null then
    perform tasker_core_v1.release_steps(v_unknown, '0', 'lost_answer', true);
  end if;

  return json_build_object(
    'known', v_patience is not null,
    'revoked', array(
      select held.token
      from unnest(p_tokens) as held(token)
      where not exists (select from tasker_claimed_steps c where c.token = held.token)));
end
$$;
