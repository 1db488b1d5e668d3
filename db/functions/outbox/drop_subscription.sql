-- Removes a durable subscription, and the events that no other one needs. Returns how many events had not been
-- delivered.
-- Raises TC003 for an unknown subscription. A worker with a subscriber of that name registers it again, soon or when it
-- starts. Locks: the subscription, then its events.

create function tasker_core_v1.drop_subscription(p_name text) returns integer
language plpgsql as $$
declare
  v_subscription record;
  v_left integer;
begin
  delete from tasker_subscriptions where name = p_name returning * into v_subscription;
  if not found then
    perform tasker_core_v1.raise_error('TC003', format('durable subscription %s does not exist', p_name),
      jsonb_build_object('subscription', p_name));
  end if;

  select count(*) into v_left
  from tasker_outbox_events
  where id > v_subscription.cursor_id and name = any(v_subscription.events);

  delete from tasker_outbox_events
  where id <= coalesce((select min(cursor_id) from tasker_subscriptions), 9223372036854775807);
  return v_left;
end
$$;
