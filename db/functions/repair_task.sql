-- Puts a task right that audit has found broken, from what lasts: the states of its steps. Live rows that may not be
-- there go, missing ones come, counters are counted again, and a task in which nothing is active ends. Who and why are
-- recorded. What history tells (two successes, a child that began too early) it cannot change.
-- Answers {state, removed, ready_queues}: the task's state and how many live rows were taken away.
-- A task that does not exist is none to repair, but its live rows are removed.
-- Locks: in the order of finish_steps: claims, steps, the task.

create function tasker_core_v1.repair_task(p_task bigint, p_reason text, p_by text) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_task record;
  v_removed integer;
  v_queues text[];
  v_active integer;
  v_remaining integer;
  v_state text;
begin
  perform from tasker_claimed_steps where task_id = p_task order by token for update;
  perform from tasker_workflow_steps where task_id = p_task order by position for update;
  select * into v_task from tasker_tasks where id = p_task for update;

  if v_task.state = 'cancelled' then
    update tasker_workflow_steps set state = 'cancelled' where task_id = p_task and state = 'pending';
  end if;

  update tasker_workflow_steps s
  set unmet = r.parents - r.parents_done
  from tasker_core_v1.step_readiness(p_task) r
  where s.task_id = p_task
    and s.position = r.position
    and s.state = 'pending'
    and s.unmet <> r.parents - r.parents_done;

  -- Of several live rows of a step its oldest claim stays, as its handler may be at work, else the waiting one.
  with legal as (
    select s.position,
      coalesce(
        'claimed ' || (
          select min(token) from tasker_claimed_steps c where c.task_id = p_task and c.position = s.position),
        'waiting ' || (select 0 from tasker_waiting_steps w where w.task_id = p_task and w.position = s.position),
        'ready ' || (select min(seq) from tasker_ready_steps r where r.task_id = p_task and r.position = s.position)
      ) as row
    from tasker_workflow_steps s
    where s.task_id = p_task
      and s.state = 'pending'
      and s.unmet = 0
      and v_task.state in ('pending', 'error')
  ), claimed as (
    delete from tasker_claimed_steps c
    where c.task_id = p_task
      and not exists (select from legal where position = c.position and row = 'claimed ' || c.token)
    returning 1
  ), waiting as (
    delete from tasker_waiting_steps w
    where w.task_id = p_task
      and not exists (select from legal where position = w.position and row = 'waiting 0')
    returning 1
  ), ready as (
    delete from tasker_ready_steps r
    where r.task_id = p_task
      and not exists (select from legal where position = r.position and row = 'ready ' || r.seq)
    returning 1
  )
  select (select count(*) from claimed) + (select count(*) from waiting) + (select count(*) from ready) into v_removed;

  if v_task.id is null then
    return json_build_object('state', null, 'removed', v_removed, 'ready_queues', '[]'::json);
  end if;

  with ready as (
    insert into tasker_ready_steps (queue, priority, task_id, position, ready_at)
    select d.queue, v_task.priority + d.priority, p_task, d.position, v_now
    from tasker_workflow_steps s
    join tasker_step_definitions d
      on d.workflow_version_id = v_task.workflow_version_id and d.position = s.position
    where s.task_id = p_task
      and s.state = 'pending'
      and s.unmet = 0
      and v_task.state in ('pending', 'error')
      and not exists (select from tasker_claimed_steps c where c.task_id = p_task and c.position = s.position)
      and not exists (select from tasker_waiting_steps w where w.task_id = p_task and w.position = s.position)
      and not exists (select from tasker_ready_steps r where r.task_id = p_task and r.position = s.position)
    order by d.position
    returning queue
  )
  select array_agg(distinct queue) into v_queues from ready;

  v_active := (select count(*) from tasker_claimed_steps where task_id = p_task)
    + (select count(*) from tasker_waiting_steps where task_id = p_task)
    + (select count(*) from tasker_ready_steps where task_id = p_task);
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

  perform tasker_core_v1.record_event(p_task, null, 'repair', p_reason, p_by);
  return json_build_object('state', v_state, 'removed', v_removed, 'ready_queues', coalesce(v_queues, '{}'));
end
$$;
