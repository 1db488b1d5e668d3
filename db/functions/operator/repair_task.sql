-- Repairs a task that audit has found broken, from the stored states of its steps: rebuilds its live rows, recomputes
-- its counters, and ends the task if no step is active.
-- A handler that still runs cannot finish its step any more; the step runs again. It does not change history (two
-- successes, a child that began too early, a complete step without a success), does not advance a sequence that is
-- behind (I6: the database's owner does), and cannot restore a missing step or input.
-- Returns {state, removed: how many live rows the task had, ready_queues}. For a task that does not exist, it deletes
-- the live rows and returns the state null.
-- Errors: TC006 without reason or actor.
-- Locks: those of lock_and_clear_task.

create function tasker_core_v1.repair_task(p_task bigint, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_waiting jsonb := (
    select jsonb_object_agg(position, jsonb_build_object('run_at', run_at, 'reason', reason, 'error', error))
    from tasker_waiting_steps
    where task_id = p_task);
  v_removed integer := tasker_core_v1.lock_and_clear_task(
    p_task, jsonb_build_object('class', 'TaskerCore::TaskRepaired', 'message', p_reason));
  v_task record;
  v_active integer := 0;
  v_remaining integer;
  v_state text;
  v_queues text[];
begin
  select * into v_task from tasker_tasks where id = p_task;
  if not found then
    return json_build_object('state', null, 'removed', v_removed, 'ready_queues', '[]'::json);
  end if;

  update tasker_workflow_steps s
  set pending_parents = r.parents - r.parents_done
  from tasker_core_v1.step_readiness(p_task) r
  where s.task_id = p_task
    and s.position = r.position
    and s.state = 'pending'
    and s.pending_parents <> r.parents - r.parents_done;

  update tasker_workflow_steps s
  set attempts = possible.attempts
  from tasker_step_definitions d
  cross join lateral (
    select least(count(*), d.max_attempts) as attempts
    from tasker_step_attempts a
    where a.task_id = p_task and a.position = d.position
  ) as possible
  where d.workflow_version_id = v_task.workflow_version_id
    and s.task_id = p_task
    and s.position = d.position
    and s.attempts > possible.attempts;

  if v_task.state = 'cancelled' then
    update tasker_workflow_steps set state = 'cancelled' where task_id = p_task and state = 'pending';
  elsif v_task.state <> 'resolved_manually' then
    with live as (
      select s.position, d.queue, d.priority, d.dispatch is not null as dispatched,
        v_waiting->(s.position::text) as wait
      from tasker_workflow_steps s
      cross join lateral tasker_core_v1.step_definition(v_task.workflow_version_id, s.position) as d
      where s.task_id = p_task and s.state = 'pending' and s.pending_parents = 0
    ), waiting as (
      insert into tasker_waiting_steps (task_id, position, run_at, reason, error)
      select p_task, position, (wait->>'run_at')::timestamptz, wait->>'reason', nullif(wait->'error', 'null')
      from live
      where wait is not null
    ), ready as (
      insert into tasker_ready_steps (queue, priority, task_id, position, ready_at, dispatched)
      select queue, v_task.priority + priority, p_task, position, v_now, dispatched
      from live
      where wait is null
      order by position
    )
    select count(*), array_agg(distinct queue) filter (where wait is null) into v_active, v_queues from live;
  end if;

  v_remaining := (
    select count(*)
    from tasker_workflow_steps
    where task_id = p_task and state not in ('complete', 'resolved_manually'));
  v_state := case
    when v_task.state in ('cancelled', 'resolved_manually') then v_task.state
    when v_active > 0 then 'pending'
    when v_remaining = 0 then 'complete'
    else 'error'
  end;

  update tasker_tasks
  set active = v_active, remaining = v_remaining, state = v_state,
    ended_at = case when v_state <> 'pending' then coalesce(v_task.ended_at, v_now) end
  where id = p_task;

  -- Totals keep counting what happened: only the numbers of tasks in each state are corrected.
  if v_state <> v_task.state then
    perform tasker_core_v1.count_task(p_task, tasker_core_v1.count_corrections(
      (v_state = 'pending')::integer - (v_task.state = 'pending')::integer,
      (v_state = 'complete')::integer - (v_task.state = 'complete')::integer,
      (v_state = 'error')::integer - (v_task.state = 'error')::integer));
  end if;

  perform tasker_core_v1.record_event(p_task, null, 'repair', p_reason, p_by);
  return json_build_object('state', v_state, 'removed', v_removed, 'ready_queues', coalesce(v_queues, '{}'));
end
$$;
