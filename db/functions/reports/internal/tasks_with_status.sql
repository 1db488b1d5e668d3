-- Which of these tasks have one of these statuses, as task_execution_contexts derives them?
-- Called by find_tasks, whose own settings would have the planner read all ready steps for each step of a task: plans.sql
-- gives this one others. Takes no lock.

create function tasker_core_v1.tasks_with_status(p_tasks bigint[], p_statuses text[]) returns bigint[]
language sql stable as $$
  select array_agg(c.task_id)
  from tasker_core_v1.task_execution_contexts(p_tasks) c
  where c.execution_status = any(p_statuses);
$$;
