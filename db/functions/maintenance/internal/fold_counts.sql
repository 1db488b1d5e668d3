-- Replaces rows of tasker_counts with their sum, one row for each workflow and one for processes. A workflow with a
-- single row is left alone, so that nothing is written while nothing happens.
-- Called by sweep; several sessions may run it at once. Locks: the rows, `for update skip locked`.

create function tasker_core_v1.fold_counts(p_limit integer default 10000) returns void
language plpgsql as $$
declare
  v_began timestamptz := clock_timestamp();
  v_before jsonb := tasker_core_v1.scan_mark('tasker_counts');
  v_first bigint := coalesce((v_before->>'id')::bigint, 0);
begin
  with locked as materialized (
    select *
    from tasker_counts
    where id >= v_first
    order by id
    limit p_limit
    for update skip locked
  ), folded as materialized (
    select namespace, workflow, array_agg(id) as ids, sum(created) as created, sum(completed) as completed,
      sum(failed) as failed, sum(cancelled) as cancelled, sum(resolved) as resolved, sum(reopened) as reopened,
      sum(removed_complete) as removed_complete, sum(removed_error) as removed_error,
      sum(removed_cancelled) as removed_cancelled, sum(removed_resolved) as removed_resolved,
      sum(attempts_completed) as attempts_completed, sum(attempts_failed) as attempts_failed,
      sum(attempts_released) as attempts_released, sum(attempts_lost) as attempts_lost,
      tasker_core_v1.sum_stats(jsonb_agg(stats) filter (where stats is not null)) as stats
    from locked
    group by namespace, workflow
    having count(*) > 1
  ), deleted as (
    delete from tasker_counts where id = any(array(select unnest(ids) from folded))
  ), inserted as (
    insert into tasker_counts (
      namespace, workflow, created, completed, failed, cancelled, resolved, reopened, removed_complete, removed_error,
      removed_cancelled, removed_resolved, attempts_completed, attempts_failed, attempts_released, attempts_lost, stats)
    select
      namespace, workflow, created, completed, failed, cancelled, resolved, reopened, removed_complete, removed_error,
      removed_cancelled, removed_resolved, attempts_completed, attempts_failed, attempts_released, attempts_lost, stats
    from folded
  )
  select min(id) into v_first from locked;

  perform tasker_core_v1.save_scan_mark(
    'tasker_counts', v_before, jsonb_build_object('id', coalesce(v_first, 0)), v_began, '20 ms');
end
$$;
