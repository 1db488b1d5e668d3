-- Planner settings of the functions, set when they have been installed. README.md, "Plans", gives the reasons.

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure
    from pg_proc p
    join pg_language l on l.oid = p.prolang
    where p.pronamespace = 'tasker_core_v1'::regnamespace
      and l.lanname = 'plpgsql'
  loop
    execute format('alter function %s set jit = off', v_function);
    execute format('alter function %s set plan_cache_mode = force_generic_plan', v_function);
    execute format('alter function %s set enable_seqscan = off', v_function);
    execute format('alter function %s set enable_hashjoin = off', v_function);
    execute format('alter function %s set enable_mergejoin = off', v_function);
  end loop;

  -- Called for many tasks from another function, whose settings would apply here too.
  alter function tasker_core_v1.tasks_with_status set jit = off;
  alter function tasker_core_v1.tasks_with_status set enable_seqscan = on;
  alter function tasker_core_v1.tasks_with_status set enable_hashjoin = on;

  -- Reads all tasks.
  alter function tasker_core_v1.recount_tasks set enable_seqscan = on;
  alter function tasker_core_v1.recount_tasks set enable_hashjoin = on;

  -- Reports: large statements that no caller needs inlined.
  for v_function in
    select p.oid::regprocedure
    from pg_proc p
    where p.pronamespace = 'tasker_core_v1'::regnamespace
      and p.proname in (
        'audit', 'analytics', 'ready_queues', 'slowest_steps', 'slowest_tasks', 'subscription_health', 'system_health')
  loop
    execute format('alter function %s set jit = off', v_function);
    execute format('alter function %s set enable_seqscan = off', v_function);
  end loop;
end
$$;
