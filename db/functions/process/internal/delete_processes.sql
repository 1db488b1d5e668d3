-- Deletes registrations of processes, and keeps what they counted (p_stats of heartbeat) for the metrics: totals must
-- not decrease when a process ends. Called by sweep, register_process and deregister_process. Locks: the processes.

create function tasker_core_v1.delete_processes(p_processes bigint[]) returns void
language plpgsql as $$
begin
  with deleted as (
    delete from tasker_processes where id = any(p_processes) returning stats
  )
  insert into tasker_counts (stats)
  select stats - '{threads,broken}'::text[] from deleted where stats is not null;
end
$$;
