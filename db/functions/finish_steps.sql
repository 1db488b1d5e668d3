-- Ends attempts: one statement and one commit for a whole batch of outcomes.
--
-- outcomes: [{token, outcome: completed | failed | lost, result, error, retryable, retry_after (seconds),
--             waited_us (claim to start), ran_us (start to end)}]
-- answers:  {stale: tokens that are not claimed (any more), which change nothing; retries: [{token, delay_ms}];
--            ready_queues: where steps were left for others; handed_over and claimed: claims for this process,
--            as in claim_steps; ended: [{task_id, uuid, state}]}
--
-- Called by workers (with their free slots as p_claim_limit) and by sweep.
-- Locks, always in this order: claims by token, the ended steps and their children by (task, position), tasks
-- by id. Joins are nested loops over sorted input: that keeps the order (db/README.md, "Plans").

create function tasker_core_v1.finish_steps(p_process bigint, p_outcomes jsonb, p_claim_limit integer)
returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_queues text[];
  v_urgent integer;
  v_tokens bigint[];
  v_retries json;
  v_over_tasks bigint[];
  v_done_tasks bigint[];
  v_done_positions integer[];
  v_ready_tasks bigint[];
  v_ready_queues text[];
  v_kept_tasks bigint[];
  v_kept_positions integer[];
  v_free integer := p_claim_limit;
  v_handed_over json := '[]';
  v_claimed json := '[]';
  v_ended json;
begin
  -- 1. The claim is the right to finish. What becomes of the step is decided here and nowhere else: complete,
  --    pending (another attempt at a time of its own), or error.
  with given as (
    select o.*
    from jsonb_to_recordset(p_outcomes) as o (
      token bigint, outcome text, result jsonb, error jsonb, retryable boolean, retry_after float,
      waited_us bigint, ran_us bigint)
    order by o.token
  ), claim as (
    delete from tasker_claimed_steps c
    using given
    where c.token = any(array[given.token])
    returning c.*, given.outcome, given.result, given.error, given.retryable, given.retry_after,
      given.waited_us, given.ran_us
  ), attempt as (
    select c.*,
      case
        when c.outcome = 'completed' then 'complete'
        when coalesce(c.retryable, true) and c.attempt < d.max_attempts then 'pending'
        else 'error'
      end as state,
      case
        when c.retry_after is not null then make_interval(secs => greatest(c.retry_after, 0))
        else tasker_core_v1.retry_delay(d.backoff, c.attempt, d.base_ms, d.factor, d.cap_ms, d.jitter)
      end as delay
    from claim c
    join tasker_tasks t on t.id = any(array[c.task_id])
    join tasker_step_definitions d
      on d.workflow_version_id = any(array[t.workflow_version_id]) and d.position = c.position
    order by c.task_id, c.position
  ), recorded as (
    insert into tasker_step_attempts (
      task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, finished_at, outcome, error)
    select
      task_id, position, attempt, token, process_id, ready_at, claimed_at,
      claimed_at + make_interval(secs => coalesce(waited_us, 0) / 1e6),
      coalesce(claimed_at + make_interval(secs => (waited_us + ran_us) / 1e6), v_now),
      outcome, error
    from attempt
  ), stepped as (
    update tasker_workflow_steps s
    set attempts = a.attempt, state = a.state, result = a.result, last_error = a.error
    from attempt a
    where s.task_id = any(array[a.task_id])
      and s.position = a.position
  ), waiting as (
    insert into tasker_waiting_steps (task_id, position, run_at, reason)
    select task_id, position, v_now + delay, 'retry'
    from attempt
    where state = 'pending'
  )
  select
    array_agg(token),
    json_agg(json_build_object('token', token, 'delay_ms', ceil(extract(epoch from delay) * 1000)))
      filter (where state = 'pending'),
    array_agg(task_id) filter (where state <> 'pending'),
    array_agg(task_id) filter (where state = 'complete'),
    array_agg(position) filter (where state = 'complete')
  into v_tokens, v_retries, v_over_tasks, v_done_tasks, v_done_positions
  from attempt;

  -- 2. Hand over: this process keeps what it has slots for, unless something more urgent waits.
  if p_claim_limit > 0 then
    select queues into v_queues from tasker_processes where id = p_process;

    select min(head.priority) into v_urgent
    from unnest(tasker_core_v1.served_queues(v_queues)) as served(queue)
    cross join lateral (
      select priority from tasker_ready_steps where queue = served.queue order by priority, seq limit 1
    ) as head;
  end if;

  -- 3. Children lose as many unmet parents as ended here; those without any become ready.
  with met as (
    select done.task_id, child.position, t.workflow_version_id, t.priority, count(*) as parents
    from unnest(v_done_tasks, v_done_positions) as done(task_id, position)
    join tasker_tasks t on t.id = any(array[done.task_id])
    join tasker_step_definitions d
      on d.workflow_version_id = any(array[t.workflow_version_id]) and d.position = done.position
    cross join lateral unnest(d.dependents) as child(position)
    group by done.task_id, child.position, t.workflow_version_id, t.priority
    order by done.task_id, child.position
  ), released as (
    update tasker_workflow_steps s
    set unmet = s.unmet - met.parents
    from met
    where s.task_id = any(array[met.task_id])
      and s.position = met.position
      and s.state = 'pending'
    returning s.task_id, s.position, s.unmet, met.workflow_version_id, met.priority
  ), ready as (
    select r.task_id, r.position, d.queue, r.priority + d.priority as priority,
      coalesce(v_queues && array[d.queue, '*'] and r.priority + d.priority <= coalesce(v_urgent, 2147483647), false)
        as ours
    from released r
    join tasker_step_definitions d
      on d.workflow_version_id = any(array[r.workflow_version_id]) and d.position = r.position
    where r.unmet = 0
  ), placed as (
    select ready.*,
      ours and row_number() over (partition by ours order by priority, task_id, position) <= p_claim_limit as kept
    from ready
  ), left_for_all as (
    insert into tasker_ready_steps (queue, priority, task_id, position, ready_at)
    select queue, priority, task_id, position, v_now
    from placed
    where not kept
    order by priority, task_id, position
  )
  select
    array_agg(task_id),
    array_agg(distinct queue) filter (where not kept),
    array_agg(task_id order by priority, task_id, position) filter (where kept),
    array_agg(position order by priority, task_id, position) filter (where kept)
  into v_ready_tasks, v_ready_queues, v_kept_tasks, v_kept_positions
  from placed;

  if v_kept_tasks is not null then
    v_free := v_free - cardinality(v_kept_tasks);
    v_handed_over := tasker_core_v1.open_claims(
      p_process, v_kept_tasks, v_kept_positions, array_fill(v_now, array[cardinality(v_kept_tasks)]));
  end if;

  -- 4. What is still free is filled from what waits.
  if v_free > 0 then
    v_claimed := tasker_core_v1.claim_steps(p_process, v_queues, v_free);
  end if;

  -- 5. Finalize: a task in which nothing is active any more has ended, complete if nothing remains.
  with change as (
    select task_id, sum(active)::integer as active, sum(done)::integer as done
    from (
      select task_id, -1, 0 from unnest(v_over_tasks) as over(task_id)
      union all
      select task_id, 0, 1 from unnest(v_done_tasks) as done(task_id)
      union all
      select task_id, 1, 0 from unnest(v_ready_tasks) as ready(task_id)
    ) as one(task_id, active, done)
    group by task_id
    order by task_id
  ), task as (
    update tasker_tasks t
    set active = t.active + change.active,
      remaining = t.remaining - change.done,
      state = case
        when t.active + change.active > 0 then t.state
        when t.remaining - change.done = 0 then 'complete'
        else 'error'
      end,
      ended_at = case when t.active + change.active = 0 then v_now end
    from change
    where t.id = any(array[change.task_id])
    returning t.id, t.uuid, t.state, t.ended_at
  )
  select json_agg(json_build_object('task_id', id, 'uuid', uuid, 'state', state))
  into v_ended
  from task
  where ended_at is not null;

  return json_build_object(
    'stale', array(
      select (o->>'token')::bigint
      from jsonb_array_elements(p_outcomes) as o
      where not (o->>'token')::bigint = any(coalesce(v_tokens, '{}'))),
    'retries', coalesce(v_retries, '[]'),
    'ready_queues', coalesce(v_ready_queues, '{}'),
    'handed_over', v_handed_over,
    'claimed', v_claimed,
    'ended', coalesce(v_ended, '[]'));
end
$$;
