-- Does what follows when steps end: makes children ready, and ends tasks in which nothing is active any more.
-- Called for a whole batch by finish_steps, and by functions that end a step for an operator.
--
-- p_ended_tasks: the task of each step that is no longer active, whatever its outcome
-- p_done_tasks, p_done_positions: the steps that are done; their children need not wait for them
-- p_claim_limit: how many steps the process can start; p_hand_over_limit: how many children it keeps, null for no limit
-- Returns ready_queues: queues of children that others can claim; handed_over: claims on children that the process
-- keeps, and claimed: claims on other steps, both as in claim_steps; ended: [{name: of the event, task_id, uuid,
-- state, correlation_id, namespace, workflow, version}].
-- Locks, in this order: the children by (task, position), tasks by id. The caller has locked what comes before.

create function tasker_core_v1.advance_tasks(
  p_process bigint,
  p_ended_tasks bigint[],
  p_done_tasks bigint[],
  p_done_positions integer[],
  p_claim_limit integer,
  p_hand_over_limit integer,
  p_inline_bytes integer default null,
  out ready_queues text[],
  out handed_over json,
  out claimed json,
  out ended json
) language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_queues text[];
  v_urgent integer;
  v_ready_tasks bigint[];
  v_kept_tasks bigint[];
  v_kept_positions integer[];
begin
  handed_over := case when p_inline_bytes is null then '[]'::json end;
  claimed := handed_over;

  -- The process keeps children only while no step that waits is more urgent. Declared dead, it serves no queue.
  if p_claim_limit > 0 then
    select queues into v_queues from tasker_processes where id = p_process;
    v_urgent := ((tasker_core_v1.ready_scan_starts(v_queues)).priorities)[1];
  end if;

  -- Children lose as many pending parents as are done here; those without any become ready.
  with met as (
    select done.task_id, child.position, t.workflow_version_id, t.priority, count(*) as parents
    from unnest(p_done_tasks, p_done_positions) as done(task_id, position)
    join tasker_tasks t on t.id = any(array[done.task_id])
    cross join lateral (
      select dependents from tasker_step_definitions
      where workflow_version_id = t.workflow_version_id and position = done.position limit 1
    ) as d
    cross join lateral unnest(d.dependents) as child(position)
    group by done.task_id, child.position, t.workflow_version_id, t.priority
    order by done.task_id, child.position
  ), released as (
    update tasker_workflow_steps s
    set pending_parents = s.pending_parents - met.parents
    from met
    where s.task_id = any(array[met.task_id]) and s.position = met.position and s.state = 'pending'
    returning s.task_id, s.position, s.pending_parents, met.workflow_version_id, met.priority
  ), ready as (
    select r.task_id, r.position, d.queue, r.priority + d.priority as priority,
      coalesce(v_queues && array[d.queue, '*'] and r.priority + d.priority <= coalesce(v_urgent, 2147483647), false)
        as ours
    from released r
    cross join lateral (
      select queue, priority from tasker_step_definitions
      where workflow_version_id = r.workflow_version_id and position = r.position limit 1
    ) as d
    where r.pending_parents = 0
  ), placed as (
    select ready.*,
      ours and row_number() over (partition by ours order by priority, task_id, position)
        <= least(p_claim_limit, p_hand_over_limit) as kept
    from ready
  ), left_for_all as (
    -- Not by enqueue_steps, which would look up the task and the definition of each child again.
    insert into tasker_ready_steps (queue, priority, task_id, position, ready_at)
    select queue, priority, task_id, position, v_now from placed where not kept order by priority, task_id, position
  )
  select
    array_agg(task_id), array_agg(distinct queue) filter (where not kept),
    array_agg(task_id order by priority, task_id, position) filter (where kept),
    array_agg(position order by priority, task_id, position) filter (where kept)
  into v_ready_tasks, ready_queues, v_kept_tasks, v_kept_positions
  from placed;

  if v_kept_tasks is not null then
    handed_over := tasker_core_v1.insert_claims(
      p_process, v_kept_tasks, v_kept_positions, array_fill(v_now, array[cardinality(v_kept_tasks)]), p_inline_bytes);
  end if;
  if p_claim_limit > coalesce(cardinality(v_kept_tasks), 0) then
    claimed := tasker_core_v1.claim_steps(
      p_process, v_queues, p_claim_limit - coalesce(cardinality(v_kept_tasks), 0), p_inline_bytes);
  end if;

  -- A task in which nothing is active has ended, complete if nothing remains. An ended one may become active again.
  with change as (
    select task_id, sum(active)::integer as active, sum(done)::integer as done
    from (
      select unnest(p_ended_tasks), -1, 0
      union all select unnest(p_done_tasks), 0, 1
      union all select unnest(v_ready_tasks), 1, 0
    ) as one(task_id, active, done)
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
    returning t.id, t.uuid, t.state, t.ended_at, t.correlation_id, t.workflow_version_id
  )
  select json_agg(json_build_object(
    'name', case task.state when 'complete' then 'task.completed' else 'task.failed' end,
    'task_id', task.id, 'uuid', task.uuid, 'state', task.state, 'correlation_id', task.correlation_id,
    'namespace', v.namespace, 'workflow', v.name, 'version', v.version))
  into ended
  from task join tasker_workflow_versions v on v.id = any(array[task.workflow_version_id])
  where task.ended_at is not null;
end
$$;
