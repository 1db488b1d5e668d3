-- Gives claims on steps to a process and answers with all that their handlers need, as a JSON array in the
-- order of the steps. The caller has made sure that each step is nobody else's: claim_steps by the ready row
-- that it locked and deleted, finish_steps by having made the step ready itself.
-- A lease ends with the step's time limit, counted from the claim, and the process's grace for waiting and
-- delivery. A process that is not registered (any more) gets nothing: TC005.

create function tasker_core_v1.open_claims(
  p_process bigint,
  p_tasks bigint[],
  p_positions integer[],
  p_ready_at timestamptz[]
) returns json
language plpgsql as $$
declare
  v_now timestamptz := tasker_core_v1.current_time();
  v_grace interval;
  v_claims json;
begin
  select lease_grace into v_grace from tasker_processes where id = p_process;
  if not found then
    perform tasker_core_v1.refuse('TC005',
      format('process %s is not registered: it was given up for dead, or has ended', p_process),
      jsonb_build_object('process', p_process));
  end if;

  with wanted as (
    select tasker_core_v1.next_token() as token,
      r.number, r.task_id, r.position, r.ready_at,
      s.attempts + 1 as attempt,
      d.name, d.handler, d.queue, d.system, d.max_attempts, d.timeout_ms, d.config, d.dependencies,
      v.name as workflow, v.namespace, v.version,
      t.workflow_version_id, t.uuid, t.correlation_id, t.parent_correlation_id, t.tags,
      i.input
    from unnest(p_tasks, p_positions, p_ready_at) with ordinality as r(task_id, position, ready_at, number)
    cross join lateral (
      select attempts from tasker_workflow_steps where task_id = r.task_id and position = r.position limit 1
    ) as s
    join tasker_tasks t on t.id = any(array[r.task_id])
    join tasker_task_inputs i on i.task_id = any(array[r.task_id])
    join tasker_workflow_versions v on v.id = any(array[t.workflow_version_id])
    cross join lateral (
      select name, handler, queue, system, max_attempts, timeout_ms, config, dependencies
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
  select json_agg(json_build_object(
      'token', w.token,
      'task_id', w.task_id,
      'task_uuid', w.uuid,
      'position', w.position,
      'step', w.name,
      'workflow', w.workflow,
      'namespace', w.namespace,
      'version', w.version,
      'handler', w.handler,
      'attempt', w.attempt,
      'max_attempts', w.max_attempts,
      'timeout_ms', w.timeout_ms,
      'queue', w.queue,
      'system', w.system,
      'correlation_id', w.correlation_id,
      'parent_correlation_id', w.parent_correlation_id,
      'tags', w.tags,
      'input', w.input,
      'config', w.config,
      'dependencies', parents.names,
      'results', parents.results
    ) order by w.number)
  into v_claims
  from wanted w
  cross join lateral (
    select
      coalesce(json_agg(d.name order by parent.position), '[]') as names,
      coalesce(json_object_agg(d.name, p.result order by parent.position), '{}') as results
    from unnest(w.dependencies) as parent(position)
    cross join lateral (
      select result from tasker_workflow_steps where task_id = w.task_id and position = parent.position limit 1
    ) as p
    cross join lateral (
      select name
      from tasker_step_definitions
      where workflow_version_id = w.workflow_version_id and position = parent.position
      limit 1
    ) as d
  ) as parents;

  return coalesce(v_claims, '[]');
end
$$;
