-- Takes up to p_limit ready steps of the queues for a process, in (priority, seq) order, and answers with all
-- that their handlers need. '{*}' means every queue. Called by workers with free slots.
--
-- Locks: ready rows, `for update skip locked`, so that concurrent claims neither wait nor take a step twice.
-- Index: (queue, priority, seq). With several queues, a look without locks decides how many rows each queue
-- gives; then each queue's share is locked in its own order. A locked row's ctid cannot change. What others have
-- locked since the look, or had before it, is made up for from any of the queues: a batch is full if enough is free.
--
-- A claim that finds nothing marks the process as idle, which makes others wake it; a full one takes the mark
-- away. A process that has just become idle claims once more before it waits, as a step may have become ready
-- while nobody knew.

create function tasker_core_v1.claim_steps(p_process bigint, p_queues text[], p_limit integer) returns json
language plpgsql as $$
declare
  v_heads record := tasker_core_v1.ready_heads(p_queues);
  v_tasks bigint[];
  v_positions integer[];
  v_ready_at timestamptz[];
  v_seen integer;
begin
  with head as (
    select *
    from unnest(v_heads.queues, v_heads.priorities, v_heads.seqs, v_heads.next_priorities)
      with ordinality as h(queue, priority, seq, next_priority, number)
    order by priority, seq
    limit p_limit
  ), share as (
    select first.number, count(*) as size
    from (
      select head.number
      from head
      cross join lateral (
        select priority, seq
        from tasker_ready_steps
        where queue = head.queue
          and (priority, seq) >= (head.priority, head.seq)
          and priority < coalesce(head.next_priority::bigint, 2147483648)
        order by priority, seq
        limit p_limit
      ) as r
      order by r.priority, r.seq
      limit p_limit
    ) as first
    group by first.number
  ), locked as materialized (
    select r.ctid
    from share
    join head using (number)
    cross join lateral (
      select ctid
      from tasker_ready_steps
      where queue = head.queue
        and (priority, seq) >= (head.priority, head.seq)
        and priority < coalesce(head.next_priority::bigint, 2147483648)
      order by priority, seq
      limit share.size
      for update skip locked
    ) as r
  ), taken as (
    delete from tasker_ready_steps r
    where r.ctid = any(array(select ctid from locked))
    returning r.priority, r.seq, r.task_id, r.position, r.ready_at
  )
  select
    array_agg(task_id order by priority, seq),
    array_agg(position order by priority, seq),
    array_agg(ready_at order by priority, seq),
    (select sum(size) from share)
  into v_tasks, v_positions, v_ready_at, v_seen
  from taken;

  if v_seen >= p_limit and coalesce(cardinality(v_tasks), 0) < p_limit then
    with locked as materialized (
      select r.ctid
      from (
        select *
        from unnest(v_heads.queues, v_heads.priorities, v_heads.seqs, v_heads.next_priorities)
          as h(queue, priority, seq, next_priority)
        order by priority, seq
      ) as head
      cross join lateral (
        select ctid
        from tasker_ready_steps
        where queue = head.queue
          and (priority, seq) >= (head.priority, head.seq)
          and priority < coalesce(head.next_priority::bigint, 2147483648)
        order by priority, seq
        limit p_limit
        for update skip locked
      ) as r
      limit p_limit - coalesce(cardinality(v_tasks), 0)
    ), taken as (
      delete from tasker_ready_steps r
      where r.ctid = any(array(select ctid from locked))
      returning r.priority, r.seq, r.task_id, r.position, r.ready_at
    )
    select
      v_tasks || array_agg(task_id order by priority, seq),
      v_positions || array_agg(position order by priority, seq),
      v_ready_at || array_agg(ready_at order by priority, seq)
    into v_tasks, v_positions, v_ready_at
    from taken;
  end if;

  if v_tasks is null then
    update tasker_processes set idle = true where id = p_process and not idle;
    return '[]';
  end if;

  if cardinality(v_tasks) >= p_limit then
    update tasker_processes set idle = false where id = p_process and idle;
  end if;

  return tasker_core_v1.open_claims(p_process, v_tasks, v_positions, v_ready_at);
end
$$;
