-- Removes events from the outbox that all durable subscriptions have passed. Called when the cursor of p_name has moved, so
-- that the outbox holds what is to be delivered and hardly more.
-- It begins where it ended for this subscription the last time: what was removed before may lie there dead for as long as a
-- transaction elsewhere might still see it, and is not to be passed again and again.
-- Locks: the subscription, which the caller has; the events, passed over if somebody else is removing them.

create function tasker_core_v1.trim_outbox(p_name text) returns void
language plpgsql as $$
declare
  v_from bigint := (select removed_id from tasker_subscriptions where name = p_name);
  v_to bigint := (select min(cursor_id) from tasker_subscriptions);
begin
  if v_to > v_from then
    delete from tasker_outbox_events
    where id = any(array(
      select id
      from tasker_outbox_events
      where id > v_from and id <= v_to
      order by id
      for update skip locked));

    update tasker_subscriptions set removed_id = v_to where name = p_name;
  end if;
end
$$;
