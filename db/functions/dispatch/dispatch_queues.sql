-- Applies the setting `dispatch.queues` to workflow versions that are registered already, and to their ready steps, so
-- that no step waits for a dispatcher that no longer serves it. p_queues: an array of queues. Returns how many steps of
-- definitions changed. Called by workers when they start.
-- Locks: the advisory lock of dispatch_steps, the definitions and the ready rows that change.

create function tasker_core_v1.dispatch_queues(p_queues jsonb) returns integer
language plpgsql as $$
declare
  v_queues text[] := array(select jsonb_array_elements_text(p_queues));
  v_changed integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('tasker_core_v1.dispatch_steps', 0));

  with version as (
    select v.id, v.definition
    from tasker_workflow_versions v
    where exists (
      select
      from tasker_step_definitions d
      where d.workflow_version_id = v.id and (p_queues ? d.queue or d.dispatch is not null))
  ), wanted as (
    select version.id, s.position, tasker_core_v1.step_dispatch(s.dispatch, s.queue, p_queues) as dispatch
    from version
    cross join lateral jsonb_to_recordset(version.definition->'steps')
      as s (position integer, queue text, dispatch text)
  )
  update tasker_step_definitions d
  set dispatch = wanted.dispatch
  from wanted
  where d.workflow_version_id = wanted.id
    and d.position = wanted.position
    and d.dispatch is distinct from wanted.dispatch;
  get diagnostics v_changed = row_count;

  update tasker_ready_steps r
  set dispatched = not r.dispatched
  where r.ctid = any(array(
    select ready.ctid
    from tasker_ready_steps ready
    join tasker_tasks t on t.id = any(array[ready.task_id])
    cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, ready.position) as d
    where (ready.dispatched or ready.queue = any(v_queues)) and ready.dispatched <> (d.dispatch is not null)
    for update of ready skip locked));
  return v_changed;
end
$$;
