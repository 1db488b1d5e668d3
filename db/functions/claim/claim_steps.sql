-- Claims up to p_limit ready steps of the queues for a process, in (priority, seq) order. '{*}' means every queue.
-- Returns what insert_claims does, with payloads of up to p_inline_bytes for each claim.
-- Called by workers with free slots.
--
-- Locks: ready rows, `for update skip locked`, so that concurrent claims neither wait nor take a step twice. A locked
-- row's ctid cannot change. Index for every queue: (priority, seq); lock_queued_steps locks steps of named queues.
--
-- A claim that finds nothing marks the process as idle, so that others wake it; a full one removes the mark. A process
-- that has just become idle claims once more before it waits, as a step may have become ready before the mark.
--
-- p_sets_aside: for a worker that failed to claim a single step because its stored data is damaged. Claims then carry
-- no payloads, and a step that still cannot be claimed is set aside (insert_readable_claims).

create function tasker_core_v1.claim_steps(
  p_process bigint,
  p_queues text[],
  p_limit integer,
  p_inline_bytes integer default null,
  p_sets_aside boolean default false
) returns json
language plpgsql as $$
declare
  v_starts record;
  v_locked tid[];
  v_tasks bigint[];
  v_positions integer[];
  v_ready_at timestamptz[];
begin
  if '*' = any(p_queues) then
    v_starts := tasker_core_v1.ready_scan_starts(p_queues);
    v_locked := array(
      select r.ctid
      from unnest(v_starts.priorities, v_starts.seqs, v_starts.next_priorities) as start(priority, seq, next_priority)
      cross join lateral (
        select ctid
        from tasker_ready_steps
        where (priority, seq) >= (start.priority, start.seq)
          and priority < coalesce(start.next_priority::bigint, 2147483648)
        order by priority, seq
        limit p_limit
        for update skip locked
      ) as r
      limit p_limit);
  else
    v_locked := tasker_core_v1.lock_queued_steps(p_queues, p_limit);
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
