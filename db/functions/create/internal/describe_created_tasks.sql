-- Returns the result of create_tasks for requests with these ids, tasks and versions: [{id, uuid, correlation_id,
-- existing, queues: of the roots}]. A task with another id than was reserved for its request existed before.

create function tasker_core_v1.describe_created_tasks(p_ids bigint[], p_found_ids bigint[], p_version_ids bigint[])
returns json
language plpgsql stable as $$
begin
  return (
    select coalesce(json_agg(json_build_object(
      'id', t.id,
      'uuid', t.uuid,
      'correlation_id', t.correlation_id,
      'existing', r.found_id <> r.id,
      'queues', array(
        select distinct d.queue
        from tasker_step_definitions d
        where d.workflow_version_id = any(array[r.version_id]) and d.dependencies = '{}')
    ) order by r.number), '[]')
    from unnest(p_ids, p_found_ids, p_version_ids) with ordinality as r(id, found_id, version_id, number)
    join tasker_tasks t on t.id = any(array[r.found_id]));
end
$$;
