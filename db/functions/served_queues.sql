-- Which queues are meant? The given ones; with '*' among them, every queue that has a ready step, found by
-- skipping from queue to queue along the index. Called by claim_steps and finish_steps.

create function tasker_core_v1.served_queues(p_queues text[]) returns text[]
language plpgsql stable as $$
begin
  if not '*' = any(p_queues) then
    return p_queues;
  end if;

  return array(
    with recursive present as (
      (select queue from tasker_ready_steps order by queue limit 1)
      union all
      select following.queue
      from present
      cross join lateral (
        select queue from tasker_ready_steps where queue > present.queue order by queue limit 1
      ) as following
    )
    select queue from present);
end
$$;
