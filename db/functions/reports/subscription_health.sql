-- Returns the backlog of each durable subscription (p_cap events are counted at most), the age of its oldest event, the
-- process that is delivering, and the error of the next event. Read by operators.

create function tasker_core_v1.subscription_health(p_cap integer default 10000)
returns table (
  name text,
  events text[],
  waiting integer,
  oldest_seconds float,
  failures integer,
  retry_at timestamptz,
  last_error jsonb,
  process_id bigint,
  delivered_at timestamptz
)
language sql stable as $$
  select s.name, s.events, outbox.waiting, extract(epoch from tasker_core_v1.current_time() - outbox.oldest)::float,
    s.failures, s.retry_at, s.last_error, s.process_id, s.delivered_at
  from tasker_subscriptions s
  cross join lateral (
    select count(*)::integer as waiting, min(occurred_at) as oldest
    from (
      select e.occurred_at
      from tasker_outbox_events e
      where e.id > s.cursor_id and e.name = any(s.events)
      order by e.id
      limit p_cap
    ) as sampled
  ) as outbox
  order by s.name;
$$;
