-- Checks up to p_limit tasks after the id p_after against the invariants; from the beginning (0) also finds live rows
-- that belong to no step. One statement, so that it sees one committed state.
-- Returns {findings: [{task_id, position, rule, explanation}], after: for the next call, null at the end}.
-- Called by maintenance, by `tasker audit` and by tests; repair_task repairs what can be repaired.
--
-- Rules:
--   I1 a step has at most one live row (ready, claimed, waiting), and none when it has ended
--   I2 a step has at most one successful attempt
--   I3 a child starts when all its parents are done, not before
--   I4 a task has live rows until it ends, and none after
--   I5 a complete step has a successful attempt, or was completed by an operator
--   I6 the sequence of tokens is past every token that was drawn from it (next_token); after a partial restore it may
--      be behind, and would draw them again
--   counters: active, remaining, pending_parents and attempts agree with the rows
--   rows: none is missing

create function tasker_core_v1.audit(p_after bigint, p_limit integer) returns json
language sql stable as $$
  with task as materialized (
    select *
    from tasker_tasks
    where id > p_after
    order by id
    limit p_limit
  ), live_row as not materialized (
    select task_id, position, 'ready' as kind from tasker_ready_steps
    union all
    select task_id, position, 'claimed' from tasker_claimed_steps
    union all
    select task_id, position, 'waiting' from tasker_waiting_steps
  ), live as materialized (
    select task_id, position, kind
    from live_row
    where task_id between (select min(id) from task) and (select max(id) from task)
  ), live_step as materialized (
    select task_id, position, count(*) as rows, string_agg(kind, ', ' order by kind) as kinds
    from live
    group by task_id, position
  ), step as materialized (
    select s.task_id, s.position, s.state, s.pending_parents, s.attempts, d.name, d.max_attempts,
      coalesce(cardinality(d.dependencies), 0) as parents, parent.done as parents_done, t.state as task_state,
      coalesce(l.rows, 0) as live_rows, l.kinds,
      history.attempts as attempts_made, history.successes, history.last_token
    from task t
    join tasker_workflow_steps s on s.task_id = any(array[t.id])
    left join lateral tasker_core_v1.step_definition(t.workflow_version_id, s.position) as d on true
    left join live_step l on l.task_id = s.task_id and l.position = s.position
    cross join lateral (
      select count(*) as done
      from unnest(d.dependencies) as dependency(position)
      cross join lateral (
        select state from tasker_workflow_steps where task_id = s.task_id and position = dependency.position limit 1
      ) as p
      where p.state in ('complete', 'resolved_manually')
    ) as parent
    cross join lateral (
      select count(*) as attempts, count(*) filter (where outcome = 'completed') as successes, max(token) as last_token
      from tasker_step_attempts a
      where a.task_id = s.task_id and a.position = s.position
    ) as history
  ), live_task as (
    select task_id, sum(rows) as rows
    from live_step
    group by task_id
  ), step_task as (
    select task_id, count(*) as steps, count(*) filter (where state not in ('complete', 'resolved_manually')) as undone
    from step
    group by task_id
  ), version as (
    select id, (select count(*) from tasker_step_definitions d where d.workflow_version_id = v.id) as defined
    from tasker_workflow_versions v
    where id in (select workflow_version_id from task)
  ), tally as materialized (
    select t.id, t.state, t.active, t.remaining, t.ended_at,
      coalesce(l.rows, 0) as live, coalesce(s.steps, 0) as steps, coalesce(s.undone, 0) as undone,
      coalesce(v.defined, 0) as defined, i.task_id is not null as has_input
    from task t
    left join live_task l on l.task_id = t.id
    left join step_task s on s.task_id = t.id
    left join version v on v.id = t.workflow_version_id
    left join tasker_task_inputs i on i.task_id = any(array[t.id])
  ), finding(task_id, position, rule, explanation) as (
    select task_id, position, 'I1', format('step %s has %s live rows: %s', name, live_rows, kinds)
    from step
    where live_rows > 1
    union all
    select task_id, position, 'I1', format('step %s is %s and has a live row: %s', name, state, kinds)
    from step
    where live_rows > 0 and state <> 'pending'
    union all
    select task_id, position, 'I2', format('step %s has %s successful attempts', name, successes)
    from step
    where successes > 1
    union all
    select task_id, position, 'I3',
      format('step %s started with %s of %s parents done', name, parents_done, parents)
    from step
    where (live_rows > 0 or attempts_made > 0) and parents_done < parents
    union all
    select task_id, position, 'I4', format('step %s can run, but nothing will start it', name)
    from step
    where task_state in ('pending', 'error') and state = 'pending' and parents_done = parents and live_rows = 0
    union all
    select task_id, position, 'I5', format('step %s is complete without a successful attempt', name)
    from step
    where state = 'complete'
      and successes = 0
      and not exists (
        select from tasker_task_events e
        where e.task_id = step.task_id and e.position = step.position and e.action = 'complete')
    union all
    select task_id, position, 'I6',
      format('step %s has an attempt with token number %s, but the sequence of tokens is at %s: advance it, '
        || 'select setval(''tasker_claimed_steps_token_seq'', %s)', name, last_token >> 20, drawn, last_token >> 20)
    from step
    cross join (select coalesce(pg_sequence_last_value('tasker_claimed_steps_token_seq'), 0) as drawn) as token
    where last_token >> 20 > drawn
    union all
    select task_id, position, 'counters', format('step %s: pending_parents is %s, but %s of %s parents are not done',
      name, pending_parents, parents - parents_done, parents)
    from step
    where state = 'pending' and pending_parents <> parents - parents_done
    union all
    select task_id, position, 'counters', format('step %s: attempts is %s, but %s of %s were made',
      name, attempts, attempts_made, max_attempts)
    from step
    where attempts > least(attempts_made, max_attempts)
    union all
    select id, null, 'I4', format('the task is %s and has %s live rows', state, live)
    from tally
    where state <> 'pending' and live > 0
    union all
    select id, null, 'I4', format('the task has not ended, but no step is active')
    from tally
    where state = 'pending' and live = 0
    union all
    select id, null, 'counters', format('active is %s, but the task has %s live rows', active, live)
    from tally
    where active <> live
    union all
    select id, null, 'counters', format('remaining is %s, but %s steps are not done', remaining, undone)
    from tally
    where remaining <> undone
    union all
    select id, null, 'counters', format('the task is %s with %s steps not done', state, undone)
    from tally
    where (state = 'complete' and undone > 0) or (state = 'error' and undone = 0)
    union all
    select id, null, 'counters', format('the task is %s, but ended_at is %s', state,
      coalesce(ended_at::text, 'missing'))
    from tally
    where (state = 'pending') <> (ended_at is null)
    union all
    select id, null, 'rows', format('the task has %s steps of %s%s', steps, defined,
      case when has_input then '' else ' and no input' end)
    from tally
    where steps <> defined or not has_input
    union all
    select task_id, position, 'rows', format('a %s row refers to a step that does not exist', kind)
    from live_row l
    where p_after = 0
      and not exists (
        select from tasker_workflow_steps s where s.task_id = l.task_id and s.position = l.position)
  )
  select json_build_object(
    'findings', coalesce(
      (
        select json_agg(json_build_object(
            'task_id', task_id, 'position', position, 'rule', rule, 'explanation', explanation)
          order by task_id, position nulls first, rule, explanation)
        from finding
      ), '[]'),
    'after', (select max(id) from task having count(*) >= p_limit));
$$;
