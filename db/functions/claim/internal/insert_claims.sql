-- Records p_process's claims on the given steps, and returns them in input order. No other process can claim the steps:
-- claim_steps deletes the ready rows first; advance_tasks never inserts them.
-- Returns {versions: {id: digest}, claims: [{token, task_id, task_uuid, version_id, position, attempt, correlation_id,
-- parent_correlation_id, tags, trace_context, input, results: of the step's parents, keyed by position, deferred}]}.
-- Only per-claim data is returned; callers cache the rest (workflow_definition).
-- p_inline_bytes limits the payloads of each claim, so that the result stays below 1 GB, PostgreSQL's limit for a text.
-- If any are left out, `deferred` is {input: bool, results: [positions]}, otherwise null; task_input and
-- ancestor_results return them. If p_inline_bytes is 0, claims carry no payloads. If null, for callers that cache no
-- definitions, the result is an array of whole claims with all payloads (describe_claims).
-- p_dispatch: `claimed` by a dispatcher, whose job must start within p_start_timeout, or `started` by the process that
-- runs the job (adopt_claim). Null for workers' claims.
-- The grace period covers time queued in the worker and delivery of the result. Raises TC005 for an unknown process.

create function tasker_core_v1.insert_claims(
  p_process bigint,
  p_tasks bigint[],
  p_positions integer[],
  p_ready_at timestamptz[],
  p_inline_bytes integer default null,
  p_dispatch text default null,
  p_start_timeout interval default null
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_inline_budget bigint := coalesce(p_inline_bytes, 9223372036854775807); -- bigint's maximum: no limit
  v_grace interval := (select lease_grace from tasker_processes where id = p_process);
  v_claims json;
  v_versions json;
begin
  if v_grace is null then
    perform tasker_core_v1.raise_error('TC005',
      format('process %s is not registered: it never was, has ended or was declared dead',
        coalesce(p_process::text, 'null')),
      jsonb_build_object('process', p_process));
  end if;

  with claim as (
    select tasker_core_v1.next_token() as token, r.*, s.attempts + 1 as attempt, d.timeout_ms, d.dependencies,
      t.workflow_version_id, t.uuid, t.correlation_id, t.parent_correlation_id, t.tags,
      i.trace_context, i.input, i.input_bytes > v_inline_budget as input_deferred,
      (v_inline_budget - case when i.input_bytes > v_inline_budget then 0 else i.input_bytes end)
        / greatest(cardinality(d.dependencies), 1) as bytes_per_parent
    from unnest(p_tasks, p_positions, p_ready_at) with ordinality as r(task_id, position, ready_at, number)
    cross join lateral (
      select attempts from tasker_workflow_steps where task_id = r.task_id and position = r.position limit 1
    ) as s
    join tasker_tasks t on t.id = any(array[r.task_id])
    join tasker_task_inputs i on i.task_id = any(array[r.task_id])
    cross join lateral tasker_core_v1.step_definition(t.workflow_version_id, r.position) as d
  ), claimed as (
    insert into tasker_claimed_steps (
      token, process_id, task_id, position, attempt, ready_at, claimed_at, deadline, dispatch)
    select token, p_process, task_id, position, attempt, ready_at, v_now,
      v_now + coalesce(p_start_timeout, make_interval(secs => timeout_ms / 1000.0) + v_grace), p_dispatch
    from claim
  )
  select
    json_agg(json_build_object(
      'token', claim.token, 'task_id', claim.task_id, 'task_uuid', claim.uuid, 'version_id', claim.workflow_version_id,
      'position', claim.position, 'attempt', claim.attempt, 'correlation_id', claim.correlation_id,
      'parent_correlation_id', claim.parent_correlation_id, 'tags', claim.tags,
      'trace_context', claim.trace_context,
      'input', case when not claim.input_deferred then claim.input end,
      'results', parents.results,
      'deferred', case when claim.input_deferred or parents.deferred is not null then
        json_build_object('input', claim.input_deferred, 'results', coalesce(parents.deferred, '[]')) end
    ) order by claim.number),
    (select json_object_agg(id, digest) from tasker_workflow_versions
      where id = any(array(select distinct workflow_version_id from claim)))
  into v_claims, v_versions
  from claim
  cross join lateral tasker_core_v1.parent_results(task_id, dependencies, bytes_per_parent) as parents;

  return case
    when p_inline_bytes is null then tasker_core_v1.describe_claims(coalesce(v_claims, '[]'))
    else json_build_object('versions', coalesce(v_versions, '{}'), 'claims', coalesce(v_claims, '[]'))
  end;
end
$$;
