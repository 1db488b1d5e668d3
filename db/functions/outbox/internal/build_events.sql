-- What is told of changes: events with all that their names promise (docs/events.md), of which those that a durable
-- subscription wants go into the outbox, in the transaction of the change.
-- p_events: [{name, task_id, position (null: of the task), facts: what else its payload has}], in their order
-- answers:  [{name, correlation_id, payload}], in the same order
-- Called by finish_steps and create_tasks while there are subscriptions, and by the operator's verbs, which answer it. They
-- hold the task's lock by then, so the numbers of a task's events in the outbox are in the order of its changes.

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
      jsonb_build_object('task_id', t.id, 'task_uuid', t.uuid, 'namespace', v.namespace, 'workflow', v.name, 'version', v.version)
        || case when d.name is null then '{}' else jsonb_build_object('step', d.name) end
        || coalesce(e.event->'facts', '{}'))
    order by e.number)
  into v_events
  from jsonb_array_elements(p_events) with ordinality as e(event, number)
  join tasker_tasks t on t.id = any(array[(e.event->>'task_id')::bigint])
  join tasker_workflow_versions v on v.id = any(array[t.workflow_version_id])
  left join lateral (
    select name
    from tasker_step_definitions
    where workflow_version_id = t.workflow_version_id and position = (e.event->>'position')::integer
    limit 1
  ) as d on true;

  perform tasker_core_v1.store_events(v_events);
  return v_events;
end
$$;
