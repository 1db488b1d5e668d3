-- Adds to claims what their workflow definitions say about their steps, for callers that keep no definitions: tests,
-- the testing kit, and people at a console. Called by insert_claims. Locks: none. Indexes: primary keys.
-- Returns [{token, task_id, task_uuid, position, step, workflow, namespace, version, handler, attempt, max_attempts,
-- timeout_ms, queue, system, correlation_id, parent_correlation_id, tags, input, config, dependencies, results}], the
-- form that workers build themselves (ext/orchestrator/src/database/definitions.rs).

create function tasker_core_v1.describe_claims(p_claims json) returns json
language plpgsql stable as $$
begin
  return (
    select coalesce(json_agg(json_build_object(
        'token', c.claim->'token',
        'task_id', c.claim->'task_id',
        'task_uuid', c.claim->'task_uuid',
        'position', c.claim->'position',
        'step', d.name,
        'workflow', v.name,
        'namespace', v.namespace,
        'version', v.version,
        'handler', d.handler,
        'attempt', c.claim->'attempt',
        'max_attempts', d.max_attempts,
        'timeout_ms', d.timeout_ms,
        'queue', d.queue,
        'system', d.system,
        'correlation_id', c.claim->'correlation_id',
        'parent_correlation_id', c.claim->'parent_correlation_id',
        'tags', c.claim->'tags',
        'input', c.claim->'input',
        'config', d.config,
        'dependencies', parents.names,
        'results', parents.results
      ) order by c.number), '[]')
    from json_array_elements(p_claims) with ordinality as c(claim, number)
    join tasker_workflow_versions v on v.id = any(array[(c.claim->>'version_id')::bigint])
    cross join lateral tasker_core_v1.step_definition(v.id, (c.claim->>'position')::integer) as d
    cross join lateral (
      select
        coalesce(json_agg(p.name order by parent.position), '[]') as names,
        coalesce(json_object_agg(p.name, c.claim->'results'->parent.position::text order by parent.position), '{}')
          as results
      from unnest(d.dependencies) as parent(position)
      cross join lateral tasker_core_v1.step_definition(v.id, parent.position) as p
    ) as parents);
end
$$;
