-- Sets aside those steps that have an error (claim_error): they wait, so that they do not block their queue. After the
-- wait a sweep checks them again; an operator can retry them earlier. Reads nothing of the task.
-- Called by insert_readable_claims, sweep and set_aside_claim, which have deleted the steps' live rows.

create function tasker_core_v1.set_aside(p_tasks bigint[], p_positions integer[], p_errors jsonb[]) returns void
language sql volatile as $$
  insert into tasker_waiting_steps (task_id, position, run_at, reason, error)
  select task_id, position, tasker_core_v1.current_time() + interval '5 minutes', 'unreadable', error
  from unnest(p_tasks, p_positions, p_errors) as step(task_id, position, error)
  where error is not null;
$$;
