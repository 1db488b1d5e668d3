-- Inserts claims of a process on steps and returns them in the order of the steps. The caller has made sure that no
-- other process can claim them: claim_steps has deleted the ready rows, advance_tasks has inserted none.
-- Returns {versions: {id: digest}, claims: [{token, task_id, task_uuid, version_id, position, attempt,
-- correlation_id, parent_correlation_id, tags, input, results: {position: result} of its parents, deferred}]}: what
-- differs from claim to claim. The rest is in the workflow's definition, which callers keep (workflow_definition).
--
-- p_inline_bytes bounds the payloads of each claim, so that PostgreSQL can build the result. Payloads that do not fit
-- are not read: `deferred`, else null, is {input: whether it is left out, results: [positions]}; task_input and
-- ancestor_results return them. With 0 claims carry no payloads. With null, for callers that keep no definitions, the
-- result is an array of whole claims with all payloads (describe_claims). A lease lasts for the step's time limit,
-- counted from the claim, plus the process's grace for waiting and delivery.
-- Raises TC005 for a process that is not registered.

create function tasker_core_v1.insert_claims(
  p_process bigint,
  p_tasks bigint[],
  p_positions integer[],
  p_ready_at timestamptz[],
  p_inline_bytes integer default null
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_inline bigint := coalesce(p_inline_bytes, 9223372036854775807);
  v_grace interval := (select lease_grace from tasker_processes where id = p_process);
  v_claims json;
  v_versions json;
begin
  if v_grace is null then
    perform tasker_core_v1.raise_error('TC005',
      format('process %s is not registered: it was declared dead or has ended', p_process),
      jsonb_build_object('process', p_process));
  end if;

  with wanted as (
    select tasker_core_v1.next_token() as token, r.*, s.attempts + 1 as attempt, d.timeout_ms, d.dependencies,
      t.workflow_version_id, t.uuid, t.correlation_id, t.parent_correlation_id, t.tags,
      i.input, i.input_bytes > v_inline as input_deferred,
      (v_inline - case when i.input_bytes > v_inline then 0 else i.input_bytes end)
        / greatest(cardinality(d.dependencies), 1) as share
    from unnest(p_tasks, p_positions, p_ready_at) with ordinality as r(task_id, position, ready_at, number)
    cross join lateral (
      select attempts from tasker_workflow_steps where task_id = r.task_id and position = r.position limit 1
    ) as s
    join tasker_tasks t on t.id = any(array[r.task_id])
    join tasker_task_inputs i on i.task_id = any(array[r.task_id])
    cross join lateral (
      select timeout_ms, dependencies from tasker_step_definitions
      where workflow_version_id = t.workflow_version_id and position = r.position limit 1
    ) as d
  ), claimed as (
    insert into tasker_claimed_steps (token, process_id, task_id, position, attempt, ready_at, claimed_at, deadline)
    select token, p_process, task_id, position, attempt, ready_at, v_now,
      v_now + make_interval(secs => timeout_ms / 1000.0) + v_grace
    from wanted
  )
  select
    json_agg(json_build_object(
      'token', w.token, 'task_id', w.task_id, 'task_uuid', w.uuid, 'version_id', w.workflow_version_id,
      'position', w.position, 'attempt', w.attempt, 'correlation_id', w.correlation_id,
      'parent_correlation_id', w.parent_correlation_id, 'tags', w.tags,
      'input', case when not w.input_deferred then w.input end,
      'results', parents.results,
      'deferred', case when w.input_deferred or parents.deferred is not null then
        json_build_object('input', w.input_deferred, 'results', coalesce(parents.deferred, '[]')) end
    ) order by w.number),
    (
      select json_object_agg(id, digest)
      from tasker_workflow_versions
      where id = any(array(select distinct workflow_version_id from wanted))
    )
  into v_claims, v_versions
  from wanted w
  cross join lateral tasker_core_v1.parent_results(w.task_id, w.dependencies, w.share) as parents;

  return case
    when p_inline_bytes is null then tasker_core_v1.describe_claims(coalesce(v_claims, '[]'))
    else json_build_object('versions', coalesce(v_versions, '{}'), 'claims', coalesce(v_claims, '[]'))
  end;
end
$$;
