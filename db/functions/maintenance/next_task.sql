-- Returns {id, uuid} of the next task: the first after the id p_after, or, when that is null, the first after the uuid
-- p_after_uuid (null: from the beginning), with p_keep only if it was created longer ago, as in prune. Null at the end.
-- Called by maintenance to skip a task that it cannot process.
-- Locks: none. Indexes: the primary key, and the one on uuid.

create function tasker_core_v1.next_task(
  p_after bigint,
  p_after_uuid uuid,
  p_keep interval default null
) returns json
language plpgsql stable as $$
begin
  if p_after is not null then
    return (
      select json_build_object('id', id, 'uuid', uuid) from tasker_tasks where id > p_after order by id limit 1);
  end if;
  return (
    select json_build_object('id', id, 'uuid', uuid)
    from tasker_tasks
    where uuid > coalesce(p_after_uuid, '00000000-0000-0000-0000-000000000000')
      and (p_keep is null or uuid < tasker_core_v1.uuid_v7_floor(tasker_core_v1.current_time() - p_keep))
    order by uuid
    limit 1);
end
$$;
