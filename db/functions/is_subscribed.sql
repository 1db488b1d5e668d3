-- Whether there is any durable subscription. Asked once for a batch, so that without one nothing is described.

create function tasker_core_v1.is_subscribed() returns boolean
language sql stable as $$
  select exists (select from tasker_subscriptions);
$$;
