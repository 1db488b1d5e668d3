-- Ends lost attempts, removes dead processes and makes due steps ready, up to p_limit of each. Any process may run
-- it, and several at once.
-- 1. Claims past their deadline, or of no live process, end as lost attempts and follow the retry policy of their step.
--    A claim of a process that is not registered counts too: the process may have been paused while it was removed.
--    A claim whose job no process has started returns instead, and uses no attempt: one past its deadline, or one whose
--    dispatcher died before it had enqueued the job.
-- 2. Processes that were silent for longer than their heartbeat timeout and hold no claim are removed.
-- 3. Waiting steps that are due become ready. A step that was set aside is checked first (claim_error), and set aside
--    again while it cannot be claimed.
-- With a limit of 1, which workers use after sweeps have failed, every due step is checked, and a step whose lost
-- attempt cannot be ended is set aside (end_lost_attempts).
-- Nothing else takes anything from a process because of its silence.
--
-- A heartbeat further in the future than the timeout counts as silence too: the clock was set back after it.
-- p_may_declare_dead: false leaves out 1 and 2.
-- p_heartbeat_age: how long ago, by its own clock, the database received the sweeping process's last heartbeat. When
-- the database's clock disagrees, it has jumped, and 1 and 2 are left out: every process looks silent or late until
-- its next heartbeat. With null only the database's clock counts.
--
-- Returns {lost_attempts: how many; unstarted: how many jobs; set_aside: steps whose claim cannot be ended, [{task_id,
-- position, error}]; due_steps: how many; ready_queues; next_due_ms: until the next waiting step is due, or null;
-- attempts: the lost ones, [{task_id, task_uuid, namespace, workflow, version, step, attempt, max_attempts,
-- correlation_id, error, delay_ms: until the next attempt, or null}]; ended: tasks, as in advance_tasks; clock_jump}.
-- Locks: the rows that it takes, `for update skip locked`, then those of finish_steps.

create function tasker_core_v1.sweep(
  p_process bigint,
  p_limit integer,
  p_heartbeat_age interval default null,
  p_may_declare_dead boolean default true
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_first_claim bigint := tasker_core_v1.claim_scan_start();
  v_first_waiting timestamptz := tasker_core_v1.waiting_scan_start();
  v_clock_jump json := tasker_core_v1.clock_jump(p_process, p_heartbeat_age, v_now);
  v_judges boolean := p_may_declare_dead and v_clock_jump is null
    and (p_heartbeat_age is null or exists (select from tasker_processes where id = p_process));
  v_lost jsonb;
  v_unstarted bigint[];
  v_returned record;
  v_lost_count integer := 0;
  v_unstarted_count integer := 0;
  v_result record;
  v_attempts jsonb;
  v_finished json;
  v_set_aside jsonb := '[]';
  v_delays jsonb;
  v_due integer;
  v_due_tasks bigint[];
  v_due_positions integer[];
  v_errors jsonb[];
  v_ready_tasks bigint[];
  v_ready_positions integer[];
  v_queues text[] := '{}';
begin
  select jsonb_agg(jsonb_build_object(
      'token', c.token, 'task_id', c.task_id, 'position', c.position, 'attempt', c.attempt, 'outcome', 'lost',
      'error', jsonb_build_object(
        'class', 'TaskerCore::LostAttempt',
        'message', case
          when c.deadline <= v_now then format('the lease ended at %s', c.deadline)
          else format('process %s died', c.process_id)
        end)))
      filter (where not c.is_unstarted),
    array_agg(c.token) filter (where c.is_unstarted)
  into v_lost, v_unstarted
  from (
    select c.token, c.task_id, c.position, c.attempt, c.deadline, c.process_id,
      coalesce(c.dispatch in ('claimed', 'enqueued'), false) as is_unstarted
    from tasker_claimed_steps c
    where v_judges
      and c.token >= v_first_claim
      and (
        c.deadline <= v_now
        or c.dispatch is distinct from 'enqueued'
          and not exists (
            select from tasker_processes p
            where p.id = c.process_id
              and v_now - p.heartbeat_at < p.heartbeat_timeout
              and p.heartbeat_at - v_now < p.heartbeat_timeout))
    order by c.token
    limit p_limit
    for update of c skip locked
  ) as c;

  if v_lost is not null then
    v_result := tasker_core_v1.end_lost_attempts(v_lost, p_limit = 1);
    v_attempts := v_result.attempts;
    v_finished := v_result.finished;
    v_set_aside := v_result.set_aside;
    v_lost_count := jsonb_array_length(v_lost) - jsonb_array_length(v_set_aside);

    select jsonb_object_agg(retry->>'token', retry->'delay_ms') into v_delays
    from json_array_elements(v_finished->'retries') as retry;
  end if;

  if v_unstarted is not null then
    v_returned := tasker_core_v1.return_unstarted_claims(v_unstarted, p_limit = 1);
    v_set_aside := v_set_aside || v_returned.set_aside;
    v_unstarted_count := cardinality(v_unstarted) - jsonb_array_length(v_returned.set_aside);
    v_queues := v_returned.ready_queues;
  end if;

  perform tasker_core_v1.delete_processes(array(
    select id
    from tasker_processes p
    where v_judges
      and (v_now - p.heartbeat_at >= p.heartbeat_timeout or p.heartbeat_at - v_now >= p.heartbeat_timeout)
      and not exists (
        select from tasker_claimed_steps c where c.process_id = p.id and c.dispatch is distinct from 'enqueued')
    for update of p skip locked));
  perform tasker_core_v1.fold_counts();

  with due as (
    delete from tasker_waiting_steps w
    where w.ctid = any(array(
      select ctid
      from tasker_waiting_steps
      where run_at >= v_first_waiting and run_at <= v_now
      order by run_at
      limit p_limit
      for update skip locked))
    returning w.task_id, w.position, w.run_at, w.reason
  ), checked as materialized (
    select due.*,
      case when reason = 'unreadable' or p_limit = 1 then tasker_core_v1.claim_error(task_id, position) end as error
    from due
  )
  select
    count(*), array_agg(task_id), array_agg(position), array_agg(error),
    array_agg(task_id order by run_at, task_id, position) filter (where error is null),
    array_agg(position order by run_at, task_id, position) filter (where error is null)
  into v_due, v_due_tasks, v_due_positions, v_errors, v_ready_tasks, v_ready_positions
  from checked;

  v_queues := v_queues || tasker_core_v1.enqueue_steps(v_ready_tasks, v_ready_positions);
  perform tasker_core_v1.set_aside(v_due_tasks, v_due_positions, v_errors);

  return json_build_object(
    'lost_attempts', v_lost_count,
    'unstarted', v_unstarted_count,
    'set_aside', v_set_aside,
    'due_steps', v_due,
    'ready_queues', v_queues,
    'attempts', (
      select coalesce(jsonb_agg(lost || jsonb_build_object('delay_ms', v_delays->(lost->>'token'))), '[]')
      from jsonb_array_elements(v_attempts) as lost),
    'ended', coalesce(v_finished->'ended', '[]'),
    'next_due_ms', (
      select greatest(0, ceil(extract(epoch from run_at - v_now) * 1000))
      from tasker_waiting_steps
      where run_at >= v_first_waiting
      order by run_at
      limit 1),
    'clock_jump', v_clock_jump);
end
$$;
