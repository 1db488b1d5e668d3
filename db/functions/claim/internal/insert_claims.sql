-- Gives claims on steps to a process and answers with what differs from claim to claim, in the order of the steps. The
-- caller has made sure that each step is nobody else's: claim_steps by the ready row that it locked and deleted,
-- finish_steps by having made the step ready itself.
-- A lease ends with the step's time limit, counted from the claim, and the process's grace for waiting and
-- delivery. A process that is not registered (any more) gets nothing: TC005.
--
-- Returns {versions: {id: digest}, claims: [{token, task_id, task_uuid, version_id, position, attempt, correlation_id,
-- parent_correlation_id, tags, input, results: {position: result} of its parents, deferred}]}. The rest of a claim is in
-- its workflow's definition, which does not change: callers keep it (workflow_definition).
-- p_inline_bytes bounds the payloads that each claim carries, so that no answer grows beyond what PostgreSQL can build. A
-- payload that does not fit is not read: `deferred`, else null, is {input: whether it is left out, results: [positions]};
-- task_input and ancestor_results return them. With 0 a claim carries no payload.
-- With p_inline_bytes null: for callers that keep no definitions, an array of whole claims with all payloads
-- (describe_claims).

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
  v_grace interval;
  v_claims json;
  v_versions json;
begin
  select lease_grace into v_grace from tasker_processes where id = p_process;
  if not found then
    perform tasker_core_v1.raise_error('TC005',
      format('process %s is not registered: it was given up for dead, or has ended', p_process),
      jsonb_build_object('process', p_process));
  end if;

  with wanted as (
    select tasker_core_v1.next_token() as token,
      r.number, r.task_id, r.position, r.ready_at,
      s.attempts + 1 as attempt,
      d.timeout_ms, d.dependencies,
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
      select timeout_ms, dependencies
      from tasker_step_definitions
      where workflow_version_id = t.workflow_version_id and position = r.position
      limit 1
    ) as d
  ), claimed as (
    insert into tasker_claimed_steps (token, process_id, task_id, position, attempt, ready_at, claimed_at, deadline)
    select token, p_process, task_id, position, attempt, ready_at, v_now,
      v_now + make_interval(secs => timeout_ms / 1000.0) + v_grace
    from wanted
  )
  select
    json_agg(json_build_object(
      'token', w.token,
      'task_id', w.task_id,
      'task_uuid', w.uuid,
      'version_id', w.workflow_version_id,
      'position', w.position,
      'attempt', w.attempt,
      'correlation_id', w.correlation_id,
      'parent_correlation_id', w.parent_correlation_id,
      'tags', w.tags,
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
  cross join lateral (
    select
      json_object_agg(parent.position, p.result) filter (where (p.result_bytes > w.share) is not true) as results,
      json_agg(parent.position) filter (where p.result_bytes > w.share) as deferred
    from unnest(w.dependencies) as parent(position)
    cross join lateral (
      select result, result_bytes
      from tasker_workflow_steps
      where task_id = w.task_id and position = parent.position
      limit 1
    ) as p
  ) as parents;

  if p_inline_bytes is null then
    return tasker_core_v1.describe_claims(coalesce(v_claims, '[]'));
  end if;
  return json_build_object('versions', coalesce(v_versions, '{}'), 'claims', coalesce(v_claims, '[]'));
end
$$;
