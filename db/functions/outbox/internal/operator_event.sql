-- Returns the event of an operator's action on a task, or on one of its steps, as build_events takes it.

create function tasker_core_v1.operator_event(p_name text, p_task bigint, p_position integer, p_reason text, p_by text)
returns jsonb
language sql immutable as $$
  select jsonb_build_object('name', p_name, 'task_id', p_task, 'position', p_position,
    'facts', jsonb_build_object('reason', p_reason, 'by', p_by));
$$;
