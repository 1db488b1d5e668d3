-- Returns the queues with ready steps, in their order: how many steps are ready and when the oldest of them became
-- ready, among the p_cap most urgent for workers and the p_cap most urgent for jobs. With p_most only the first so many
-- of these halves are read. Skips from one to the next on the index, whatever the number of steps. Read by health,
-- metrics and the doctor.

create function tasker_core_v1.ready_queues(p_cap integer, p_most integer default null)
returns table (queue text, steps integer, oldest_at timestamptz)
language sql stable as $$
  with recursive half(queue, dispatched, number) as (
    (select queue, dispatched, 1 from tasker_ready_steps order by queue, dispatched limit 1)
    union all
    select next.queue, next.dispatched, half.number + 1
    from half
    cross join lateral (
      select queue, dispatched
      from tasker_ready_steps
      where (queue, dispatched) > (half.queue, half.dispatched)
      order by queue, dispatched
      limit 1
    ) as next
    where p_most is null or half.number < p_most
  )
  select half.queue, least(sum(head.steps), p_cap)::integer, min(head.oldest_at)
  from half
  cross join lateral (
    select count(*) as steps, min(ready_at) as oldest_at
    from (
      select ready_at
      from tasker_ready_steps r
      where r.queue = half.queue and r.dispatched = half.dispatched
      order by priority, seq
      limit p_cap
    ) as first
  ) as head
  where head.steps > 0
  group by half.queue
  order by half.queue;
$$;
