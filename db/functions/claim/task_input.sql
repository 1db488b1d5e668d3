-- What is a task's input? Called for a handler whose claim came without it, as it was too long to come along.
-- Null for an unknown task, and with p_process unless that process holds a step of the task by the claim p_held (as in
-- held_claims): what a handler knows as its task may be another one after a fail-over. Locks: none. Index: the primary key.

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
