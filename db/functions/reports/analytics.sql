-- Returns statistics of tasks created since a time, one row for each workflow version: tasks by state, attempts by
-- outcome, and percentiles of durations in seconds (of complete tasks from creation to end, of attempts from start to
-- end).
-- Read by operators and by the API. The cost grows with the number of tasks since then.

create function tasker_core_v1.analytics(
  p_since timestamptz,
  p_namespace text default null,
  p_workflow text default null
)
returns table (
  namespace text,
  workflow text,
  version text,
  tasks bigint,
  complete bigint,
  error bigint,
  cancelled bigint,
  resolved_manually bigint,
  unended bigint,
  task_seconds_p50 float,
  task_seconds_p95 float,
  attempts bigint,
  attempts_completed bigint,
  attempts_failed bigint,
  attempts_lost bigint,
  attempt_seconds_p50 float,
  attempt_seconds_p95 float
)
language sql stable as $$
  with task as materialized (
    select t.id, t.workflow_version_id, t.state, extract(epoch from t.ended_at - t.created_at)::float as seconds
    from tasker_core_v1.tasks_since(p_since, p_namespace, p_workflow) t
  ), of_tasks as (
    select workflow_version_id,
      count(*) as tasks,
      count(*) filter (where state = 'complete') as complete,
      count(*) filter (where state = 'error') as error,
      count(*) filter (where state = 'cancelled') as cancelled,
      count(*) filter (where state = 'resolved_manually') as resolved_manually,
      count(*) filter (where state = 'pending') as unended,
      percentile_cont(array[0.5, 0.95]) within group (order by seconds) filter (where state = 'complete') as seconds
    from task
    group by workflow_version_id
  ), of_attempts as (
    select task.workflow_version_id,
      count(*) as attempts,
      count(*) filter (where a.outcome = 'completed') as completed,
      count(*) filter (where a.outcome = 'failed') as failed,
      count(*) filter (where a.outcome = 'lost') as lost,
      percentile_cont(array[0.5, 0.95])
        within group (order by extract(epoch from a.finished_at - a.started_at)::float)
        filter (where a.outcome in ('completed', 'failed')) as seconds
    from task
    join tasker_step_attempts a on a.task_id = any(array[task.id])
    group by task.workflow_version_id
  )
  select v.namespace, v.name, v.version,
    t.tasks, t.complete, t.error, t.cancelled, t.resolved_manually, t.unended, t.seconds[1], t.seconds[2],
    coalesce(a.attempts, 0), coalesce(a.completed, 0), coalesce(a.failed, 0), coalesce(a.lost, 0),
    a.seconds[1], a.seconds[2]
  from of_tasks t
  join tasker_workflow_versions v on v.id = t.workflow_version_id
  left join of_attempts a on a.workflow_version_id = t.workflow_version_id
  order by v.namespace, v.name, v.id;
$$;
