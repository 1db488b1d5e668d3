-- By how much has the database's clock leapt since it took a process's last sign of life? p_age is how long ago that was by the
-- process's own clock, which is never set. Null if it has not leapt, or nothing can be said: without an age, or when the
-- process is not on the list; else {by_ms, patience_ms: how long it takes until every process that lives has given a sign of
-- life again}. Called by sweep and heartbeat.
--
-- What statements and answers were under way for looks like a small leap, so a quarter of the time for which the process may
-- be silent counts as none. It is too little to make anybody look dead: signs of life come twice as often as they must.

create function tasker_core_v1.clock_leap(p_process bigint, p_age interval, p_now timestamptz) returns json
language sql stable as $$
  select json_build_object(
    'by_ms', extract(epoch from leap.size) * 1000,
    'patience_ms', (select extract(epoch from max(heartbeat_timeout)) * 1000 from tasker_processes))
  from tasker_processes p
  cross join lateral (select p_now - p.heartbeat_at - p_age as size) as leap
  where p.id = p_process
    and leap.size not between -p.heartbeat_timeout / 4 and p.heartbeat_timeout / 4;
$$;
