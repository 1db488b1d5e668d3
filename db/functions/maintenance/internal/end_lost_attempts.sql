-- Ends lost attempts. p_lost: outcomes as finish_steps takes them; the caller has locked their claims.
-- Returns attempts: as sweep does, without delays; finished: what finish_steps does; set_aside: [{task_id, position,
-- error}].
--
-- With p_sets_aside there is a single attempt. When an error of its rows (row_error) prevents its end, its step is set
-- aside: it waits, and its attempt is recorded as released and is not spent. When finish_steps also fails without an
-- outcome, no row is damaged, and the error is raised.
-- Called by sweep. Locks: those of finish_steps.

create function tasker_core_v1.end_lost_attempts(
  p_lost jsonb,
  p_sets_aside boolean,
  out attempts jsonb,
  out finished json,
  out set_aside jsonb
) language plpgsql as $$
declare
  v_error jsonb;
begin
  set_aside := '[]';
  select jsonb_agg(jsonb_build_object(
      'token', c.token, 'error', lost->'error', 'task_id', t.id, 'task_uuid', t.uuid,
      'correlation_id', t.correlation_id, 'namespace', v.namespace, 'workflow', v.name, 'version', v.version,
      'step', d.name, 'attempt', c.attempt, 'max_attempts', d.max_attempts))
  into attempts
  from jsonb_array_elements(p_lost) as lost
  join tasker_claimed_steps c on c.token = any(array[(lost->>'token')::bigint])
  join tasker_tasks t on t.id = any(array[c.task_id])
  join tasker_workflow_versions v on v.id = any(array[t.workflow_version_id])
  cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, c.position) as d;
  finished := tasker_core_v1.finish_steps(null, p_lost, 0);
exception
  when others then
    v_error := tasker_core_v1.row_error(
      sqlstate, format('the database cannot read data needed to end the lost attempt: %s', sqlerrm));
    if not p_sets_aside or v_error is null then
      raise;
    end if;

    perform tasker_core_v1.finish_steps(null, '[]', 0);
    attempts := null;
    finished := null;
    set_aside := tasker_core_v1.set_aside_claim((p_lost->0->>'token')::bigint, p_lost->0->'error', v_error);
end
$$;
