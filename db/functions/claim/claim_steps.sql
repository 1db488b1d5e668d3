-- Takes up to p_limit ready steps of the queues for a process, in (priority, seq) order, and answers as insert_claims does,
-- with payloads of up to p_inline_bytes for each claim. '{*}' means every queue. Called by workers with free slots.
--
-- Locks: ready rows, `for update skip locked`, so that concurrent claims neither wait nor take a step twice. A locked
-- row's ctid cannot change.
-- Indexes: for every queue (priority, seq), which is in the right order already; for named ones (queue, priority, seq):
-- with several, a look without locks decides how many rows each queue gives, and each queue's share is locked in its own
-- order. What others have locked since the look, or had before it, is made up for from any of the queues: a batch is
-- full if enough is free.
--
-- A claim that finds nothing marks the process as idle, which makes others wake it; a full one takes the mark
-- away. A process that has just become idle claims once more before it waits, as a step may have become ready
-- while nobody knew.
--
-- p_sets_aside: for a worker that could not claim one step alone, as something of it is damaged. Claims have no payloads, and
-- a step that cannot be claimed even so is set aside (insert_readable_claims).

create function tasker_core_v1.claim_steps(
  p_process bigint,
  p_queues text[],
  p_limit integer,
  p_inline_bytes integer default null,
  p_sets_aside boolean default false
) returns json
language plpgsql as $$
declare
  v_heads record := tasker_core_v1.ready_scan_starts(p_queues);
  v_locked tid[];
  v_seen integer;
  v_tasks bigint[];
  v_positions integer[];
  v_ready_at timestamptz[];
begin
  if '*' = any(p_queues) then
    v_locked := array(
      select r.ctid
      from (
        select *
        from unnest(v_heads.priorities, v_heads.seqs, v_heads.next_priorities) as h(priority, seq, next_priority)
        order by priority, seq
      ) as head
      cross join lateral (
        select ctid
        from tasker_ready_steps
        where (priority, seq) >= (head.priority, head.seq)
          and priority < coalesce(head.next_priority::bigint, 2147483648)
        order by priority, seq
        limit p_limit
        for update skip locked
      ) as r
      limit p_limit);
  else
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
    )
    select array(select ctid from locked), (select sum(size) from share) into v_locked, v_seen;

    if v_seen >= p_limit and cardinality(v_locked) < p_limit then
      v_locked := v_locked || array(
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
            and not ctid = any(v_locked)
          order by priority, seq
          limit p_limit
          for update skip locked
        ) as r
        limit p_limit - cardinality(v_locked));
    end if;
  end if;

  if v_locked = '{}' then
    update tasker_processes set idle = true where id = p_process and not idle;
    return case when p_inline_bytes is null then '[]'::json else '{"versions":{},"claims":[]}' end;
  end if;

  with taken as (
    delete from tasker_ready_steps
    where ctid = any(v_locked)
    returning priority, seq, task_id, position, ready_at
  )
  select
    array_agg(task_id order by priority, seq),
    array_agg(position order by priority, seq),
    array_agg(ready_at order by priority, seq)
  into v_tasks, v_positions, v_ready_at
  from taken;

  if cardinality(v_tasks) >= p_limit then
    update tasker_processes set idle = false where id = p_process and idle;
  end if;

  if p_sets_aside then
    return tasker_core_v1.insert_readable_claims(p_process, v_tasks, v_positions, v_ready_at);
  end if;
  return tasker_core_v1.insert_claims(p_process, v_tasks, v_positions, v_ready_at, p_inline_bytes);
end
$$;
