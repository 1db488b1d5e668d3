-- Gives a process the next events of a durable subscription, in their order, unless another process is at them that
-- sweep has not taken off the list, or a failure is not to be tried again yet.
-- Answers {events: [{id, uuid, name, correlation_id, occurred_at (seconds), payload}], wait_ms: until a failed one is due
-- again; else null, pending: whether there is something that may come as soon as other transactions have ended, known: false
-- when there is no such subscription (dropped, or the table was truncated): the worker enters it again}.
-- At most p_limit events, and together no longer than p_bytes, but one at least: so that the answer stays bounded. Without
-- p_payloads each payload is null and none is read, so that the worker can name an event that cannot be fetched.
--
-- The cursor passes a number only when no event below it can come any more, though transactions commit in another order
-- than they draw numbers. For that a mark is set: the last number drawn, and the id of this transaction, which it gets
-- after that. Who drew a number up to the mark had its id before (store_events), so a lower one; once all of those have
-- ended, what there is up to the mark is all there will be. A mark from before a restore, of a transaction that this server
-- has not come to yet, has nothing to wait for.
-- Where no event is left up to the mark, the one that failed has been removed (prune): its failure goes with it.
-- Called by workers, in a transaction of its own that has not written anything yet: else TC006.
-- Locks: the subscription, passed over if it is locked; then those of trim_outbox.

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
    perform tasker_core_v1.raise_error('TC006', 'fetch_events: must be called in a transaction of its own', '{}');
  end if;

  -- Without a lock, so that an idle look writes nothing.
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
  return json_build_object('events', coalesce(v_events, '[]'), 'to', v_to, 'wait_ms', null, 'pending', v_events is null);
end
$$;
