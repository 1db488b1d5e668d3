-- Inserts claims without payloads on the steps that can be claimed, and sets the others aside, so that damaged data
-- of one step blocks no other step. Called by claim_steps for a worker that failed to claim a single step.
-- Returns what insert_claims does, and set_aside: [{task_id, position, error: as in claim_error}].
-- When claims fail for a reason that is not in the data of a step, raises the error and sets nothing aside.

create function tasker_core_v1.insert_readable_claims(
  p_process bigint,
  p_tasks bigint[],
  p_positions integer[],
  p_ready_at timestamptz[],
  p_start_timeout interval default null
) returns json
language plpgsql as $$
declare
  v_errors jsonb[] := array(
    select tasker_core_v1.claim_error(r.task_id, r.position)
    from unnest(p_tasks, p_positions) with ordinality as r(task_id, position, number)
    order by r.number);
  v_tasks bigint[];
  v_positions integer[];
  v_ready_at timestamptz[];
  v_set_aside json;
  v_inserted json;
begin
  select
    array_agg(task_id order by number) filter (where error is null),
    array_agg(position order by number) filter (where error is null),
    array_agg(ready_at order by number) filter (where error is null),
    json_agg(json_build_object('task_id', task_id, 'position', position, 'error', error) order by number)
      filter (where error is not null)
  into v_tasks, v_positions, v_ready_at, v_set_aside
  from unnest(p_tasks, p_positions, p_ready_at, v_errors) with ordinality
    as r(task_id, position, ready_at, error, number);

  perform tasker_core_v1.set_aside(p_tasks, p_positions, v_errors);
  v_inserted := tasker_core_v1.insert_claims(
    p_process, v_tasks, v_positions, v_ready_at, 0, case when p_start_timeout is not null then 'claimed' end,
    p_start_timeout);
  return json_build_object(
    'versions', v_inserted->'versions', 'claims', v_inserted->'claims', 'set_aside', coalesce(v_set_aside, '[]'));
end
$$;
