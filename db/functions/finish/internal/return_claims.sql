-- Deletes claims and returns their steps without spending an attempt: to their queues at once (reasons shutdown,
-- interrupted, unstarted, unknown_claim, not_started, operator), or after a delay with the reason why the step waits
-- (unknown_handler, not_loaded, limited, not_enqueued) and its error, if one is given.
-- Returns {ready_queues}. Skips a token that is no longer claimed.
-- With p_begun, when the handlers may have started, records the attempts as released.
-- Called by release_steps, deregister_process, register_process, heartbeat, sweep and release_step, which have decided
-- that the claims may be taken from their processes. Locks: the claims by token.

create function tasker_core_v1.return_claims(
  p_tokens bigint[],
  p_delay interval,
  p_reason text,
  p_begun boolean default false,
  p_error jsonb default null
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_queues json;
begin
  with claim as (
    delete from tasker_claimed_steps c
    using (select unnest(p_tokens) as token order by 1) as given
    where c.token = any(array[given.token])
    returning c.*
  ), recorded as (
    insert into tasker_step_attempts (
      task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, finished_at, outcome, error)
    select task_id, position, attempt, token, process_id, ready_at, claimed_at,
      case when dispatch in ('claimed', 'enqueued') then v_now else claimed_at end, v_now, 'released',
      jsonb_build_object('class', 'TaskerCore::StoppedError', 'message',
        format(
          case p_reason
            when 'unknown_claim' then 'process %s did not know of its claim'
            when 'operator' then 'an operator released the step from process %s'
            when 'not_started' then 'no process started the job that process %s dispatched'
            else 'process %s released the step before it had ended'
          end, process_id))
    from claim
    where p_begun
  ), begun as materialized (
    select t.workflow_version_id
    from claim c
    join tasker_tasks t on t.id = any(array[c.task_id])
    where p_begun
  ), counted as (
    insert into tasker_counts (namespace, workflow, attempts_released)
    select v.namespace, v.name, n.attempts
    from (select workflow_version_id, count(*) as attempts from begun group by workflow_version_id) as n
    join tasker_workflow_versions v on v.id = any(array[n.workflow_version_id])
  ), delayed as (
    insert into tasker_waiting_steps (task_id, position, run_at, reason, error)
    select task_id, position, v_now + p_delay, p_reason, p_error
    from claim
    where p_delay > '0'
  ), ready as (
    -- Not by enqueue_steps: a statement of its own takes 5 % longer.
    insert into tasker_ready_steps (queue, priority, task_id, position, ready_at, dispatched)
    select d.queue, t.priority + d.priority, c.task_id, c.position, c.ready_at, d.dispatch is not null
    from claim c
    join tasker_tasks t on t.id = any(array[c.task_id])
    cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, c.position) as d
    where p_delay <= '0'
    order by c.token
    returning queue
  )
  select json_agg(distinct queue) into v_queues from ready;

  return json_build_object('ready_queues', coalesce(v_queues, '[]'));
end
$$;
