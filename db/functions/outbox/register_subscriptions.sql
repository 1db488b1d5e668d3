-- Registers durable subscriptions, or changes their events. Returns how many are new. Called by workers as they start.
-- p_subscriptions: [{name, events: [names]}].
--
-- A new subscription begins with the events that follow. When the events of one change, its failure and its wait are
-- cleared, as the event that failed may no longer be wanted, and a process that is delivering loses the subscription:
-- it would otherwise acknowledge an event that is no longer the next one. Locks: the subscriptions, by name.

create function tasker_core_v1.register_subscriptions(p_subscriptions jsonb) returns integer
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_last bigint := coalesce(pg_sequence_last_value('tasker_outbox_events_id_seq'::regclass), 0);
  v_new integer;
begin
  insert into tasker_subscriptions (name, events, cursor_id, removed_id, mark_id, mark_xid, failures, created_at)
  select s.name, s.events, v_last, v_last, v_last, 0, 0, v_now
  from jsonb_to_recordset(p_subscriptions) as s (name text, events text[])
  order by s.name
  on conflict (name) do nothing;
  get diagnostics v_new = row_count;

  update tasker_subscriptions s
  set events = given.events,
    process_id = null,
    failures = 0,
    retry_at = null,
    last_error = null
  from jsonb_to_recordset(p_subscriptions) as given (name text, events text[])
  where s.name = any(array[given.name]) and s.events <> given.events;
  return v_new;
end
$$;
