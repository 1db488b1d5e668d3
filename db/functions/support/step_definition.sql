-- Returns the definition of a step, from its workflow version and position; no row if there is none.
-- Called by functions that read one definition for each of many steps. PostgreSQL inlines it, and `limit 1` keeps the
-- lookup by both columns (db/README.md, "Plans"). Index: the primary key.

create function tasker_core_v1.step_definition(p_version bigint, p_position integer)
returns table (
  name text,
  handler text,
  queue text,
  priority integer,
  dependencies integer[],
  dependents integer[],
  max_attempts integer,
  backoff text,
  base_ms integer,
  factor float,
  cap_ms integer,
  jitter float,
  timeout_ms integer,
  system text,
  dispatch text,
  config jsonb
)
language sql stable as $$
  select d.name, d.handler, d.queue, d.priority, d.dependencies, d.dependents, d.max_attempts, d.backoff, d.base_ms,
    d.factor, d.cap_ms, d.jitter, d.timeout_ms, d.system, d.dispatch, d.config
  from tasker_step_definitions d
  where d.workflow_version_id = p_version and d.position = p_position
  limit 1;
$$;
