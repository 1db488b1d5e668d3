-- Ends a delivery that fetch_events began: the events up to p_to are delivered, and with p_error the one after it has
-- failed and is retried after a delay. p_retry: {backoff, base_ms, factor, cap_ms, jitter}.
-- Returns {failures: of the event that failed, delay_ms}, both null without p_error.
-- Raises TC005 when the process has lost the subscription, or the transaction is not p_xid.
--
-- Called in the transaction in which the subscriber wrote, so that both commit or neither does. p_xid is the id that
-- it had at the beginning: a client may reconnect when its connection breaks, and earlier writes of the subscriber
-- are gone.
-- Locks: the subscription, then those of trim_outbox.

create function tasker_core_v1.ack_events(
  p_process bigint,
  p_name text,
  p_xid bigint,
  p_to bigint,
  p_error jsonb,
  p_retry jsonb
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_subscription record;
  v_failures integer;
  v_delay interval;
begin
  if p_xid <> pg_current_xact_id()::text::bigint then
    perform tasker_core_v1.raise_error('TC005',
      format('subscription %s: transaction %s, which delivered its events, was lost', p_name, p_xid),
      jsonb_build_object('subscription', p_name, 'transaction', p_xid));
  end if;

  select * into v_subscription
  from tasker_subscriptions
  where name = p_name and process_id = p_process
  for update;
  if not found then
    perform tasker_core_v1.raise_error('TC005',
      format('subscription %s: process %s no longer delivers its events', p_name, p_process),
      jsonb_build_object('subscription', p_name, 'process', p_process));
  end if;

  if p_error is not null then
    v_failures := 1 + case when p_to > v_subscription.cursor_id then 0 else v_subscription.failures end;
    v_delay := tasker_core_v1.retry_delay(p_retry->>'backoff', v_failures, (p_retry->>'base_ms')::integer,
      (p_retry->>'factor')::float, (p_retry->>'cap_ms')::integer, (p_retry->>'jitter')::float);
  end if;

  update tasker_subscriptions
  set cursor_id = greatest(cursor_id, p_to),
    process_id = null,
    failures = coalesce(v_failures, 0),
    retry_at = v_now + v_delay,
    last_error = p_error,
    delivered_at = case when p_to > cursor_id then v_now else delivered_at end
  where name = p_name;
  perform tasker_core_v1.trim_outbox(p_name);
  return json_build_object('failures', v_failures, 'delay_ms', ceil(extract(epoch from v_delay) * 1000));
end
$$;
