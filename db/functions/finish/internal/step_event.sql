-- Returns the event of an attempt that has ended, as build_events takes it. Called by finish_steps, into which
-- PostgreSQL inlines it.

create function tasker_core_v1.step_event(
  p_name text,
  p_task bigint,
  p_position integer,
  p_attempt integer,
  p_max_attempts integer,
  p_ran_us bigint,
  p_error jsonb,
  p_delay interval
) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'name', p_name,
    'task_id', p_task,
    'position', p_position,
    'facts', jsonb_build_object('attempt', p_attempt, 'max_attempts', p_max_attempts)
      || case when p_ran_us is null then '{}' else jsonb_build_object('duration_ms', p_ran_us::float / 1000) end
      || case when p_name = 'step.completed' then '{}' else jsonb_build_object('error', jsonb_build_object(
        'class', p_error->'class', 'message', p_error->'message', 'code', p_error->'code')) end
      || case when p_name <> 'step.retry_scheduled' then '{}' else jsonb_build_object(
        'delay_ms', ceil(extract(epoch from p_delay) * 1000)) end);
$$;
