-- Returns the time at which a scan for waiting steps begins: that of the first waiting step, or now if that is
-- earlier, as new rows may be due at any time. What save_scan_mark says of missed rows applies. Called by sweep.

create function tasker_core_v1.waiting_scan_start() returns timestamptz
language plpgsql as $$
declare
  v_began timestamptz := clock_timestamp();
  v_now timestamptz := tasker_core_v1.current_time();
  v_before jsonb := tasker_core_v1.scan_mark('tasker_waiting_steps');
  v_first timestamptz := coalesce((v_before->>'run_at')::timestamptz, '-infinity');
begin
  select run_at into v_first
  from tasker_waiting_steps
  where run_at >= v_first
  order by run_at
  limit 1;

  v_first := least(v_first, v_now);
  perform tasker_core_v1.save_scan_mark(
    'tasker_waiting_steps', v_before, jsonb_build_object('run_at', v_first), v_began, '2 ms');
  return v_first;
end
$$;
