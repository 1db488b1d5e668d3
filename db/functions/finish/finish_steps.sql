-- Records a batch of attempt outcomes in a single call and transaction. Called by workers and by sweep.
-- p_outcomes: [{token, task_id, position, attempt, outcome: completed | failed | lost, result, error, retryable (if
-- null, true), retry_after (seconds, at most a year), waited_us (claim to start), ran_us (start to end; null: to now)}]
-- p_process: the process holding the claims. Null means sweep, which may end any process's claims
-- p_claim_limit, p_hand_over_limit, p_inline_bytes: as in advance_tasks
-- Returns {stale: tokens with no matching claim held by p_process (by anyone, if null): these outcomes are ignored;
-- retries: [{token, delay_ms}]; plus ready_queues, handed_over, claimed and ended from advance_tasks}.
-- Of several outcomes for the same claim the first counts; the others are ignored, and are not stale.
-- Lock order: claims by token, steps by (task, position), then those of advance_tasks. It relies on the planner using
-- nested loops over sorted input; see db/README.md, "Plans".

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
  v_accepted_tokens bigint[];
  v_retries json;
  v_subscribed_events text[] := tasker_core_v1.subscribed_event_names();
  v_events jsonb;
  v_ended_step_tasks bigint[];
  v_completed_tasks bigint[];
  v_completed_positions integer[];
  v_attempts_completed bigint[];
  v_attempts_failed bigint[];
  v_attempts_lost bigint[];
  v_advanced record;
begin
  -- Only the claim's holder may finish the step: token, task, position and attempt must all match the claim. Attempt
  -- outcomes become step states only here. `recorded` stores the caller's values, not the claim's: if the match were
  -- ever loosened, audit would find a completed step with no successful attempt.
  with outcomes as (
    select distinct on (o.token, o.task_id, o.position, o.attempt) o.*
    from rows from (jsonb_to_recordset(p_outcomes) as (
      token bigint, task_id bigint, position integer, attempt integer, outcome text, result jsonb, error jsonb,
      retryable boolean, retry_after float, waited_us bigint, ran_us bigint)) with ordinality as o
    order by o.token, o.task_id, o.position, o.attempt, o.ordinality
  ), deleted_claims as (
    delete from tasker_claimed_steps c
    using outcomes o
    where c.token = any(array[o.token])
      and (p_process is null or c.process_id = p_process)
      and (c.task_id, c.position, c.attempt) = (o.task_id, o.position, o.attempt)
    returning c.*, o.task_id as given_task_id, o.position as given_position, o.attempt as given_attempt,
      o.outcome, o.result, o.error, o.retryable, o.retry_after, o.waited_us, o.ran_us
  ), decided as (
    select c.*, t.workflow_version_id, d.max_attempts,
      case
        when c.outcome = 'completed' then 'complete'
        when coalesce(c.retryable, true) and c.attempt < d.max_attempts then 'pending'
        else 'error'
      end as state,
      case
        when c.retry_after is not null then make_interval(secs => least(greatest(c.retry_after, 0), 31536000))
        else tasker_core_v1.retry_delay(d.backoff, c.attempt, d.base_ms, d.factor, d.cap_ms, d.jitter)
      end as retry_delay
    from deleted_claims c
    join tasker_tasks t on t.id = any(array[c.task_id])
    cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, c.position) as d
    order by c.task_id, c.position
  ), recorded as (
    insert into tasker_step_attempts (
      task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, finished_at, outcome, error)
    select given_task_id, given_position, given_attempt, token, process_id, ready_at, claimed_at,
      claimed_at + make_interval(secs => coalesce(waited_us, 0) / 1e6),
      coalesce(claimed_at + make_interval(secs => (waited_us + ran_us) / 1e6), v_now), outcome, error
    from decided
  ), updated_steps as (
    update tasker_workflow_steps s
    set attempts = d.attempt, state = d.state, result = d.result, result_bytes = octet_length(d.result::text),
      last_error = d.error
    from decided d
    where s.task_id = any(array[d.task_id]) and s.position = d.position
  ), waiting as (
    insert into tasker_waiting_steps (task_id, position, run_at, reason)
    select task_id, position, v_now + retry_delay, 'retry' from decided where state = 'pending'
  )
  select
    array_agg(token),
    json_agg(json_build_object('token', token, 'delay_ms', ceil(extract(epoch from retry_delay) * 1000)))
      filter (where state = 'pending'),
    array_agg(task_id) filter (where state <> 'pending'),
    array_agg(task_id) filter (where state = 'complete'),
    array_agg(position) filter (where state = 'complete'),
    array_agg(workflow_version_id) filter (where outcome = 'completed'),
    array_agg(workflow_version_id) filter (where outcome = 'failed'),
    array_agg(workflow_version_id) filter (where outcome = 'lost'),
    jsonb_agg(tasker_core_v1.step_event(name, task_id, position, attempt, max_attempts, ran_us, error, retry_delay))
      filter (where name = any(v_subscribed_events))
  into v_accepted_tokens, v_retries, v_ended_step_tasks, v_completed_tasks, v_completed_positions,
    v_attempts_completed, v_attempts_failed, v_attempts_lost, v_events
  from decided
  cross join lateral (select case state
    when 'complete' then 'step.completed' when 'pending' then 'step.retry_scheduled' else 'step.failed' end
  ) as event(name);

  v_advanced := tasker_core_v1.advance_tasks(
    p_process, v_ended_step_tasks, v_completed_tasks, v_completed_positions, p_claim_limit, p_hand_over_limit,
    p_inline_bytes, v_attempts_completed, v_attempts_failed, v_attempts_lost);

  if v_subscribed_events <> '{}' then
    perform tasker_core_v1.build_events(coalesce(v_events, '[]') || coalesce(v_advanced.ended::jsonb, '[]'));
  end if;

  return json_build_object(
    'stale', array(
      select (o->>'token')::bigint from jsonb_array_elements(p_outcomes) as o
      where not (o->>'token')::bigint = any(coalesce(v_accepted_tokens, '{}'))),
    'retries', coalesce(v_retries, '[]'),
    'ready_queues', coalesce(v_advanced.ready_queues, '{}'),
    'handed_over', v_advanced.handed_over,
    'claimed', v_advanced.claimed,
    'ended', coalesce(v_advanced.ended, '[]'));
end
$$;
