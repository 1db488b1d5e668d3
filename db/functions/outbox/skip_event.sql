-- Skips the event at which a durable subscription has failed, so that delivery continues with the next one. Records
-- reason and operator with the event's task, if it has one. A process that is retrying the event can no longer
-- acknowledge it.
-- Returns {id, uuid, name, correlation_id, payload (null if it cannot be read)}, or null when prune has removed the
-- event.
-- Raises TC003 for an unknown subscription, TC004 for one that has not failed. Locks: the subscription.

create function tasker_core_v1.skip_event(p_name text, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_subscription record;
  v_event record;
  v_payload jsonb;
  v_task bigint;
begin
  select * into v_subscription from tasker_subscriptions where name = p_name for update;
  if not found then
    perform tasker_core_v1.raise_error('TC003', format('durable subscription %s does not exist', p_name),
      jsonb_build_object('subscription', p_name));
  elsif v_subscription.failures = 0 then
    perform tasker_core_v1.raise_error('TC004',
      format('subscription %s has not failed: only an event that has failed can be skipped', p_name),
      jsonb_build_object('subscription', p_name, 'failures', v_subscription.failures, 'action', 'skip_event'));
  end if;

  select id, uuid, name, correlation_id into v_event
  from tasker_outbox_events
  where id > v_subscription.cursor_id and name = any(v_subscription.events)
  order by id
  limit 1;
  begin
    -- As text: the payload is read here, not where it is returned.
    v_payload := (select payload::text from tasker_outbox_events where id = v_event.id);
    v_task := v_payload->>'task_id';
  exception
    when others then null; -- a damaged payload, or an application's event whose task_id is not a number
  end;

  update tasker_subscriptions
  set cursor_id = coalesce(v_event.id, cursor_id), process_id = null, failures = 0, retry_at = null, last_error = null
  where name = p_name;
  perform tasker_core_v1.record_event(v_task, null, 'skip_event', p_reason, p_by);
  return (
    select json_build_object('id', v_event.id, 'uuid', v_event.uuid, 'name', v_event.name,
      'correlation_id', v_event.correlation_id, 'payload', v_payload)
    where v_event.id is not null);
end
$$;
