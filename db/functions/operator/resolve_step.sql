-- Resolves a step that was handled outside: it needs no result, and its children may run.
-- Returns and errors: as override_step.

create function tasker_core_v1.resolve_step(p_task bigint, p_position integer, p_reason text, p_by text) returns json
language sql volatile as $$
  select tasker_core_v1.override_step(p_task, p_position, 'resolved_manually', null, 'resolve', p_reason, p_by);
$$;
