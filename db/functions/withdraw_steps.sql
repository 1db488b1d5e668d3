-- Deletes the ready and waiting rows of steps, and with p_claims their claims too, whose attempts are recorded as
-- released with p_error. Called by the operator's verbs, which hold the steps' locks. Answers how many rows it took.
--
-- p_active: how many live rows the steps have. A row may change its table (claimed, due, given back) between the
-- look and the delete; so it looks again until it has found all of them. Without p_claims it may stay below that
-- number: the rest is claimed.

create function tasker_core_v1.withdraw_steps(
  p_task bigint,
  p_positions integer[],
  p_active integer,
  p_claims boolean,
  p_error jsonb
) returns integer
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_withdrawn integer := 0;
  v_now_withdrawn integer;
  v_claimed integer;
begin
  for v_look in 1..1000 loop
    with waiting as (
      delete from tasker_waiting_steps
      where task_id = p_task and position = any(p_positions)
      returning position
    ), ready as (
      delete from tasker_ready_steps
      where task_id = p_task and position = any(p_positions)
      returning position
    ), claim as (
      delete from tasker_claimed_steps
      where p_claims and task_id = p_task and position = any(p_positions)
      returning *
    ), attempt as (
      insert into tasker_step_attempts (
        task_id, position, attempt, token, process_id, ready_at, claimed_at, started_at, finished_at, outcome, error)
      select task_id, position, attempt, token, process_id, ready_at, claimed_at, claimed_at, v_now, 'released', p_error
      from claim
      returning position
    ), claimed as (
      select position from tasker_claimed_steps where not p_claims and task_id = p_task and position = any(p_positions)
    )
    select
      (select count(*) from waiting) + (select count(*) from ready) + (select count(*) from attempt),
      (select count(*) from claimed)
    into v_now_withdrawn, v_claimed;

    v_withdrawn := v_withdrawn + v_now_withdrawn;
    if v_withdrawn + v_claimed >= p_active then
      return v_withdrawn;
    end if;
  end loop;

  raise exception using errcode = 'serialization_failure',
    message = format('the steps of task %s changed hands all the time', p_task);
end
$$;
