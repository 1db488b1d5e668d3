-- Ends attempts: one statement and one commit for a whole batch of outcomes. Called by workers and by sweep.
--
-- p_outcomes: [{token, task_id, position, attempt, outcome: completed | failed | lost, result, error, retryable,
-- retry_after (seconds, at most a year), waited_us (claim to start), ran_us (start to end)}]
-- p_process: the process that holds the claims; null for sweep, which may end any claim
-- p_claim_limit, p_hand_over_limit: as in advance_tasks
-- Returns {stale: tokens of claims that p_process does not hold, which change nothing; retries: [{token, delay_ms}];
-- and ready_queues, handed_over, claimed and ended as advance_tasks does}.
-- Locks, always in this order: claims by token, steps by (task, position), then those of advance_tasks. Nested loops
-- over sorted input keep the order (db/README.md, "Plans").

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
  v_ended_tasks bigint[];
  v_done_tasks bigint[];
  v_done_positions integer[];
  v_advanced record;
begin
  -- The claim gives the right to finish; all columns that name it must agree (held_claims). Only this statement decides
  -- the step's state: complete, pending (to be retried after a delay), or error. The attempt is recorded as the process
  -- names it: a step completed by another claim's outcome would have no successful attempt, and audit would find it.
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
      select max_attempts, backoff, base_ms, factor, cap_ms, jitter from tasker_step_definitions
      where workflow_version_id = t.workflow_version_id and position = c.position limit 1
    ) as d
    order by c.task_id, c.position
  ), recorded as (
    insert into tasker_step_attempts (
      task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, finished_at, outcome, error)
    select given_task_id, given_position, given_attempt, token, process_id, ready_at, claimed_at,
      claimed_at + make_interval(secs => coalesce(waited_us, 0) / 1e6),
      coalesce(claimed_at + make_interval(secs => (waited_us + ran_us) / 1e6), v_now), outcome, error
    from attempt
  ), stepped as (
    update tasker_workflow_steps s
    set attempts = a.attempt, state = a.state, result = a.result, result_bytes = octet_length(a.result::text),
      last_error = a.error
    from attempt a
    where s.task_id = any(array[a.task_id]) and s.position = a.position
  ), waiting as (
    insert into tasker_waiting_steps (task_id, position, run_at, reason)
    select task_id, position, v_now + delay, 'retry' from attempt where state = 'pending'
  )
  select
    array_agg(token),
    json_agg(json_build_object('token', token, 'delay_ms', ceil(extract(epoch from delay) * 1000)))
      filter (where state = 'pending'),
    array_agg(task_id) filter (where state <> 'pending'),
    array_agg(task_id) filter (where state = 'complete'),
    array_agg(position) filter (where state = 'complete'),
    jsonb_agg(tasker_core_v1.step_event(event.name, task_id, position, attempt, max_attempts, ran_us, error, delay))
      filter (where event.name = any(v_wanted))
  into v_tokens, v_retries, v_ended_tasks, v_done_tasks, v_done_positions, v_events
  from attempt
  cross join lateral (select case state
    when 'complete' then 'step.completed' when 'pending' then 'step.retry_scheduled' else 'step.failed' end
  ) as event(name);

  v_advanced := tasker_core_v1.advance_tasks(
    p_process, v_ended_tasks, v_done_tasks, v_done_positions, p_claim_limit, p_hand_over_limit, p_inline_bytes);

  if v_wanted <> '{}' then
    perform tasker_core_v1.build_events(coalesce(v_events, '[]') || coalesce(v_advanced.ended::jsonb, '[]'));
  end if;

  return json_build_object(
    'stale', array(
      select (o->>'token')::bigint
      from jsonb_array_elements(p_outcomes) as o
      where not (o->>'token')::bigint = any(coalesce(v_tokens, '{}'))),
    'retries', coalesce(v_retries, '[]'),
    'ready_queues', coalesce(v_advanced.ready_queues, '{}'),
    'handed_over', v_advanced.handed_over,
    'claimed', v_advanced.claimed,
    'ended', coalesce(v_advanced.ended, '[]'));
end
$$;
