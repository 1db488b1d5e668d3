-- Returns counts (as count_task takes them) that change how many tasks are counted in each state by these numbers, and
-- leave the totals of created and ended tasks as they are. Called by repair_task and recount_tasks.

create function tasker_core_v1.count_corrections(
  p_pending bigint,
  p_complete bigint,
  p_error bigint,
  p_cancelled bigint default 0,
  p_resolved bigint default 0
) returns jsonb
language sql immutable as $$
  select jsonb_build_object(
    'reopened', p_pending,
    'removed_complete', -p_complete,
    'removed_error', -p_error - p_pending,
    'removed_cancelled', -p_cancelled,
    'removed_resolved', -p_resolved);
$$;
