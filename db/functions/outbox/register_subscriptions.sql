-- Enters durable subscriptions, or what they want now. A new one begins with what is told from then on. One whose events change
-- starts afresh: the event that it failed with may be wanted no more, so the failure and its wait are cleared, and a process that
-- delivers by the earlier list loses the subscription, or it would end a delivery of an event that is not the next one.
-- p_subscriptions: [{name, events: [names]}]. Answers how many are new. Called by workers as they start.
-- Locks: the subscriptions, by name.

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
