-- What are the results of the steps before this one, near and far? In the order of their positions, after the position
-- p_after, of the names p_names (null: all), and as many as fit into p_bytes (null: all), one at least.
-- Returns {results: {step name: result}, after: the position to continue after, null at the end, names: of all steps
-- before this one, unless p_after is given}. A name that is not before this step is left out.
-- Called for a handler that asks for the result of a step that is not its parent, or for one that did not come with the
-- claim. Which results fit is decided by their stored size, so that the others are not read.
-- With p_process the answer is null unless that process holds the step by the claim p_held (as in held_claims): what a
-- handler knows as its task may be another one after a fail-over.
-- Locks: none. Indexes: primary keys.

create function tasker_core_v1.ancestor_results(
  p_task bigint,
  p_position integer,
  p_names text[] default null,
  p_after integer default null,
  p_bytes bigint default null,
  p_process bigint default null,
  p_held jsonb default null
) returns json
language plpgsql stable as $$
declare
  v_version bigint := (select workflow_version_id from tasker_tasks where id = p_task);
  v_ancestors integer[];
  v_fitting integer[];
  v_found bigint;
  v_names json;
begin
  if p_process is not null
    and (tasker_core_v1.held_claims(p_process, jsonb_build_array(
      p_held || jsonb_build_object('task_id', p_task, 'position', p_position)))) = '{}' then
    return null;
  end if;

  with recursive ancestor(position) as (
    select unnest(d.dependencies)
    from tasker_step_definitions d
    where d.workflow_version_id = v_version and d.position = p_position
    union
    select parent.position
    from ancestor
    join tasker_step_definitions d
      on d.workflow_version_id = v_version and d.position = any(array[ancestor.position])
    cross join lateral unnest(d.dependencies) as parent(position)
  )
  select array_agg(position order by position) into v_ancestors from ancestor;

  select array_agg(position order by position) filter (where bytes <= p_bytes or number = 1 or p_bytes is null), count(*)
  into v_fitting, v_found
  from (
    select a.position,
      sum(s.result_bytes) over (order by a.position) as bytes,
      row_number() over (order by a.position) as number
    from unnest(v_ancestors) as a(position)
    join tasker_step_definitions d on d.workflow_version_id = v_version and d.position = any(array[a.position])
    join tasker_workflow_steps s on s.task_id = p_task and s.position = any(array[a.position])
    where (p_after is null or a.position > p_after)
      and (p_names is null or d.name = any(p_names))
  ) as wanted;

  if p_after is null then
    select json_agg(d.name order by d.position) into v_names
    from unnest(v_ancestors) as a(position)
    join tasker_step_definitions d on d.workflow_version_id = v_version and d.position = any(array[a.position]);
  end if;

  return (
    select json_build_object(
      'results', coalesce(json_object_agg(d.name, s.result order by d.position), '{}'),
      'after', case when v_found > cardinality(v_fitting) then max(d.position) end,
      'names', case when p_after is null then coalesce(v_names, '[]') end)
    from unnest(v_fitting) as a(position)
    join tasker_step_definitions d on d.workflow_version_id = v_version and d.position = any(array[a.position])
    join tasker_workflow_steps s on s.task_id = p_task and s.position = any(array[a.position]));
end
$$;
