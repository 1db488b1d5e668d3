-- Returns the token at which a scan for claims begins: that of the first claim, or else the lowest that next_token can
-- draw. As save_scan_mark explains, a claim that is being inserted may be missed until the next full scan.
-- Called by sweep and heartbeat.

create function tasker_core_v1.claim_scan_start() returns bigint
language plpgsql as $$
declare
  v_began timestamptz := clock_timestamp();
  v_last bigint := coalesce(pg_sequence_last_value('tasker_claimed_steps_token_seq'), 0);
  v_before jsonb := tasker_core_v1.scan_mark('tasker_claimed_steps');
  v_first bigint := coalesce((v_before->>'token')::bigint, 0);
begin
  select token into v_first
  from tasker_claimed_steps
  where token >= v_first
  order by token
  limit 1;

  v_first := coalesce(v_first, (v_last + 1) << 20);
  perform tasker_core_v1.save_scan_mark(
    'tasker_claimed_steps', v_before, jsonb_build_object('token', v_first), v_began, '2 ms');
  return v_first;
end
$$;
