-- Has a step of this task been started, or dealt with by hand? What makes an unended task be in progress rather than pending.
-- Called by find_tasks, for one task after the other; task_execution_context counts the same from all its steps.

create function tasker_core_v1.has_begun(p_task bigint) returns boolean
language sql stable as $$
  select exists (
      select
      from tasker_workflow_steps
      where task_id = p_task and (attempts > 0 or state in ('complete', 'resolved_manually')))
    or p_task in (select task_id from tasker_claimed_steps);
$$;
