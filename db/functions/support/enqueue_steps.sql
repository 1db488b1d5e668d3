-- Makes steps ready: inserts a ready row for each, in the given order, with the queue of its definition and the sum of
-- its task's priority and its own. Returns the queues, each once. The caller has locked the steps or their live rows.
-- Called by sweep, end_waits and requeue_failed_steps. create_tasks, advance_tasks, return_claims and repair_task
-- insert ready rows themselves, as their statements have most of the columns already.

create function tasker_core_v1.enqueue_steps(p_tasks bigint[], p_positions integer[]) returns text[]
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_queues text[];
begin
  with ready as (
    insert into tasker_ready_steps (queue, priority, task_id, position, ready_at, dispatched)
    select d.queue, t.priority + d.priority, s.task_id, s.position, v_now, d.dispatch is not null
    from unnest(p_tasks, p_positions) with ordinality as s(task_id, position, number)
    join tasker_tasks t on t.id = any(array[s.task_id])
    cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, s.position) as d
    order by s.number
    returning queue
  )
  select coalesce(array_agg(distinct queue), '{}') into v_queues from ready;
  return v_queues;
end
$$;
