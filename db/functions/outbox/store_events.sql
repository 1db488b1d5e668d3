-- Stores those events in the outbox that have a durable subscriber. Returns how many.
-- p_events: [{name, correlation_id, payload}], in order.
-- Called by build_events, and by applications for their own events, in the transaction of the change.

create function tasker_core_v1.store_events(p_events jsonb) returns integer
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_wanted text[] := tasker_core_v1.subscribed_event_names();
  v_stored integer;
begin
  -- Before the first number is drawn: fetch_events waits for transactions by their ids.
  if v_wanted <> '{}' then
    perform pg_current_xact_id();
  end if;

  insert into tasker_outbox_events (name, uuid, correlation_id, occurred_at, payload)
  select e.event->>'name', tasker_core_v1.uuid_v7(v_now), (e.event->>'correlation_id')::uuid, v_now, e.event->'payload'
  from jsonb_array_elements(p_events) with ordinality as e(event, number)
  where e.event->>'name' = any(v_wanted)
  order by e.number;
  get diagnostics v_stored = row_count;
  return v_stored;
end
$$;
