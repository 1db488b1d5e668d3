-- Returns the names of the events that durable subscriptions want. Called once for a batch of changes, so that no other
-- events are built. In PL/pgSQL, which keeps the plan: a function in SQL would be planned at each call.

create function tasker_core_v1.subscribed_event_names() returns text[]
language plpgsql stable as $$
begin
  return (
    select coalesce(array_agg(distinct wanted.name), '{}')
    from tasker_subscriptions s
    cross join lateral unnest(s.events) as wanted(name));
end
$$;
