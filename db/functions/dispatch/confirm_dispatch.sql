-- Records that jobs are enqueued for a dispatcher's claims. From now on the claims do not depend on the dispatcher's
-- life, only on p_start_timeout of dispatch_steps. p_held: as in held_claims. Ignores claims that the process does not
-- hold or whose job has started. Returns how many were enqueued. Called by dispatchers.
-- Locks: the claims by token.

create function tasker_core_v1.confirm_dispatch(p_process bigint, p_held jsonb) returns integer
language plpgsql as $$
declare
  v_tokens bigint[] := tasker_core_v1.held_claims(p_process, p_held);
  v_enqueued integer;
begin
  update tasker_claimed_steps
  set dispatch = 'enqueued'
  where ctid = any(array(
    select ctid
    from tasker_claimed_steps
    where token = any(v_tokens) and process_id = p_process and dispatch = 'claimed'
    order by token
    for update));
  get diagnostics v_enqueued = row_count;
  return v_enqueued;
end
$$;
