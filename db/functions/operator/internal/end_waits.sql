-- Makes waiting steps of a task ready now. Called by retry_step and retry_task, which hold the steps' locks.
-- Returns how many of the steps waited, and their queues: a sweep may have made some ready in the meantime.
-- Locks: the waiting rows.

create function tasker_core_v1.end_waits(
  p_task bigint,
  p_positions integer[],
  out steps integer,
  out ready_queues text[]
) language plpgsql as $$
declare
  v_positions integer[];
begin
  with waiting as (
    delete from tasker_waiting_steps
    where task_id = p_task and position = any(p_positions)
    returning position
  )
  select array_agg(position order by position) into v_positions from waiting;

  steps := coalesce(cardinality(v_positions), 0);
  if steps > 0 then
    ready_queues := tasker_core_v1.enqueue_steps(array_fill(p_task, array[steps]), v_positions);
  end if;
end
$$;
