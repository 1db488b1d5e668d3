-- Locks up to p_limit ready steps of named queues, the most urgent first, and returns their ctids. Called by
-- claim_steps.
--
-- With several queues a scan without locks counts how many of the first p_limit steps are in each stretch of the index
-- (ready_scan_starts), so that no more rows are locked than are taken. The first pass locks these shares; the second
-- replaces steps that other sessions have locked by steps of any of the queues: a batch is full if enough are free.
-- Locks: ready rows, `for update skip locked`. Index: (queue, dispatched, priority, seq).

create function tasker_core_v1.lock_queued_steps(p_queues text[], p_limit integer, p_dispatched boolean)
returns tid[]
language plpgsql as $$
declare
  v_starts record := tasker_core_v1.ready_scan_starts(p_queues, p_dispatched);
  v_shares bigint[];
  v_locked tid[] := '{}';
begin
  if cardinality(v_starts.queues) > 1 then
    with first as (
      select start.number
      from unnest(v_starts.queues, v_starts.priorities, v_starts.seqs, v_starts.next_priorities)
        with ordinality as start(queue, priority, seq, next_priority, number)
      cross join lateral (
        select priority, seq
        from tasker_ready_steps
        where queue = start.queue
          and dispatched = p_dispatched
          and (priority, seq) >= (start.priority, start.seq)
          and priority < coalesce(start.next_priority::bigint, 2147483648)
        order by priority, seq
        limit p_limit
      ) as r
      where start.number <= p_limit
      order by r.priority, r.seq
      limit p_limit
    ), share as (
      select number, count(*) as size
      from first
      group by number
    )
    select case when sum(share.size) = p_limit then array_agg(coalesce(share.size, 0) order by number) end
    into v_shares
    from generate_series(1, cardinality(v_starts.queues)) as number
    left join share using (number);
  end if;

  loop
    v_locked := v_locked || array(
      select r.ctid
      from unnest(v_starts.queues, v_starts.priorities, v_starts.seqs, v_starts.next_priorities, v_shares)
        as start(queue, priority, seq, next_priority, share)
      cross join lateral (
        select ctid
        from tasker_ready_steps
        where queue = start.queue
          and dispatched = p_dispatched
          and (priority, seq) >= (start.priority, start.seq)
          and priority < coalesce(start.next_priority::bigint, 2147483648)
          and not ctid = any(v_locked)
        order by priority, seq
        limit coalesce(start.share, p_limit)
        for update skip locked
      ) as r
      limit p_limit - cardinality(v_locked));

    exit when v_shares is null or cardinality(v_locked) = p_limit;
    v_shares := null;
  end loop;
  return v_locked;
end
$$;
