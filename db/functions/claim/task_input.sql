-- Returns a task's input, or null for an unknown task. With p_process also null unless that process holds a step of the
-- task by the claim p_held (held_claims): after a fail-over the id that a handler knows may belong to another task.
-- Called for handlers whose claim was sent without the input because of its length.
-- Locks: none. Index: the primary key.

create function tasker_core_v1.task_input(
  p_task bigint,
  p_process bigint default null,
  p_held jsonb default null
) returns json
language plpgsql stable as $$
begin
  if p_process is not null
    and (tasker_core_v1.held_claims(p_process, jsonb_build_array(
      p_held || jsonb_build_object('task_id', p_task)))) = '{}' then
    return null;
  end if;

  return (select input::json from tasker_task_inputs where task_id = p_task);
end
$$;
