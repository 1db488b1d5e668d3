-- Opens claims without payloads on the steps that can be claimed, and sets the others aside. Called by claim_steps for a
-- worker that could not claim a step alone: whatever is damaged, it stops no other step. Where claims fail that are for no
-- step at all, it is not a step that is damaged: the error is raised, and nothing is set aside.
-- Returns what insert_claims does, with set_aside: [{task_id, position, error: as claim_error}].

create function tasker_core_v1.insert_readable_claims(
  p_process bigint,
  p_tasks bigint[],
  p_positions integer[],
  p_ready_at timestamptz[]
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
  v_opened json;
begin
  select
    array_agg(task_id order by number) filter (where error is null),
    array_agg(position order by number) filter (where error is null),
    array_agg(ready_at order by number) filter (where error is null),
    json_agg(json_build_object('task_id', task_id, 'position', position, 'error', error) order by number)
      filter (where error is not null)
  into v_tasks, v_positions, v_ready_at, v_set_aside
  from unnest(p_tasks, p_positions, p_ready_at, v_errors) with ordinality as r(task_id, position, ready_at, error, number);

  perform tasker_core_v1.set_aside(p_tasks, p_positions, v_errors);
  v_opened := tasker_core_v1.insert_claims(p_process, v_tasks, v_positions, v_ready_at, 0);
  return json_build_object(
    'versions', v_opened->'versions', 'claims', v_opened->'claims', 'set_aside', coalesce(v_set_aside, '[]'));
end
$$;
