-- Builds the events for a set of changes, with the fields that docs/events.md lists, and stores those with a durable
-- subscriber in the outbox.
-- p_events: [{name, task_id, position (null for an event of the task), facts: further fields of the payload}], in
-- order.
-- Returns [{name, correlation_id, payload}] in the same order.
-- Called by finish_steps and create_tasks while there are subscriptions, and by functions for operators, which return
-- the events. They hold the task's lock, so the numbers of a task's events in the outbox follow the order of its
-- changes.

create function tasker_core_v1.build_events(p_events jsonb) returns jsonb
language plpgsql as $$
declare
  v_events jsonb;
begin
  select jsonb_agg(
    jsonb_build_object(
      'name', e.event->>'name',
      'correlation_id', t.correlation_id,
      'payload',
      jsonb_build_object(
        'task_id', t.id, 'task_uuid', t.uuid, 'namespace', v.namespace, 'workflow', v.name, 'version', v.version)
        || case when d.name is null then '{}' else jsonb_build_object('step', d.name) end
        || coalesce(e.event->'facts', '{}'))
    order by e.number)
  into v_events
  from jsonb_array_elements(p_events) with ordinality as e(event, number)
  join tasker_tasks t on t.id = any(array[(e.event->>'task_id')::bigint])
  join tasker_workflow_versions v on v.id = any(array[t.workflow_version_id])
  left join lateral tasker_core_v1.step_definition(t.workflow_version_id, (e.event->>'position')::integer) as d on true;

  perform tasker_core_v1.store_events(v_events);
  return v_events;
end
$$;
