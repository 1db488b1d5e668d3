-- Returns workflow versions that can be removed: created before p_before, replaced by another version before
-- p_before, and without a task. Up to p_limit of them (null: all), the oldest first, with up to 10,000 steps
-- together, or one with more.
-- Called by prune, which removes them in the same transaction. With p_dry_run takes no lock, so the result may be out
-- of date at once.
--
-- Locks: the table of versions, exclusively, until the transaction ends, so that no transaction can create a task of
-- such a version unseen. It takes the lock only when there is something to remove, and gives up after 100 ms, as
-- claims wait for it. In a transaction with a single snapshot the second scan would see no more than the first:
-- returns none there.

create function tasker_core_v1.unused_versions(
  p_before timestamptz,
  p_limit integer,
  p_dry_run boolean
) returns bigint[]
language plpgsql set lock_timeout = '100ms' as $$
declare
  v_versions bigint[];
begin
  if not p_dry_run and current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    return '{}';
  end if;

  for v_scan in 1..2 loop
    v_versions := array(
      select id
      from (
        select v.id, row_number() over (order by v.id) as number, sum(d.steps) over (order by v.id) as steps
        from (
          select v.id
          from tasker_workflow_versions v
          where v.created_at < p_before
            and exists (
              select
              from tasker_workflow_versions later
              where later.namespace = v.namespace and later.name = v.name
                and later.id > v.id
                and later.created_at < p_before)
            and not exists (select from tasker_tasks t where t.workflow_version_id = v.id)
          order by v.id
          limit p_limit
        ) as v
        cross join lateral (
          select count(*) as steps
          from tasker_step_definitions
          where workflow_version_id = any(array[v.id])
        ) as d
      ) as unused
      where number = 1 or steps <= 10000 or p_limit is null
      order by id);
    exit when p_dry_run or v_scan = 2 or v_versions = '{}';

    lock table tasker_workflow_versions in access exclusive mode;
  end loop;

  return v_versions;
exception
  when lock_not_available then return '{}';
end
$$;
