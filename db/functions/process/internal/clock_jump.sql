-- Returns {by_ms, grace_ms} when the database's clock has jumped since a process's last heartbeat: by how much, and how
-- long it takes until every live process has sent another heartbeat. Returns null when it has not jumped, without an
-- age, and for a process that is not registered. Called by sweep and heartbeat.
--
-- p_age: how long ago the last heartbeat was by the process's own clock, which is never set. A difference of up to a
-- quarter of the heartbeat timeout does not count: statements and responses take time. It is too small to make a
-- process look dead, as heartbeats are sent at twice the necessary rate.

create function tasker_core_v1.clock_jump(p_process bigint, p_age interval, p_now timestamptz) returns json
language sql stable as $$
  select json_build_object(
    'by_ms', extract(epoch from jump.size) * 1000,
    'grace_ms', (select extract(epoch from max(heartbeat_timeout)) * 1000 from tasker_processes))
  from tasker_processes p
  cross join lateral (select p_now - p.heartbeat_at - p_age as size) as jump
  where p.id = p_process
    and jump.size not between -p.heartbeat_timeout / 4 and p.heartbeat_timeout / 4;
$$;
