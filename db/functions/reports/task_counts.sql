-- Returns the counters of each workflow since its first task: tasks created and ended, attempts by outcome; and how
-- many tasks are in each state now. Reads no task: the cost does not grow with their number. Removed tasks count in the
-- totals, so these never decrease, except after a fail-over or a restore that lost commits.
-- Read by the metrics. recount_tasks compares the states with the tasks.

create function tasker_core_v1.task_counts()
returns table (
  namespace text,
  workflow text,
  created bigint,
  completed bigint,
  failed bigint,
  cancelled bigint,
  resolved bigint,
  attempts_completed bigint,
  attempts_failed bigint,
  attempts_released bigint,
  attempts_lost bigint,
  in_pending bigint,
  in_complete bigint,
  in_error bigint,
  in_cancelled bigint,
  in_resolved bigint
)
language sql stable as $$
  select c.namespace, c.workflow, c.created, c.completed, c.failed, c.cancelled, c.resolved,
    c.attempts_completed, c.attempts_failed, c.attempts_released, c.attempts_lost,
    c.created + c.reopened - c.completed - c.failed - c.cancelled,
    c.completed - c.removed_complete,
    c.failed - c.reopened - c.resolved - c.removed_error,
    c.cancelled - c.removed_cancelled,
    c.resolved - c.removed_resolved
  from (
    select namespace, workflow,
      coalesce(sum(created), 0)::bigint as created,
      coalesce(sum(completed), 0)::bigint as completed,
      coalesce(sum(failed), 0)::bigint as failed,
      coalesce(sum(cancelled), 0)::bigint as cancelled,
      coalesce(sum(resolved), 0)::bigint as resolved,
      coalesce(sum(reopened), 0)::bigint as reopened,
      coalesce(sum(removed_complete), 0)::bigint as removed_complete,
      coalesce(sum(removed_error), 0)::bigint as removed_error,
      coalesce(sum(removed_cancelled), 0)::bigint as removed_cancelled,
      coalesce(sum(removed_resolved), 0)::bigint as removed_resolved,
      coalesce(sum(attempts_completed), 0)::bigint as attempts_completed,
      coalesce(sum(attempts_failed), 0)::bigint as attempts_failed,
      coalesce(sum(attempts_released), 0)::bigint as attempts_released,
      coalesce(sum(attempts_lost), 0)::bigint as attempts_lost
    from tasker_counts
    where tasker_counts.workflow is not null
    group by namespace, workflow
  ) as c
  order by c.namespace, c.workflow;
$$;
