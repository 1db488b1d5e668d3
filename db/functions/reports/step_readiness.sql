-- Recomputes which steps of a task may run from the states of its steps alone, without counters and live rows: how many
-- parents each step has, how many of them are done, and which are missing. Used by tests to check the stored counters,
-- by repair_task, and to explain why a step waits.

create function tasker_core_v1.step_readiness(p_task bigint)
returns table (
  "position" integer,
  name text,
  stored_state text,
  parents integer,
  parents_done integer,
  dependencies_satisfied boolean,
  attempts_left integer,
  blocked_by text[],
  may_run boolean
)
language sql stable as $$
  with step as (
    select s.position, d.name, s.state, s.attempts, d.max_attempts, d.dependencies
    from tasker_workflow_steps s
    join tasker_tasks t on t.id = s.task_id
    join tasker_step_definitions d on d.workflow_version_id = t.workflow_version_id and d.position = s.position
    where s.task_id = p_task
  )
  select step.position, step.name, step.state,
    cardinality(step.dependencies), parent.done,
    parent.done = cardinality(step.dependencies),
    greatest(step.max_attempts - step.attempts, 0),
    parent.missing,
    step.state = 'pending' and parent.done = cardinality(step.dependencies)
  from step
  cross join lateral (
    select
      count(*) filter (where p.state in ('complete', 'resolved_manually'))::integer as done,
      coalesce(array_agg(p.name order by p.position)
        filter (where p.state not in ('complete', 'resolved_manually')), '{}') as missing
    from step p
    where p.position = any(step.dependencies)
  ) as parent
  order by step.position;
$$;
