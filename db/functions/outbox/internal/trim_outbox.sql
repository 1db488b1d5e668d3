-- Removes events that all durable subscriptions have passed. Called when the cursor of p_name has moved, so that the
-- outbox holds little more than what is still to be delivered. Begins where it ended for this subscription last time:
-- removed rows remain there, dead, while a transaction elsewhere might still see them, and must not be read each
-- time.
-- Locks: the events, skipping those that another session is removing. The caller has locked the subscription.

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
