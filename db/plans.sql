-- How the functions are planned: set for them once they are installed. README.md, "Plans", says why.

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

  -- Asked about many tasks at once from within another function, whose settings hold for it as well unless it has its own.
  alter function tasker_core_v1.tasks_with_status set jit = off;
  alter function tasker_core_v1.tasks_with_status set enable_seqscan = on;
  alter function tasker_core_v1.tasks_with_status set enable_hashjoin = on;

  -- Reports: large statements, which no caller needs inlined.
  for v_function in
    select p.oid::regprocedure
    from pg_proc p
    where p.pronamespace = 'tasker_core_v1'::regnamespace
      and p.proname in ('audit', 'analytics', 'slowest_steps', 'slowest_tasks', 'subscription_health', 'system_health')
  loop
    execute format('alter function %s set jit = off', v_function);
    execute format('alter function %s set enable_seqscan = off', v_function);
  end loop;
end
$$;
