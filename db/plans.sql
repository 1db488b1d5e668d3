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
