-- Claims up to p_limit ready steps of the queues ('{*}': every queue) for a process: the smallest priority (the task's
-- plus the step's) first, then the smallest seq. Same result as insert_claims; each claim includes at most
-- p_inline_bytes of payload. Raises TC005 for an unknown process, but only if a step is ready. Called by workers with
-- free slots, and by advance_tasks.
-- Locks: ready rows, `for update skip locked`: concurrent claims neither wait nor take a step twice. Deleting by ctid
-- is safe because a locked row cannot be updated or moved. Scanning all queues uses the index on (dispatched, priority,
-- seq); named queues go through lock_queued_steps.
-- An empty claim marks the process idle, so that enqueuers notify it. The caller must claim once more before it sleeps:
-- a step enqueued before the mark was visible sent no notification. A full claim (p_limit steps) clears the mark.
-- p_start_timeout: null for a worker. A dispatcher claims the other steps, those that the application's job queue runs:
-- see insert_claims. dispatch_steps marks dispatchers.
-- p_set_aside_damaged: set it after claiming a single step failed on damaged data. Returned claims omit payloads,
-- whatever p_inline_bytes is; steps that still fail are set aside. The result is that of insert_readable_claims.

create function tasker_core_v1.claim_steps(
  p_process bigint,
  p_queues text[],
  p_limit integer,
  p_inline_bytes integer default null,
  p_set_aside_damaged boolean default false,
  p_start_timeout interval default null
) returns json
language plpgsql as $$
declare
  v_dispatched boolean := p_start_timeout is not null;
  v_starts record;
  v_locked_ctids tid[];
  v_tasks bigint[];
  v_positions integer[];
  v_ready_at timestamptz[];
begin
  if '*' = any(p_queues) then
    -- The stretches of the index come in its order. 2147483648: above every priority, if none follows.
    v_starts := tasker_core_v1.ready_scan_starts(p_queues, v_dispatched);
    v_locked_ctids := array(
      select r.ctid
      from unnest(v_starts.priorities, v_starts.seqs, v_starts.next_priorities) as start(priority, seq, next_priority)
      cross join lateral (
        select ctid from tasker_ready_steps
        where dispatched = v_dispatched
          and (priority, seq) >= (start.priority, start.seq)
          and priority < coalesce(start.next_priority::bigint, 2147483648)
        order by priority, seq
        limit p_limit
        for update skip locked
      ) as r
      limit p_limit);
  else
    v_locked_ctids := tasker_core_v1.lock_queued_steps(p_queues, p_limit, v_dispatched);
  end if;

  if v_locked_ctids = '{}' then
    update tasker_processes set idle = true where id = p_process and not idle and not v_dispatched;
    return case
      when p_set_aside_damaged then '{"versions":{},"claims":[],"set_aside":[]}'::json
      when p_inline_bytes is null then '[]'
      else '{"versions":{},"claims":[]}'
    end;
  end if;

  with taken as (
    delete from tasker_ready_steps where ctid = any(v_locked_ctids)
    returning priority, seq, task_id, position, ready_at
  )
  select array_agg(task_id), array_agg(position), array_agg(ready_at)
  into v_tasks, v_positions, v_ready_at
  from (select * from taken order by priority, seq) as taken;

  if cardinality(v_tasks) >= p_limit then
    update tasker_processes set idle = false where id = p_process and idle and not v_dispatched;
  end if;

  if p_set_aside_damaged then
    return tasker_core_v1.insert_readable_claims(p_process, v_tasks, v_positions, v_ready_at, p_start_timeout);
  end if;
  return tasker_core_v1.insert_claims(
    p_process, v_tasks, v_positions, v_ready_at, p_inline_bytes, case when v_dispatched then 'claimed' end,
    p_start_timeout);
end
$$;
