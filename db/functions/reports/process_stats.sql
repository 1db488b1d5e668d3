-- Returns what worker processes have measured (p_stats of heartbeat): {totals: {name: number}, summed over all
-- processes, also those that have ended; threads: of the live processes; broken: the most broken tasks that one of
-- their audits found}.
-- Read by the metrics.

create function tasker_core_v1.process_stats() returns json
language sql stable as $$
  select json_build_object(
    'totals', coalesce(tasker_core_v1.sum_stats(jsonb_agg(stats - '{threads,broken}'::text[])), '{}'),
    'threads', coalesce(sum((stats->>'threads')::bigint) filter (where is_live), 0),
    'broken', coalesce(max((stats->>'broken')::bigint) filter (where is_live), 0))
  from (
    select stats, heartbeat_at + heartbeat_timeout > tasker_core_v1.current_time() as is_live
    from tasker_processes
    union all
    select stats, false
    from tasker_counts
    where workflow is null
  ) as measured
  where stats is not null;
$$;
