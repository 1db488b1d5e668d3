-- Deletes the ready and waiting rows of a task's steps, and with p_claims also their claims, whose attempts are
-- recorded as released with p_error. p_positions null means all steps. Called by the operator's actions, which hold the
-- steps' locks.
-- Returns the number of deleted rows. Without p_claims a claimed step keeps its claim.
--
-- A row may move to another table (claimed, due, released) between the scan and the delete, so it scans again until it
-- finds no row. As the steps are locked, a new row can only come from one that it has seen.
-- Locks: the live rows. TC007 if another session has locked a claim: that session may be waiting for the step.

create function tasker_core_v1.delete_live_rows(p_task bigint, p_positions integer[], p_claims boolean, p_error jsonb)
returns integer
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_deleted integer := 0;
  v_deleted_now integer;
  v_seen integer;
  v_claims_seen integer;
begin
  loop
    with waiting as (
      delete from tasker_waiting_steps
      where task_id = p_task and (p_positions is null or position = any(p_positions))
      returning position
    ), ready as (
      delete from tasker_ready_steps
      where task_id = p_task and (p_positions is null or position = any(p_positions))
      returning position
    ), claim as (
      delete from tasker_claimed_steps
      where ctid = any(array(
        select ctid
        from tasker_claimed_steps
        where p_claims and task_id = p_task and (p_positions is null or position = any(p_positions))
        for update skip locked))
      returning *
    ), attempt as (
      insert into tasker_step_attempts (
        task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, finished_at, outcome, error)
      select task_id, position, attempt, token, process_id, ready_at, claimed_at,
        case when dispatch in ('claimed', 'enqueued') then v_now else claimed_at end, v_now, 'released', p_error
      from claim
      returning position
    ), counted as (
      insert into tasker_counts (namespace, workflow, attempts_released)
      select v.namespace, v.name, n.attempts
      from (select count(*) as attempts from claim) as n
      join tasker_tasks t on t.id = p_task
      join tasker_workflow_versions v on v.id = any(array[t.workflow_version_id])
      where n.attempts > 0
    )
    select
      (select count(*) from waiting) + (select count(*) from ready) + (select count(*) from attempt),
      (
        select count(*)
        from tasker_waiting_steps
        where task_id = p_task and (p_positions is null or position = any(p_positions)))
      + (
        select count(*)
        from tasker_ready_steps
        where task_id = p_task and (p_positions is null or position = any(p_positions))),
      (
        select count(*)
        from tasker_claimed_steps
        where task_id = p_task and (p_positions is null or position = any(p_positions)))
      - (select count(*) from attempt)
    into v_deleted_now, v_seen, v_claims_seen;

    v_deleted := v_deleted + v_deleted_now;
    if p_claims and v_claims_seen > 0 then
      perform tasker_core_v1.raise_error('TC007', format('a step of task %s is being finished', p_task),
        jsonb_build_object('task', p_task));
    elsif v_seen = 0 and v_deleted_now = 0 then
      return v_deleted;
    end if;
  end loop;
end
$$;
