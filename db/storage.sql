-- How the tables are stored: settings that schema.rb cannot hold, applied with the functions, to tables that have none of that
-- name: what operations have set stays as it is.
-- Room on the page keeps updates of steps and tasks off the indexes (HOT): rows that were created together are updated
-- together, so there must be room for a second version of nearly all of them. bin/bench shows the share of such updates.
-- The tables that hold live rows turn over all the time and are vacuumed by count, not by share.

do $$
declare
  v_missing record;
begin
  for v_missing in
    select c.oid::regclass as relation, wanted.setting, wanted.value
    from (
      values
        ('tasker_tasks', 'fillfactor', 40),
        ('tasker_workflow_steps', 'fillfactor', 40),
        ('tasker_processes', 'fillfactor', 50),
        ('tasker_subscriptions', 'fillfactor', 50)
      union all
      select live.relation, vacuum.setting, vacuum.value
      from (
        values ('tasker_ready_steps'), ('tasker_claimed_steps'), ('tasker_waiting_steps'), ('tasker_outbox_events')
      ) as live(relation)
      cross join (
        values
          ('autovacuum_vacuum_scale_factor', 0),
          ('autovacuum_vacuum_threshold', 1000),
          ('autovacuum_vacuum_cost_delay', 0)
      ) as vacuum(setting, value)
    ) as wanted(relation, setting, value)
    join pg_class c on c.oid = to_regclass(wanted.relation)
    where not exists (
      select
      from pg_options_to_table(c.reloptions) as present
      where present.option_name = wanted.setting
    )
  loop
    execute format('alter table %s set (%I = %s)', v_missing.relation, v_missing.setting, v_missing.value);
  end loop;
end
$$;
