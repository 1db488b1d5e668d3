-- Returns results of a step's ancestors (its parents, their parents, and so on) in the order of their positions:
-- {results: {step name: result}, after: the position to continue after, or null, names: of all ancestors, unless
-- p_after is given}.
--
-- p_names: which ancestors, null for all; a name that is no ancestor is ignored
-- p_after: the position to begin after
-- p_bytes: limit of the results' total length, null for none; at least one result is returned
-- p_process, p_held: when given, returns null unless the process holds the step by this claim (held_claims): after a
-- fail-over the id that a handler knows may belong to another task
--
-- Called for handlers that read the result of an ancestor other than a parent, or one that was left out of the claim.
-- Stored sizes decide which results fit, so that no other result is read. Locks: none. Indexes: primary keys.

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

  select
    array_agg(position order by position) filter (where bytes <= p_bytes or number = 1 or p_bytes is null),
    count(*)
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
