-- Returns what claims leave out because it is the same for every task of a workflow version: {digest, namespace,
-- workflow, version, steps: [{step, handler, queue, system, max_attempts, timeout_ms, config, dependencies:
-- [positions]}] by position}, or null for an unknown id.
-- Called by workers for claims of a version that they have not cached. Locks: none. Indexes: primary keys.

create function tasker_core_v1.workflow_definition(p_version bigint) returns json
language plpgsql stable as $$
begin
  return (
    select json_build_object(
      'digest', v.digest,
      'namespace', v.namespace,
      'workflow', v.name,
      'version', v.version,
      'steps', (
        select json_agg(json_build_object(
            'step', d.name,
            'handler', d.handler,
            'queue', d.queue,
            'system', d.system,
            'max_attempts', d.max_attempts,
            'timeout_ms', d.timeout_ms,
            'config', d.config,
            'dependencies', d.dependencies
          ) order by d.position)
        from tasker_step_definitions d
        where d.workflow_version_id = p_version
      ))
    from tasker_workflow_versions v
    where v.id = p_version);
end
$$;
