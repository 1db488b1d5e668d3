-- Notifies idle workers and dispatchers on the channel tasker_ready: one notification for each queue that an idle
-- worker serves. Returns the number of notifications.
-- Called after the commit, debounced, in a statement of its own: a notification in the transaction would serialize all
-- commits.

create function tasker_core_v1.wake_workers(p_queues text[]) returns integer
language plpgsql as $$
declare
  v_notices integer;
begin
  select count(pg_notify('tasker_ready', queue)) into v_notices
  from (select distinct unnest(p_queues) as queue) as ready
  where exists (
    select from tasker_processes p where (p.idle or p.idle_dispatcher) and p.queues && array[ready.queue, '*']);

  return v_notices;
end
$$;
