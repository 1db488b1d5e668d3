-- How the tables are stored: settings that schema.rb cannot hold, applied with the functions.
-- Room on the page keeps updates of steps and tasks off the indexes (HOT): rows that were created together are updated
-- together, so there must be room for a second version of nearly all of them. bin/bench shows the share of such updates.
-- The tables that hold live rows turn over all the time and are vacuumed by count, not by share.

alter table if exists tasker_tasks set (fillfactor = 40);
alter table if exists tasker_workflow_steps set (fillfactor = 40);
alter table if exists tasker_processes set (fillfactor = 50);
alter table if exists tasker_subscriptions set (fillfactor = 50);

alter table if exists tasker_ready_steps
  set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table if exists tasker_claimed_steps
  set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table if exists tasker_waiting_steps
  set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table if exists tasker_outbox_events
  set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
