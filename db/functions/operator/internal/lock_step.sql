-- Locks a step for an operator's action. Returns its stored state, its count of pending parents and its name.
-- Errors: TC003 for an unknown step.

create function tasker_core_v1.lock_step(
  p_task bigint,
  p_position integer,
  out state text,
  out pending_parents integer,
  out name text
) language plpgsql as $$
begin
  select s.state, s.pending_parents, d.name
  into state, pending_parents, name
  from tasker_workflow_steps s
  join tasker_tasks t on t.id = any(array[s.task_id])
  cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, s.position) as d
  where s.task_id = p_task
    and s.position = p_position
  for update of s;

  if not found then
    perform tasker_core_v1.raise_error('TC003', format('task %s has no step at position %s', p_task, p_position),
      jsonb_build_object('task', p_task, 'position', p_position));
  end if;
end
$$;
