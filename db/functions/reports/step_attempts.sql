-- Returns the attempts of tasks, those that run included. A running attempt is a claim: its outcome is 'running', it
-- has no end, and started_at is the time of the claim, as only the process knows when the handler started. A claim
-- whose job no process has started is no attempt yet. `seconds` is from start to end, or to now. Read by models,
-- pages, the API and the command line.
-- Index: the attempts' primary key. Claims have no index by task: their table is read once for all tasks.

create function tasker_core_v1.step_attempts(p_tasks bigint[])
returns table (
  task_id bigint,
  "position" integer,
  token bigint,
  attempt integer,
  process_id bigint,
  ready_at timestamptz,
  claimed_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  outcome text,
  error jsonb,
  seconds float
)
language sql stable as $$
  select a.task_id, a.position, a.token, a.attempt, a.process_id, a.ready_at, a.claimed_at, a.started_at, a.finished_at,
    a.outcome, a.error, extract(epoch from a.finished_at - a.started_at)::float
  from tasker_step_attempts a
  where a.task_id = any(p_tasks)
  union all
  select c.task_id, c.position, c.token, c.attempt, c.process_id, c.ready_at, c.claimed_at, c.claimed_at, null,
    'running', null, extract(epoch from clock.now - c.claimed_at)::float
  from tasker_claimed_steps c
  cross join (select tasker_core_v1.current_time() as now) as clock
  where c.task_id = any(p_tasks)
    and (c.dispatch is null or c.dispatch = 'started');
$$;
