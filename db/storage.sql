-- Storage settings that schema.rb cannot hold. They are applied with the functions, to tables that do not have the
-- setting, so that what an administrator has set stays.
-- Free space on the pages keeps updates of steps and tasks off the indexes (HOT): rows that are created together are
-- updated together, so nearly every row needs room for a second version. bin/bench shows the share of such updates.
-- The tables of live rows and of counters turn over constantly, and are vacuumed after a number of changes, not a share.

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
        values
          ('tasker_ready_steps'), ('tasker_claimed_steps'), ('tasker_waiting_steps'), ('tasker_outbox_events'),
          ('tasker_counts')
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
