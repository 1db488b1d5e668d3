-- Returns the error of a step, as step_states does. When the database cannot read it, returns that error instead, as
-- row_error describes it. Called by models and the command line after a statement that read the errors of a task's
-- steps has failed. Locks: none. Indexes: primary keys.

create function tasker_core_v1.readable_error(p_task bigint, p_position integer) returns jsonb
language plpgsql stable as $$
declare
  v_error jsonb;
begin
  -- As text: a value is read here, not where the caller uses it.
  return (
    select coalesce(w.error, s.last_error)::text::jsonb
    from tasker_workflow_steps s
    left join tasker_waiting_steps w on w.task_id = s.task_id and w.position = s.position
    where s.task_id = p_task and s.position = p_position);
exception
  when others then
    v_error := tasker_core_v1.row_error(sqlstate, format('the database cannot read the error: %s', sqlerrm));
    if v_error is null then
      raise;
    end if;
    return v_error;
end
$$;
