-- Stores an immutable version of a workflow with its steps. A version that is stored already stays as it is.
-- Returns {id, emitted: the events of a new version, as build_events returns them}.
-- Raises TC001 when the version is registered with another digest.
-- Called by each process before it creates the first task of a version. Locks: only those of the unique index.

create function tasker_core_v1.register_workflow(p_definition jsonb) returns json
language plpgsql as $$
declare
  v_id bigint;
  v_digest text;
  v_events jsonb;
begin
  insert into tasker_workflow_versions (namespace, name, version, digest, definition, created_at)
  values (
    p_definition->>'namespace', p_definition->>'name', p_definition->>'version', p_definition->>'digest',
    p_definition, tasker_core_v1.current_time())
  on conflict (namespace, name, version) do nothing
  returning id into v_id;

  if v_id is null then
    select id, digest into v_id, v_digest
    from tasker_workflow_versions
    where (namespace, name, version)
      = (p_definition->>'namespace', p_definition->>'name', p_definition->>'version');

    if v_digest <> p_definition->>'digest' then
      perform tasker_core_v1.raise_error('TC001',
        format('workflow %s.%s has changed since version %s was registered: give it another version',
          p_definition->>'namespace', p_definition->>'name', p_definition->>'version'),
        jsonb_build_object(
          'namespace', p_definition->>'namespace', 'workflow', p_definition->>'name',
          'version', p_definition->>'version', 'registered_digest', v_digest,
          'digest', p_definition->>'digest'));
    end if;
    return json_build_object('id', v_id, 'emitted', '[]'::json);
  end if;

  insert into tasker_step_definitions (
    workflow_version_id, position, name, handler, queue, priority, level, dependencies, dependents,
    max_attempts, backoff, base_ms, factor, cap_ms, jitter, timeout_ms, system, dispatch, config)
  select
    v_id, s.position, s.name, s.handler, s.queue, s.priority, s.level, s.dependencies, s.dependents,
    s.max_attempts, s.backoff, s.base_ms, s.factor, s.cap_ms, s.jitter, s.timeout_ms, s.system,
    tasker_core_v1.step_dispatch(s.dispatch, s.queue, p_definition->'dispatched_queues'), s.config
  from jsonb_to_recordset(p_definition->'steps') as s (
    position integer, name text, handler text, queue text, priority integer, level integer,
    dependencies integer[], dependents integer[], max_attempts integer, backoff text, base_ms integer,
    factor float, cap_ms integer, jitter float, timeout_ms integer, system text, dispatch text, config jsonb);

  v_events := jsonb_build_array(jsonb_build_object(
    'name', 'workflow.registered',
    'correlation_id', null,
    'payload', jsonb_build_object(
      'namespace', p_definition->'namespace', 'workflow', p_definition->'name', 'version', p_definition->'version',
      'steps', jsonb_array_length(p_definition->'steps'))));
  perform tasker_core_v1.store_events(v_events);
  return json_build_object('id', v_id, 'emitted', v_events);
end
$$;
