-- Passes over the event that a durable subscription fails at, so that it goes on with the next one. Who and why are
-- recorded with the event's task, if it has one. A process that tries it again just now can end that no more.
-- Answers the event: {id, uuid, name, correlation_id, payload}, or null where the event has been removed meanwhile (prune).
-- One that has not failed is refused: TC004; an unknown subscription: TC003.
-- Locks: the subscription.

create function tasker_core_v1.skip_event(p_name text, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_subscription record;
  v_event record;
begin
  select * into v_subscription from tasker_subscriptions where name = p_name for update;
  if not found then
    perform tasker_core_v1.refuse('TC003', format('there is no durable subscription %s', p_name),
      jsonb_build_object('subscription', p_name));
  elsif v_subscription.failures = 0 then
    perform tasker_core_v1.refuse('TC004',
      format('subscription %s has not failed: only an event that has failed can be skipped', p_name),
      jsonb_build_object('subscription', p_name, 'failures', v_subscription.failures, 'verb', 'skip_event'));
  end if;

  select id, uuid, name, correlation_id, payload into v_event
  from tasker_outbox_events
  where id > v_subscription.cursor_id and name = any(v_subscription.events)
  order by id
  limit 1;

  update tasker_subscriptions
  set cursor_id = coalesce(v_event.id, cursor_id), process_id = null, failures = 0, retry_at = null, last_error = null
  where name = p_name;
  perform tasker_core_v1.record_event((v_event.payload->>'task_id')::bigint, null, 'skip_event', p_reason, p_by);
  return case when v_event.id is not null then row_to_json(v_event) end;
end
$$;
