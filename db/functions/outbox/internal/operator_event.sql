-- How an operator's doing is told, for build_events: of a task, or of one of its steps.

create function tasker_core_v1.operator_event(p_name text, p_task bigint, p_position integer, p_reason text, p_by text)
returns jsonb
language sql immutable as $$
  select jsonb_build_object('name', p_name, 'task_id', p_task, 'position', p_position,
    'facts', jsonb_build_object('reason', p_reason, 'by', p_by));
$$;
