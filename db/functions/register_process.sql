-- Enters a worker process: {name, hostname, pid, queues, heartbeat_timeout_ms, lease_grace_ms}. The id is its
-- epoch and is never given again. Called once at a worker's start, and again if it was given up for dead.

create function tasker_core_v1.register_process(p_process jsonb) returns bigint
language sql volatile as $$
  insert into tasker_processes (
    name, hostname, pid, queues, idle, started_at, heartbeat_at, heartbeat_timeout, lease_grace)
  select
    p.name, p.hostname, p.pid, p.queues, false, clock.now, clock.now,
    make_interval(secs => p.heartbeat_timeout_ms / 1000.0), make_interval(secs => p.lease_grace_ms / 1000.0)
  from jsonb_to_record(p_process) as p (
    name text, hostname text, pid integer, queues text[], heartbeat_timeout_ms bigint, lease_grace_ms bigint)
  cross join (select tasker_core_v1.current_time() as now) as clock
  returning id;
$$;
