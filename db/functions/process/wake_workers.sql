-- Tells idle workers that a queue has something to claim: one notice per queue on the channel tasker_ready, and
-- none if no idle worker serves it. Answers the number of notices.
-- Called after the commit, on a statement of its own and debounced: a notice inside the transaction would make
-- all commits wait for each other.

create function tasker_core_v1.wake_workers(p_queues text[]) returns integer
language plpgsql as $$
declare
  v_notices integer;
begin
  select count(pg_notify('tasker_ready', queue)) into v_notices
  from (select distinct unnest(p_queues) as queue) as ready
  where exists (select from tasker_processes p where p.idle and p.queues && array[ready.queue, '*']);

  return v_notices;
end
$$;
