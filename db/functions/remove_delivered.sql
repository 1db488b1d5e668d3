-- Removes events from the outbox that all durable subscriptions have passed, the oldest first, a thousand at most. Called when
-- a cursor has moved, so that the outbox holds what is to be delivered and hardly more.
-- Locks: the events, passed over if they are locked.

create function tasker_core_v1.remove_delivered() returns void
language plpgsql as $$
begin
  delete from tasker_outbox_events
  where id = any(array(
    select id
    from tasker_outbox_events
    where id <= (select min(cursor_id) from tasker_subscriptions)
    order by id
    limit 1000
    for update skip locked));
end
$$;
