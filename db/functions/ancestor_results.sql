-- What did all the steps before this one, near and far, come to? {step name: result}.
-- Called for a handler that asks for the result of a step that is not its direct parent. With p_process the answer is null
-- unless that process holds the step by the claim p_held (as in held_claims): what a handler knows as its task may be
-- another one after a fail-over.

create function tasker_core_v1.ancestor_results(
  p_task bigint,
  p_position integer,
  p_process bigint default null,
  p_held jsonb default null
) returns json
language plpgsql stable as $$
declare
  v_version bigint := (select workflow_version_id from tasker_tasks where id = p_task);
begin
  if p_process is not null
    and (tasker_core_v1.held_claims(p_process, jsonb_build_array(
      p_held || jsonb_build_object('task_id', p_task, 'position', p_position)))) = '{}' then
    return null;
  end if;

  return (
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
    select coalesce(json_object_agg(d.name, s.result order by d.position), '{}')
    from ancestor
    join tasker_step_definitions d
      on d.workflow_version_id = v_version and d.position = any(array[ancestor.position])
    join tasker_workflow_steps s on s.task_id = p_task and s.position = any(array[ancestor.position]));
end
$$;
