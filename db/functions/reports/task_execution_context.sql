-- Returns what task_execution_contexts does for one task.

create function tasker_core_v1.task_execution_context(p_task bigint)
returns table (
  task_id bigint,
  state text,
  execution_status text,
  total_steps integer,
  completed_steps integer,
  failed_steps integer,
  ready_steps integer,
  in_progress_steps integer,
  waiting_steps integer,
  next_run_at timestamptz,
  elapsed_seconds float,
  running_seconds float
)
language sql stable as $$
  select *
  from tasker_core_v1.task_execution_contexts(array[p_task]);
$$;
