-- Applies the consequences of steps ending: makes children ready and ends tasks with no active step. Called for a whole
-- batch by finish_steps, and by functions that end a step for an operator. Sweep and operators pass p_process null.
-- p_ended_step_tasks: task id of each step that stopped being active; repeated once per step
-- p_done_tasks, p_done_positions: steps now complete or resolved, as parallel arrays; their children wait no longer
-- p_claim_limit: how many steps the process can start; p_hand_over_limit: of those, at most this many may be children
-- claimed directly (null: only p_claim_limit applies); p_inline_bytes: as in insert_claims
-- p_attempts_completed, p_attempts_failed, p_attempts_lost: the workflow version of each ended attempt, for the counters
-- Returns ready_queues: queues that received children for any process to claim; handed_over: claims on children given
-- straight to p_process; claimed: claims on other ready steps; both in claim_steps's format (null if not attempted);
-- ended: [{name: the event's name, task_id, uuid, state, correlation_id, namespace, workflow, version}].
-- Locks, after the caller's (see finish_steps): children by (task, position), tasks by id. See db/README.md, "Plans".

create function tasker_core_v1.advance_tasks(
  p_process bigint,
  p_ended_step_tasks bigint[],
  p_done_tasks bigint[],
  p_done_positions integer[],
  p_claim_limit integer,
  p_hand_over_limit integer,
  p_inline_bytes integer default null,
  p_attempts_completed bigint[] default null,
  p_attempts_failed bigint[] default null,
  p_attempts_lost bigint[] default null,
  out ready_queues text[],
  out handed_over json,
  out claimed json,
  out ended json
) language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_queues text[];
  v_best_ready_priority integer;
  v_ready_tasks bigint[];
  v_handed_over_tasks bigint[];
  v_handed_over_positions integer[];
  v_completed bigint[];
  v_failed bigint[];
  v_reopened bigint[];
begin
  -- Claim a child directly only if no ready step in these queues is more urgent (a tie goes to the child; 2147483647 if
  -- nothing is ready). A process declared dead has no queues, so gets none.
  if p_claim_limit > 0 then
    select queues into v_queues from tasker_processes where id = p_process;
    v_best_ready_priority := coalesce(((tasker_core_v1.ready_scan_starts(v_queues, false)).priorities)[1], 2147483647);
  end if;

  -- Subtract the parents completed in this batch; children with no pending parents left become ready.
  with completed_parents as (
    select done.task_id, child.position, t.workflow_version_id, t.priority, count(*) as parents
    from unnest(p_done_tasks, p_done_positions) as done(task_id, position)
    join tasker_tasks t on t.id = any(array[done.task_id])
    cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, done.position) as d
    cross join lateral unnest(d.dependents) as child(position)
    group by done.task_id, child.position, t.workflow_version_id, t.priority
    order by done.task_id, child.position
  ), updated_children as (
    update tasker_workflow_steps s
    set pending_parents = s.pending_parents - p.parents
    from completed_parents p
    where s.task_id = any(array[p.task_id]) and s.position = p.position and s.state = 'pending'
    returning s.task_id, s.position, s.pending_parents, p.workflow_version_id, p.priority
  ), ready as (
    select r.task_id, r.position, d.queue, r.priority + d.priority as priority, d.dispatch is not null as dispatched,
      coalesce(
        d.dispatch is null and v_queues && array[d.queue, '*'] and r.priority + d.priority <= v_best_ready_priority,
        false) as eligible
    from updated_children r
    cross join lateral tasker_core_v1.step_definition(r.workflow_version_id, r.position) as d
    where r.pending_parents = 0
  ), ranked as (
    select ready.*,
      eligible and row_number() over (partition by eligible order by priority, task_id, position)
        <= least(p_claim_limit, p_hand_over_limit) as is_handed_over
    from ready
  ), enqueued as (
    -- Does not call enqueue_steps, which would look up each child's task and definition again.
    insert into tasker_ready_steps (queue, priority, task_id, position, ready_at, dispatched)
    select queue, priority, task_id, position, v_now, dispatched from ranked where not is_handed_over
    order by priority, task_id, position
  )
  select
    array_agg(task_id), array_agg(distinct queue) filter (where not is_handed_over),
    array_agg(task_id order by priority, task_id, position) filter (where is_handed_over),
    array_agg(position order by priority, task_id, position) filter (where is_handed_over)
  into v_ready_tasks, ready_queues, v_handed_over_tasks, v_handed_over_positions
  from ranked;

  if v_handed_over_tasks is not null then
    handed_over := tasker_core_v1.insert_claims(
      p_process, v_handed_over_tasks, v_handed_over_positions,
      array_fill(v_now, array[cardinality(v_handed_over_tasks)]), p_inline_bytes);
  end if;
  if p_claim_limit > coalesce(cardinality(v_handed_over_tasks), 0) then
    claimed := tasker_core_v1.claim_steps(
      p_process, v_queues, p_claim_limit - coalesce(cardinality(v_handed_over_tasks), 0), p_inline_bytes);
  end if;

  -- A task with no active step has ended: complete if no steps remain, otherwise error. It can become active again, so
  -- ended_at may be cleared.
  with change as (
    select task_id, sum(active)::integer as active, sum(done)::integer as done
    from (
      select unnest(p_ended_step_tasks), -1, 0
      union all select unnest(p_done_tasks), 0, 1
      union all select unnest(v_ready_tasks), 1, 0
    ) as delta(task_id, active, done)
    group by task_id
    order by task_id
  ), task as (
    update tasker_tasks t
    set active = t.active + change.active, remaining = t.remaining - change.done,
      state = case
        when t.active + change.active > 0 then 'pending'
        when t.remaining - change.done = 0 then 'complete'
        else 'error'
      end,
      ended_at = case when t.active + change.active = 0 then v_now end
    from change
    where t.id = any(array[change.task_id])
    returning t.id, t.uuid, t.state, t.ended_at, t.correlation_id, t.workflow_version_id,
      case when t.active - change.active > 0 then 'pending' else 'error' end as old_state
  )
  select json_agg(json_build_object(
    'name', case task.state when 'complete' then 'task.completed' else 'task.failed' end,
    'task_id', task.id, 'uuid', task.uuid, 'state', task.state, 'correlation_id', task.correlation_id,
    'namespace', v.namespace, 'workflow', v.name, 'version', v.version)),
    array(select workflow_version_id from task where state = 'complete' and old_state <> 'complete'),
    array(select workflow_version_id from task where state = 'error' and old_state <> 'error'),
    array(select workflow_version_id from task where state <> 'error' and old_state = 'error')
  into ended, v_completed, v_failed, v_reopened
  from task join tasker_workflow_versions v on v.id = any(array[task.workflow_version_id])
  where task.ended_at is not null;

  -- Not by `group by`, which made a batch 1 to 2 % slower.
  insert into tasker_counts (
    namespace, workflow, completed, failed, reopened, attempts_completed, attempts_failed, attempts_lost)
  select
    namespace, name,
    nullif(cardinality(array_positions(v_completed, id)), 0),
    nullif(cardinality(array_positions(v_failed, id)), 0),
    nullif(cardinality(array_positions(v_reopened, id)), 0),
    nullif(cardinality(array_positions(p_attempts_completed, id)), 0),
    nullif(cardinality(array_positions(p_attempts_failed, id)), 0),
    nullif(cardinality(array_positions(p_attempts_lost, id)), 0)
  from tasker_workflow_versions
  where id = any(
    v_completed || v_failed || v_reopened || p_attempts_completed || p_attempts_failed || p_attempts_lost);
end
$$;
