-- Which task does a chore come to next: the first after the id p_after, or with that null the first after the uuid (null:
-- the beginning)? {id, uuid}, null at the end. Called by maintenance to pass over a task that it cannot look at.
-- Locks: none. Indexes: the primary key, the one on uuid.

create function tasker_core_v1.next_task(p_after bigint, p_after_uuid uuid) returns json
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
    order by uuid
    limit 1);
end
$$;
