-- Returns the results of a step's parents by position, and the positions of those longer than p_share, which are not
-- read.
-- Called by insert_claims, into which PostgreSQL inlines it. Index: the steps' primary key.

create function tasker_core_v1.parent_results(p_task bigint, p_parents integer[], p_share bigint)
returns table (results json, deferred json)
language sql stable as $$
  select
    json_object_agg(parent.position, p.result) filter (where (p.result_bytes > p_share) is not true),
    json_agg(parent.position) filter (where p.result_bytes > p_share)
  from unnest(p_parents) as parent(position)
  cross join lateral (
    select result, result_bytes
    from tasker_workflow_steps
    where task_id = p_task and position = parent.position
    limit 1
  ) as p;
$$;
