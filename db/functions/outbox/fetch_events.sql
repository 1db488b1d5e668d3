-- Returns the next events of a durable subscription to a process, in order, unless a process that is still registered
-- is delivering, or a retry is not due yet.
-- Returns {events: [{id, uuid, name, correlation_id, occurred_at (seconds), payload}], to: for ack_events, wait_ms:
-- until a retry is due, or null, pending: whether events may appear when other transactions end, known: false when
-- the subscription does not exist (it was dropped, or the table truncated) and the worker has to register it again}.
--
-- p_limit, p_bytes: limits of the number of events and of their payloads' total length; the first event always fits
-- p_payloads: false leaves out the payloads, and reads none, so that a worker can name an event that cannot be read
--
-- Transactions commit in another order than they draw numbers, so the cursor passes a number only when no event below
-- it can appear any more. For that a mark is set: the last number drawn, and then the id of this transaction, which
-- is assigned after that. Every transaction that drew a number up to the mark already had a lower id (store_events).
-- Once all of those have ended, no event below the mark can appear. A mark whose id is ahead of this server's is from
-- before a restore, and has nothing to wait for. When no event is left up to the mark, the failed one has been
-- removed (prune), and its failure is cleared.
--
-- Called by workers, in a transaction that has written nothing before (else raises TC006).
-- Locks: the subscription, unless it is locked; then those of trim_outbox.

create function tasker_core_v1.fetch_events(
  p_process bigint,
  p_name text,
  p_limit integer,
  p_payloads boolean default true,
  p_bytes integer default 4194304
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_last bigint := coalesce(pg_sequence_last_value('tasker_outbox_events_id_seq'::regclass), 0);
  v_subscription record;
  v_xid bigint;
  v_cursor bigint;
  v_to bigint;
  v_events json;
begin
  if pg_current_xact_id_if_assigned() is not null then
    perform tasker_core_v1.raise_error(
      'TC006', 'fetch_events must be called in a transaction that has written nothing', '{}');
  end if;

  -- Without a lock, so that an idle poll writes nothing.
  select * into v_subscription from tasker_subscriptions where name = p_name;
  if not found then
    return json_build_object('events', '[]'::json, 'pending', false, 'wait_ms', null, 'known', false);
  end if;

  if v_subscription.cursor_id >= v_last or v_subscription.retry_at > v_now then
    return json_build_object('events', '[]'::json, 'pending', false,
      'wait_ms', case
        when v_subscription.retry_at > v_now then ceil(extract(epoch from v_subscription.retry_at - v_now) * 1000)
      end);
  end if;

  select * into v_subscription
  from tasker_subscriptions s
  where s.name = p_name
    and (
      s.process_id is null
      or s.process_id = p_process
      or not exists (select from tasker_processes p where p.id = s.process_id))
  for update skip locked;
  if not found then
    return json_build_object('events', '[]'::json, 'pending', true, 'wait_ms', null);
  end if;

  v_cursor := v_subscription.cursor_id;
  v_xid := pg_current_xact_id()::text::bigint;
  if v_cursor >= v_subscription.mark_id then
    v_subscription.mark_id := v_last;
    v_subscription.mark_xid := v_xid;
  elsif v_subscription.mark_xid > v_xid or not tasker_core_v1.older_writer_exists(v_subscription.mark_xid) then
    select
      json_agg(json_build_object('id', id, 'uuid', uuid, 'name', name, 'correlation_id', correlation_id,
        'occurred_at', extract(epoch from occurred_at)::float, 'payload', payload) order by id) filter (where fits),
      case when count(*) < p_limit and bool_and(fits) then v_subscription.mark_id else max(id) filter (where fits) end
    into v_events, v_to
    from (
      select e.*,
        row_number() over in_order = 1 or coalesce(sum(octet_length(payload::text)) over in_order, 0) <= p_bytes as fits
      from (
        select id, uuid, name, correlation_id, occurred_at, case when p_payloads then payload end as payload
        from tasker_outbox_events
        where id > v_cursor and id <= v_subscription.mark_id and name = any(v_subscription.events)
        order by id
        limit p_limit
      ) as e
      window in_order as (order by id)
    ) as e;
    if v_events is null then
      v_cursor := v_subscription.mark_id;
      v_subscription.failures := 0;
      v_subscription.retry_at := null;
      v_subscription.last_error := null;
    end if;
  end if;

  update tasker_subscriptions
  set cursor_id = v_cursor,
    mark_id = v_subscription.mark_id,
    mark_xid = v_subscription.mark_xid,
    failures = v_subscription.failures,
    retry_at = v_subscription.retry_at,
    last_error = v_subscription.last_error,
    process_id = case when v_events is not null then p_process end
  where name = p_name;

  perform tasker_core_v1.trim_outbox(p_name);
  return json_build_object(
    'events', coalesce(v_events, '[]'), 'to', v_to, 'wait_ms', null, 'pending', v_events is null);
end
$$;
