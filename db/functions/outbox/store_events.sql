-- Writes events that a durable subscription wants into the outbox; others are passed over.
-- p_events: [{name, correlation_id, payload}], in their order. Answers how many were written.
-- Called by build_events, and by applications for events of their own, in the transaction that they tell of.

create function tasker_core_v1.store_events(p_events jsonb) returns integer
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_wanted text[] := tasker_core_v1.subscribed_event_names();
  v_stored integer;
begin
  -- Before the first number is drawn: by its transaction fetch_events tells which numbers may still come.
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
