-- Returns those of the tasks that have one of the statuses of task_execution_contexts.
-- Called by find_tasks. plans.sql gives it planner settings of its own: with those of find_tasks the planner would read
-- all ready steps for each step of a task.

create function tasker_core_v1.tasks_with_status(p_tasks bigint[], p_statuses text[]) returns bigint[]
language sql stable as $$
  select array_agg(c.task_id)
  from tasker_core_v1.task_execution_contexts(p_tasks) c
  where c.execution_status = any(p_statuses);
$$;
