-- Returns where scans for ready steps of the queues begin ('{*}': of every queue), of those for workers or of those for
-- dispatchers (p_dispatched): for each stretch of the index, the most urgent first, its first ready row (queues,
-- priorities, seqs) and the priority at which the next stretch begins (next_priorities, or null). Called by
-- claim_steps, lock_queued_steps, and advance_tasks.
--
-- Without marks each named queue is one stretch, and so is '*'. The marks of earlier scans (save_scan_mark) divide it:
-- [{queue, priority, seq}], one for each queue and priority found. No row up to seq was ready there.
--
-- Indexes: (queue, dispatched, priority, seq) for named queues, (dispatched, priority, seq) for '*'; one descent for
-- each stretch.

create function tasker_core_v1.ready_scan_starts(
  p_queues text[],
  p_dispatched boolean,
  out queues text[],
  out priorities integer[],
  out seqs bigint[],
  out next_priorities integer[]
) language plpgsql as $$
declare
  v_began timestamptz := clock_timestamp();
  v_last_seq bigint;
  -- Dispatchers and workers scan different rows, so they have marks of their own.
  v_scanned regclass := case
    when p_dispatched then 'tasker_ready_steps_by_priority'::regclass else 'tasker_ready_steps'::regclass end;
  v_before jsonb := tasker_core_v1.scan_mark(v_scanned);
  v_marks jsonb := coalesce(v_before, '[]');
  v_queues text[] := case when '*' = any(p_queues) then '{*}' else p_queues end;
begin
  if v_before is null and v_queues = '{*}' then
    -- The usual case: the general statement takes more than twice as long.
    select '{*}', array[priority], array[seq], '{null}', jsonb_build_array(
      jsonb_build_object('queue', '*', 'priority', priority, 'seq', seq - 1))
    into queues, priorities, seqs, next_priorities, v_marks
    from tasker_ready_steps
    where dispatched = p_dispatched
    order by priority, seq
    limit 1;

    perform tasker_core_v1.save_scan_mark(v_scanned, null, coalesce(v_marks, '[]'), v_began, '2 ms');
    return;
  end if;

  v_last_seq := pg_sequence_last_value('tasker_ready_steps_seq_seq');
  with stretch as (
    select queue, priority, seq, lead(priority) over (partition by queue order by priority nulls first) as next_priority
    from (
      select distinct served.queue, null::integer as priority, null::bigint as seq
      from unnest(v_queues) as served(queue)
      union all
      select m.queue, m.priority, m.seq
      from jsonb_to_recordset(v_marks) as m(queue text, priority integer, seq bigint)
      where m.queue = any(v_queues)
    ) as beginning
  ), head as (
    select s.queue, s.priority as begun_at, s.next_priority, first.priority, first.seq
    from stretch s
    left join lateral (
      (
        select r.priority, r.seq
        from tasker_ready_steps r
        where r.queue = s.queue
          and r.dispatched = p_dispatched
          and (r.priority, r.seq) > (coalesce(s.priority, -2147483648), coalesce(s.seq, -1))
          and r.priority < coalesce(s.next_priority::bigint, 2147483648)
        order by r.priority, r.seq
        limit 1
      )
      union all
      (
        select r.priority, r.seq
        from tasker_ready_steps r
        where s.queue = '*'
          and r.dispatched = p_dispatched
          and (r.priority, r.seq) > (coalesce(s.priority, -2147483648), coalesce(s.seq, -1))
          and r.priority < coalesce(s.next_priority::bigint, 2147483648)
        order by r.priority, r.seq
        limit 1
      )
    ) as first on true
  ), mark as (
    select queue, priority, seq - 1 as seq
    from head
    where seq is not null
    union all
    select queue, begun_at, v_last_seq
    from head
    where begun_at is not null and priority is distinct from begun_at
  )
  select
    array_agg(queue) filter (where seq is not null),
    array_agg(priority) filter (where seq is not null),
    array_agg(seq) filter (where seq is not null),
    array_agg(next_priority) filter (where seq is not null),
    (select coalesce(jsonb_agg(mark), '[]') from (select * from mark order by seq desc limit 1000) as mark)
  into queues, priorities, seqs, next_priorities, v_marks
  from (select * from head order by priority, seq) as head;

  perform tasker_core_v1.save_scan_mark(v_scanned, v_before, v_marks, v_began,
    interval '2 ms' + interval '20 us' * coalesce(cardinality(queues), 0));
end
$$;
