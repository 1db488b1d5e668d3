-- The names of the events that durable subscriptions want. Asked once for a batch, so that nothing else is described.

create function tasker_core_v1.subscribed_event_names() returns text[]
language sql stable as $$
  select coalesce(array_agg(distinct wanted.name), '{}') from tasker_subscriptions s cross join lateral unnest(s.events) as wanted(name);
$$;
