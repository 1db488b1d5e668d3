-- Ends attempts: one statement and one commit for a whole batch of outcomes.
--
-- outcomes: [{token, task_id, position, attempt, outcome: completed | failed | lost, result, error, retryable,
--             retry_after (seconds), waited_us (claim to start), ran_us (start to end)}]; retry_after is a year at most
-- p_process: who ends them; null is sweep, which may end whatever claim it has judged
-- answers:  {stale: tokens of claims that p_process does not hold (any more), which change nothing;
--            retries: [{token, delay_ms}];
--            ready_queues: where steps were left for others; handed_over and claimed: claims for this process,
--            as in claim_steps; ended: as in advance_tasks}
--
-- Called by workers (with their free slots as p_claim_limit, and how many children they keep at most) and by sweep.
-- Locks, always in this order: claims by token, the ended steps by (task, position), then those of advance_tasks.
-- Joins are nested loops over sorted input: that keeps the order (db/README.md, "Plans").

create function tasker_core_v1.finish_steps(
  p_process bigint,
  p_outcomes jsonb,
  p_claim_limit integer,
  p_hand_over_limit integer default null,
  p_inline_bytes integer default null
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_tokens bigint[];
  v_retries json;
  v_wanted text[] := tasker_core_v1.subscribed_event_names();
  v_events jsonb;
  v_over_tasks bigint[];
  v_done_tasks bigint[];
  v_done_positions integer[];
  v_settled record;
begin
  -- 1. The claim is the right to finish, and all that names it has to agree (held_claims says why). What becomes of the step
  --    is decided here and nowhere else: complete, pending (another attempt at a time of its own), or error.
  --    The attempt is recorded as the process names it: if a claim could ever be ended by another's outcome, the step would
  --    be complete without a successful attempt, and audit would see it.
  with given as (
    select o.*
    from jsonb_to_recordset(p_outcomes) as o (
      token bigint, task_id bigint, position integer, attempt integer, outcome text, result jsonb, error jsonb,
      retryable boolean, retry_after float, waited_us bigint, ran_us bigint)
    order by o.token
  ), claim as (
    delete from tasker_claimed_steps c
    using given
    where c.token = any(array[given.token])
      and (p_process is null or c.process_id = p_process)
      and c.task_id = given.task_id
      and c.position = given.position
      and c.attempt = given.attempt
    returning c.*, given.task_id as given_task_id, given.position as given_position, given.attempt as given_attempt,
      given.outcome, given.result, given.error, given.retryable, given.retry_after, given.waited_us, given.ran_us
  ), attempt as (
    select c.*, d.max_attempts,
      case
        when c.outcome = 'completed' then 'complete'
        when coalesce(c.retryable, true) and c.attempt < d.max_attempts then 'pending'
        else 'error'
      end as state,
      case
        when c.retry_after is not null then make_interval(secs => least(greatest(c.retry_after, 0), 31536000))
        else tasker_core_v1.retry_delay(d.backoff, c.attempt, d.base_ms, d.factor, d.cap_ms, d.jitter)
      end as delay
    from claim c
    join tasker_tasks t on t.id = any(array[c.task_id])
    cross join lateral (
      select max_attempts, backoff, base_ms, factor, cap_ms, jitter
      from tasker_step_definitions
      where workflow_version_id = t.workflow_version_id and position = c.position
      limit 1
    ) as d
    order by c.task_id, c.position
  ), recorded as (
    insert into tasker_step_attempts (
      task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, finished_at, outcome, error)
    select
      given_task_id, given_position, given_attempt, token, process_id, ready_at, claimed_at,
      claimed_at + make_interval(secs => coalesce(waited_us, 0) / 1e6),
      coalesce(claimed_at + make_interval(secs => (waited_us + ran_us) / 1e6), v_now),
      outcome, error
    from attempt
  ), stepped as (
    update tasker_workflow_steps s
    set attempts = a.attempt, state = a.state, result = a.result, result_bytes = octet_length(a.result::text),
      last_error = a.error
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
    array_agg(position) filter (where state = 'complete'),
    jsonb_agg(jsonb_build_object(
      'task_id', task_id,
      'position', position,
      'name', event,
      'facts', jsonb_build_object('attempt', attempt, 'max_attempts', max_attempts)
        || case when ran_us is null then '{}' else jsonb_build_object('duration_ms', ran_us::float / 1000) end
        || case when state = 'complete' then '{}' else jsonb_build_object('error', jsonb_build_object(
          'class', error->'class', 'message', error->'message', 'code', error->'code')) end
        || case when state <> 'pending' then '{}' else jsonb_build_object(
          'delay_ms', ceil(extract(epoch from delay) * 1000)) end
    )) filter (where event = any(v_wanted))
  into v_tokens, v_retries, v_over_tasks, v_done_tasks, v_done_positions, v_events
  from attempt
  cross join lateral (
    select case state
      when 'complete' then 'step.completed'
      when 'pending' then 'step.retry_scheduled'
      else 'step.failed'
    end as event
  ) as told;

  -- 2. What follows from it.
  v_settled := tasker_core_v1.advance_tasks(
    p_process, v_over_tasks, v_done_tasks, v_done_positions, p_claim_limit, p_hand_over_limit,
    p_inline_bytes);

  -- 3. What is told of it.
  if v_wanted <> '{}' then
    perform tasker_core_v1.build_events(coalesce(v_events, '[]') || coalesce(v_settled.ended::jsonb, '[]'));
  end if;

  return json_build_object(
    'stale', array(
      select (o->>'token')::bigint
      from jsonb_array_elements(p_outcomes) as o
      where not (o->>'token')::bigint = any(coalesce(v_tokens, '{}'))),
    'retries', coalesce(v_retries, '[]'),
    'ready_queues', coalesce(v_settled.ready_queues, '{}'),
    'handed_over', v_settled.handed_over,
    'claimed', v_settled.claimed,
    'ended', coalesce(v_settled.ended, '[]'));
end
$$;
