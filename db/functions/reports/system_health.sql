-- Returns how many steps are ready, claimed and waiting, how old the oldest is, and how many workers there are.
-- Processes that only run jobs serve no queue and do not count. A worker is idle here when it is alive and holds no
-- claim; tasker_processes.idle serves notifications only. Reads at most p_cap rows of a table, so that the cost does
-- not grow with a queue of millions. Ages are in seconds.
-- Read by health endpoints and by operators.

create function tasker_core_v1.system_health(p_cap integer default 10000)
returns table (
  ready_steps integer,
  oldest_ready_seconds float,
  claimed_steps integer,
  overdue_leases integer,
  waiting_steps integer,
  overdue_waiting_steps integer,
  unreadable_steps integer,
  next_run_at timestamptz,
  processes integer,
  silent_processes integer,
  idle_processes integer
)
language sql stable as $$
  select
    ready.steps,
    extract(epoch from clock.now - ready.oldest)::float,
    claimed.steps,
    claimed.overdue,
    waiting.steps,
    waiting.overdue,
    waiting.unreadable,
    waiting.next,
    process.known,
    process.silent,
    process.idle
  from (select tasker_core_v1.current_time() as now) as clock
  cross join lateral (
    select count(*)::integer as steps, min(ready_at) as oldest
    from (select ready_at from tasker_ready_steps limit p_cap) as sampled
  ) as ready
  cross join lateral (
    select count(*)::integer as steps, count(*) filter (where deadline <= clock.now)::integer as overdue
    from (select deadline from tasker_claimed_steps limit p_cap) as sampled
  ) as claimed
  cross join lateral (
    select count(*)::integer as steps, count(*) filter (where run_at <= clock.now)::integer as overdue,
      count(*) filter (where reason = 'unreadable')::integer as unreadable, min(run_at) as next
    from (select run_at, reason from tasker_waiting_steps order by run_at limit p_cap) as sampled
  ) as waiting
  cross join lateral (
    select count(*)::integer as known,
      count(*) filter (where heartbeat_at + heartbeat_timeout <= clock.now)::integer as silent,
      count(*) filter (where heartbeat_at + heartbeat_timeout > clock.now and not id = any(busy.ids))::integer as idle
    from tasker_processes
    cross join (
      select array(
        select distinct process_id from (select process_id from tasker_claimed_steps limit p_cap) as sampled
      ) as ids
    ) as busy
    where queues <> '{}'
  ) as process;
$$;
