//! Random actions of several sessions on random workflows: the state is sound after every commit, and every task ends.
//!
//! A failure is shrunk and printed with its seed; `TASKER_SEED=… PROPTEST_CASES=1` repeats it. `bin/random-workflows`
//! continues until a number of commits is reached.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, Index};
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner};
use serde_json::{json, Value};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use support::{raw, World};
use tasker_orchestrator::{Configuration, TaskInitializer, Workflow};

const SESSIONS: usize = 3;
/// Calls of functions that have been committed, in all tests of this process.
static COMMITS: AtomicU64 = AtomicU64::new(0);
/// How long a process may be silent; a tick of the clock may be longer.
const PROCESS_TIMEOUT_S: i64 = 20;
/// How long a job may wait in the queue; a tick of the clock may be longer.
const START_TIMEOUT_S: i64 = 15;
/// Limit of steps that dispatchers have out.
const IN_FLIGHT: i64 = 4;

/// A workflow's step; parents are picked among the steps before it.
#[derive(Debug, Clone)]
struct StepSpec {
    parents: Vec<Index>,
    max_attempts: u32,
    backoff: &'static str,
    priority: i32,
    queue: &'static str,
    is_job: bool,
}

/// The next action and its target; an index selects one of those that exist then.
#[derive(Debug, Clone)]
enum Op {
    Claim { queue: &'static str, limit: i32 },
    Finish { picks: Vec<(Index, Ending)>, claim_limit: i32 },
    FinishAgain(Index),
    Release { pick: Index, delay_s: i32, begun: bool },
    Dispatch { queue: &'static str, limit: i32 },
    Confirm,
    Refuse,
    Adopt(Index),
    LoseJob(Index),
    Heartbeat,
    Forget(Index),
    Sweep,
    Tick(i64),
    Leave,
    Cancel(Index),
    ResolveTask(Index),
    RetryTask(Index),
    OnStep { action: StepAction, task: Index, step: Index },
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Completed,
    Failed,
    FailedForGood,
    FailedWithDelay,
}

#[derive(Debug, Clone, Copy)]
enum StepAction {
    Resolve,
    Complete,
    Retry,
    UpdateResult,
    RetryWaiting,
    Release,
}

impl StepAction {
    const ALL: [Self; 6] =
        [Self::Resolve, Self::Complete, Self::Retry, Self::UpdateResult, Self::RetryWaiting, Self::Release];
}

#[derive(Debug, Clone)]
struct Case {
    steps: Vec<StepSpec>,
    /// For each task, after how many seconds it starts; 0 is at once.
    tasks: Vec<i64>,
    script: Vec<(usize, Op)>,
}

fn step_spec() -> impl Strategy<Value = StepSpec> {
    let few = prop_oneof![3 => 0..=1usize, 3 => 1..=3usize, 1 => 4..=8usize];
    let parents = few.prop_flat_map(|count| vec(any::<Index>(), count));
    let backoff = select(vec!["none", "fixed", "linear", "exponential"]);
    let is_job = prop_oneof![2 => Just(false), 1 => Just(true)];
    (parents, 1..=3u32, backoff, -2..=2i32, select(vec!["a", "b"]), is_job).prop_map(
        |(parents, max_attempts, backoff, priority, queue, is_job)| StepSpec {
            parents,
            max_attempts,
            backoff,
            priority,
            queue,
            is_job,
        },
    )
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        6 => Just(Ending::Completed),
        2 => Just(Ending::Failed),
        1 => Just(Ending::FailedForGood),
        1 => Just(Ending::FailedWithDelay),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let queue = select(vec!["*", "*", "a", "b"]);
    let dispatched = queue.clone();
    let action = select(StepAction::ALL.to_vec());
    prop_oneof![
        6 => (queue, 1..=40i32).prop_map(|(queue, limit)| Op::Claim { queue, limit }),
        8 => (vec((any::<Index>(), ending()), 1..=30), 0..=10i32)
            .prop_map(|(picks, claim_limit)| Op::Finish { picks, claim_limit }),
        1 => any::<Index>().prop_map(Op::FinishAgain),
        1 => (any::<Index>(), 0..=3i32, any::<bool>()).prop_map(|(pick, delay_s, begun)| Op::Release { pick, delay_s, begun }),
        4 => (dispatched, 1..=10i32).prop_map(|(queue, limit)| Op::Dispatch { queue, limit }),
        3 => Just(Op::Confirm),
        1 => Just(Op::Refuse),
        6 => any::<Index>().prop_map(Op::Adopt),
        1 => any::<Index>().prop_map(Op::LoseJob),
        1 => Just(Op::Heartbeat),
        1 => any::<Index>().prop_map(Op::Forget),
        3 => Just(Op::Sweep),
        3 => (1..=30i64).prop_map(Op::Tick),
        1 => Just(Op::Leave),
        1 => any::<Index>().prop_map(Op::Cancel),
        1 => any::<Index>().prop_map(Op::ResolveTask),
        1 => any::<Index>().prop_map(Op::RetryTask),
        4 => (action, any::<Index>(), any::<Index>()).prop_map(|(action, task, step)| Op::OnStep { action, task, step }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let steps = prop_oneof![3 => vec(step_spec(), 1..=12), 2 => vec(step_spec(), 13..=200)];
    let start = prop_oneof![3 => Just(0i64), 1 => 1..=40i64];
    (steps, vec(start, 1..=3), vec((0..SESSIONS, op()), 1..=80)).prop_map(|(steps, tasks, script)| Case {
        steps,
        tasks,
        script,
    })
}

impl Case {
    fn definition(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .enumerate()
            .map(|(number, step)| {
                let parents: BTreeSet<usize> =
                    step.parents.iter().filter(|_| number > 0).map(|pick| pick.index(number)).collect();
                let depends_on: Vec<String> = parents.into_iter().map(|parent| format!("s{parent}")).collect();
                json!({
                    "name": format!("s{number}"), "handler": "h", "depends_on": depends_on, "queue": step.queue,
                    "priority": step.priority, "timeout": "10s",
                    "dispatch": if step.is_job { "active_job" } else { "worker" },
                    "retry": {"max_attempts": step.max_attempts, "backoff": step.backoff, "base": "2s", "cap": "30s"},
                })
            })
            .collect();
        json!({"name": "random", "steps": steps})
    }
}

/// Connections of earlier cases by database: a function's plans are made once for each connection.
static IDLE: Mutex<BTreeMap<String, Vec<PgConnection>>> = Mutex::new(BTreeMap::new());

/// A connection that goes back to the idle ones.
struct Line {
    url: String,
    connection: Option<PgConnection>,
}

impl Line {
    async fn open(url: &str) -> Self {
        let idle = IDLE.lock().unwrap().get_mut(url).and_then(Vec::pop);
        let connection = match idle {
            Some(connection) => connection,
            None => PgConnection::connect(url).await.unwrap(),
        };
        Self { url: url.to_owned(), connection: Some(connection) }
    }

    fn get(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is taken only when the line is dropped")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let connection = self.connection.take();
        IDLE.lock().unwrap().entry(self.url.clone()).or_default().extend(connection);
    }
}

/// One hand: a connection, its clock, the process it claims for, and the tokens that it believes it holds.
struct Session {
    line: Line,
    clock: Option<i64>,
    process: i64,
    /// What names each claim.
    held: Vec<Value>,
    spent: Vec<Value>,
    /// Its dispatched claims that are not confirmed.
    unconfirmed: Vec<Value>,
}

/// What all hands share: the tasks, and the clock.
struct Table {
    tasks: Vec<i64>,
    steps: usize,
    clock: AtomicI64,
    /// The jobs in the queue, which performs them in any order, late, and twice.
    jobs: Mutex<Vec<Value>>,
}

/// The outcome of a statement: a result, or one of our errors. Any other error fails the test.
type CallResult = Result<Option<Value>, TestCaseError>;

impl Session {
    async fn open(world: &World) -> Self {
        let line = Line::open(&world.url).await;
        let mut session =
            Self { line, clock: None, process: 0, held: Vec::new(), spent: Vec::new(), unconfirmed: Vec::new() };
        session.set_clock(0).await.unwrap();
        session.register().await.unwrap();
        session
    }

    async fn register(&mut self) -> Result<(), TestCaseError> {
        let entry = json!({"name": "hand", "hostname": "here", "pid": 1, "queues": ["*"], "dispatches": true,
                           "heartbeat_timeout_ms": PROCESS_TIMEOUT_S * 1000, "lease_grace_ms": 1000});
        let former = json!({"process": self.process, "held": self.held});
        let system = "jsonb_build_object('system', tasker_core_v1.server_identity()->>'system')";
        let id = self
            .call(&format!("to_json(tasker_core_v1.register_process('{entry}', '{former}'::jsonb || {system}))"))
            .await?;
        self.process = id.and_then(|id| id.as_i64()).expect("registering returns the process's id");
        Ok(())
    }

    async fn call(&mut self, expression: &str) -> CallResult {
        let sql = format!("select ({expression})::text");
        let response = sqlx::query(AssertSqlSafe(sql)).fetch_one(self.line.get()).await;
        match response {
            Ok(row) => {
                if expression.contains("tasker_core_v1.") {
                    COMMITS.fetch_add(1, Ordering::Relaxed);
                }
                let text: Option<String> = row.get(0);
                Ok(text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))))
            }
            Err(sqlx::Error::Database(refusal)) if refusal.code().is_some_and(|code| code.starts_with("TC")) => {
                Ok(None)
            }
            Err(error) => Err(TestCaseError::fail(format!("{expression}: {error}"))),
        }
    }

    async fn set_clock(&mut self, offset: i64) -> Result<(), TestCaseError> {
        if self.clock.replace(offset) != Some(offset) {
            self.call(&format!("to_json(set_config('tasker_core.clock_offset', '{offset} s', false))")).await?;
        }
        Ok(())
    }

    async fn perform(&mut self, op: &Op, table: &Table) -> Result<(), TestCaseError> {
        let offset = table.clock.load(Ordering::Relaxed);
        self.set_clock(offset).await?;
        match op {
            Op::Claim { queue, limit } => self.claim(queue, *limit).await?,
            Op::Finish { picks, claim_limit } => self.finish(picks, *claim_limit).await?,
            Op::FinishAgain(pick) if !self.spent.is_empty() => {
                let claim = pick.get(&self.spent).clone();
                self.send(&[(claim, Ending::Completed)], 0).await?;
            }
            Op::Release { pick, delay_s, begun } if !self.held.is_empty() => {
                let claim = self.held.swap_remove(pick.index(self.held.len()));
                self.release(claim, *delay_s, *begun).await?;
            }
            Op::Dispatch { .. } | Op::Confirm | Op::Refuse | Op::Adopt(_) | Op::LoseJob(_) => {
                self.perform_on_queue(op, table).await?;
            }
            Op::Heartbeat => self.heartbeat().await?,
            // The response with this claim is lost.
            Op::Forget(pick) if !self.held.is_empty() => {
                self.held.swap_remove(pick.index(self.held.len()));
            }
            Op::Sweep => {
                self.call("tasker_core_v1.sweep(null, 1000)").await?;
            }
            Op::Tick(seconds) => {
                table.clock.fetch_add(*seconds, Ordering::Relaxed);
            }
            Op::Leave => {
                self.call(&format!("tasker_core_v1.deregister_process({})", self.process)).await?;
                self.spent.append(&mut self.held);
                self.register().await?;
            }
            Op::Cancel(task) => self.on_task("cancel_task", *task.get(&table.tasks)).await?,
            Op::ResolveTask(task) => self.on_task("resolve_task", *task.get(&table.tasks)).await?,
            Op::RetryTask(task) => self.on_task("retry_task", *task.get(&table.tasks)).await?,
            Op::OnStep { action, task, step } => {
                let live = match action {
                    StepAction::RetryWaiting => self.place_in("tasker_waiting_steps", step).await,
                    StepAction::Release => self.place_in("tasker_claimed_steps", step).await,
                    StepAction::Resolve | StepAction::Complete | StepAction::Retry | StepAction::UpdateResult => None,
                };
                let (task, position) =
                    live.unwrap_or_else(|| (*task.get(&table.tasks), step.index(table.steps).try_into().unwrap()));
                self.on_step(*action, task, position).await?;
            }
            // No claim is left for it.
            Op::FinishAgain(_) | Op::Release { .. } | Op::Forget(_) => {}
        }
        Ok(())
    }

    /// Performs an action that concerns jobs.
    async fn perform_on_queue(&mut self, op: &Op, table: &Table) -> Result<(), TestCaseError> {
        match op {
            Op::Dispatch { queue, limit } => self.dispatch(queue, *limit, table).await?,
            Op::Confirm => {
                let (process, held) = (self.process, json!(std::mem::take(&mut self.unconfirmed)));
                self.call(&format!("to_json(tasker_core_v1.confirm_dispatch({process}, '{held}'))")).await?;
            }
            Op::Refuse => {
                let (process, held) = (self.process, json!(std::mem::take(&mut self.unconfirmed)));
                let call = format!("release_steps({process}, '{held}', '2 s', 'not_enqueued', false, '{{}}')");
                self.call(&format!("tasker_core_v1.{call}")).await?;
            }
            Op::Adopt(pick) => self.adopt(pick, table).await?,
            Op::LoseJob(pick) => {
                let mut jobs = table.jobs.lock().unwrap();
                if !jobs.is_empty() {
                    let lost = pick.index(jobs.len());
                    jobs.swap_remove(lost);
                }
            }
            _ => unreachable!("{op:?} concerns no job"),
        }
        Ok(())
    }

    async fn claim(&mut self, queue: &str, limit: i32) -> Result<(), TestCaseError> {
        let process = self.process;
        match self.call(&format!("tasker_core_v1.claim_steps({process}, '{{{queue}}}', {limit})")).await? {
            Some(claims) => self.take(&claims),
            None => self.register().await?,
        }
        Ok(())
    }

    async fn dispatch(&mut self, queue: &str, limit: i32, table: &Table) -> Result<(), TestCaseError> {
        let process = self.process;
        let call = format!(
            "tasker_core_v1.dispatch_steps({process}, '{{{queue}}}', {limit}, {IN_FLIGHT}, '{START_TIMEOUT_S} s')"
        );
        match self.call(&call).await? {
            Some(dispatched) => {
                let keys: Vec<Value> = dispatched["claims"].as_array().unwrap().iter().map(key).collect();
                table.jobs.lock().unwrap().extend(keys.clone());
                self.unconfirmed.extend(keys);
            }
            None => self.register().await?,
        }
        Ok(())
    }

    /// Performs one of the jobs, which stays in the queue and may be performed again.
    async fn adopt(&mut self, pick: &Index, table: &Table) -> Result<(), TestCaseError> {
        let job = {
            let jobs = table.jobs.lock().unwrap();
            if jobs.is_empty() {
                return Ok(());
            }
            pick.get(&jobs).clone()
        };
        self.perform_job(&job).await
    }

    async fn perform_job(&mut self, job: &Value) -> Result<(), TestCaseError> {
        let process = self.process;
        match self.call(&format!("tasker_core_v1.adopt_claim({process}, '{job}', 0)")).await? {
            Some(adopted) => self.take(&adopted["claims"]),
            None => self.register().await?,
        }
        Ok(())
    }

    async fn release(&mut self, claim: Value, delay_s: i32, begun: bool) -> Result<(), TestCaseError> {
        let (process, held) = (self.process, json!([claim]));
        self.spent.push(claim);
        let reason = if delay_s > 0 { "unknown_handler" } else { "shutdown" };
        self.call(&format!(
            "tasker_core_v1.release_steps({process}, '{held}', make_interval(secs => {delay_s}), '{reason}', {begun})"
        ))
        .await
        .map(drop)
    }

    async fn heartbeat(&mut self) -> Result<(), TestCaseError> {
        let (process, held) = (self.process, json!(self.held));
        let reply = self.call(&format!("tasker_core_v1.heartbeat({process}, '{held}')")).await?;
        if reply.is_some_and(|reply| reply["known"] == false) {
            self.register().await?;
        }
        Ok(())
    }

    async fn on_step(&mut self, action: StepAction, task: i64, position: i32) -> Result<(), TestCaseError> {
        let (function, result) = match action {
            StepAction::Resolve => ("resolve_step", ""),
            StepAction::Retry | StepAction::RetryWaiting => ("retry_step", ""),
            StepAction::Release => ("release_step", ""),
            StepAction::Complete => ("complete_step", r#", '{"by": "hand"}'"#),
            StepAction::UpdateResult => ("update_result", r#", '{"by": "hand"}'"#),
        };
        self.call(&format!("tasker_core_v1.{function}({task}, {position}{result}, 'why', 'who')")).await.map(drop)
    }

    /// Task and position of one of the steps that have a row in this table, if any has.
    async fn place_in(&mut self, rows: &str, pick: &Index) -> Option<(i64, i32)> {
        let sql = format!("select task_id, position from {rows} order by task_id, position");
        let places: Vec<(i64, i32)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(self.line.get()).await.unwrap();
        (!places.is_empty()).then(|| *pick.get(&places))
    }

    async fn on_task(&mut self, function: &str, task: i64) -> Result<(), TestCaseError> {
        self.call(&format!("to_json(tasker_core_v1.{function}({task}, 'why', 'who'))")).await.map(drop)
    }

    /// Ends some of the attempts that it believes are its own.
    async fn finish(&mut self, picks: &[(Index, Ending)], claim_limit: i32) -> Result<(), TestCaseError> {
        let mut batch = Vec::new();
        for (pick, ending) in picks {
            if self.held.is_empty() {
                break;
            }
            batch.push((self.held.swap_remove(pick.index(self.held.len())), *ending));
        }
        self.spent.extend(batch.iter().map(|(claim, _)| claim.clone()));
        let response = self.send(&batch, claim_limit).await?;
        match response {
            Some(response) => {
                self.take(&response["handed_over"]);
                self.take(&response["claimed"]);
            }
            None => self.register().await?,
        }
        Ok(())
    }

    async fn send(&mut self, batch: &[(Value, Ending)], claim_limit: i32) -> CallResult {
        let outcomes: Vec<Value> = batch
            .iter()
            .map(|(claim, ending)| {
                let mut outcome = match ending {
                    Ending::Completed => json!({"outcome": "completed", "result": {"token": claim["token"]}}),
                    Ending::Failed => json!({"outcome": "failed", "error": {}, "retryable": true}),
                    Ending::FailedForGood => json!({"outcome": "failed", "error": {}, "retryable": false}),
                    Ending::FailedWithDelay => {
                        json!({"outcome": "failed", "error": {}, "retryable": true, "retry_after": 7})
                    }
                };
                outcome.as_object_mut().expect("an outcome is an object").extend(claim.as_object().unwrap().clone());
                outcome
            })
            .collect();
        let (process, outcomes) = (self.process, json!(outcomes));
        self.call(&format!("tasker_core_v1.finish_steps({process}, '{outcomes}', {claim_limit})")).await
    }

    fn take(&mut self, claims: &Value) {
        self.held.extend(claims.as_array().into_iter().flatten().map(key));
    }
}

fn key(claim: &Value) -> Value {
    json!({"token": claim["token"], "task_id": claim["task_id"], "position": claim["position"], "attempt": claim["attempt"]})
}

/// An empty database with the case's tasks in it.
async fn set_up(world: &World, case: &Case) -> Table {
    let tables =
        "workflow_versions, tasker_step_definitions, tasker_tasks, tasker_task_inputs, tasker_idempotency_keys, \
                  tasker_workflow_steps, tasker_ready_steps, tasker_claimed_steps, tasker_waiting_steps, \
                  tasker_step_attempts, tasker_task_events, tasker_processes, tasker_counts";
    world.pool.execute(AssertSqlSafe(format!("truncate tasker_{tables}"))).await.unwrap();
    let workflow = Workflow::compile(&case.definition(), &Configuration::load(None).unwrap()).unwrap();
    let initializer = TaskInitializer::new(world.functions.clone(), Arc::new(workflow));
    let mut requests = Vec::new();
    for seconds in &case.tasks {
        let mut request = initializer.request(raw(&json!({}))).unwrap();
        if *seconds > 0 {
            let sql = "select (clock_timestamp() + make_interval(secs => $1))::text";
            request.wait_until = Some(sqlx::query_scalar(sql).bind(seconds).fetch_one(&world.pool).await.unwrap());
        }
        requests.push(request);
    }
    let created = initializer.create(&requests).await.unwrap();
    Table {
        tasks: created.iter().map(|task| task.id).collect(),
        steps: case.steps.len(),
        clock: AtomicI64::new(0),
        jobs: Mutex::default(),
    }
}

/// Verifies the committed state with one statement for each rule, so that other sessions may continue: an audit finds
/// nothing, and exactly the steps that may run according to `step_readiness` have a live row.
async fn assert_sound(world: &World) -> Result<(), TestCaseError> {
    let broken = world.broken_invariants().await;
    prop_assert!(broken.is_empty(), "{broken:#?}");
    let differing: Vec<String> = sqlx::query_scalar(
        "select format('task %s step %s: may_run %s, live %s', t.id, r.name, r.may_run, l.task_id is not null) \
         from tasker_tasks t cross join lateral tasker_core_v1.step_readiness(t.id) r \
         left join (select task_id, position from tasker_ready_steps union all \
                    select task_id, position from tasker_claimed_steps union all \
                    select task_id, position from tasker_waiting_steps) l \
           on l.task_id = t.id and l.position = r.position \
         where r.may_run <> (l.task_id is not null)",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    prop_assert!(differing.is_empty(), "{differing:#?}");
    let out = world.number("select count(*) from tasker_claimed_steps where dispatch is not null").await;
    prop_assert!(out <= IN_FLIGHT, "{out} steps are out");
    let mixed = "select count(*) from tasker_claimed_steps c join tasker_tasks t on t.id = c.task_id \
                 join tasker_step_definitions d on d.workflow_version_id = t.workflow_version_id \
                   and d.position = c.position where (c.dispatch is null) <> (d.dispatch is null)";
    prop_assert_eq!(world.number(mixed).await, 0, "a worker has a step that runs as a job, or the reverse");
    assert_counted(world).await
}

/// Verifies that the counters equal the tasks by state and the attempts by outcome.
async fn assert_counted(world: &World) -> Result<(), TestCaseError> {
    let tasks: Option<String> = sqlx::query_scalar("select nullif(tasker_core_v1.recount_tasks(true)::text, '[]')")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    prop_assert_eq!(tasks, None, "a counter of tasks is wrong");
    let attempts: Vec<String> = sqlx::query_scalar(
        "select format('%s: %s counted, %s made', outcome, coalesce(counted, 0), coalesce(made, 0)) \
         from (select outcome, sum(attempts) as counted from tasker_core_v1.task_counts() \
           cross join lateral (values ('completed', attempts_completed), ('failed', attempts_failed), \
             ('released', attempts_released), ('lost', attempts_lost)) as counted(outcome, attempts) \
           group by outcome) as counted \
         full join (select outcome, count(*) as made from tasker_step_attempts group by outcome) as made \
           using (outcome) \
         where coalesce(counted, 0) <> coalesce(made, 0)",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    prop_assert!(attempts.is_empty(), "{attempts:#?}");
    Ok(())
}

/// Tokens that are claimed: those whose finish must be accepted, and no other.
async fn claimed(world: &World) -> BTreeSet<i64> {
    let tokens: Vec<i64> =
        sqlx::query_scalar("select token from tasker_claimed_steps").fetch_all(&world.pool).await.unwrap();
    tokens.into_iter().collect()
}

/// From here on everything succeeds: then every task ends.
async fn drain(world: &World, session: &mut Session, table: &Table) -> Result<(), TestCaseError> {
    for _ in 0..2000 {
        if world.number("select count(*) from tasker_tasks where ended_at is null").await == 0 {
            return Ok(());
        }
        session.perform(&Op::Claim { queue: "*", limit: 500 }, table).await?;
        session.perform(&Op::Dispatch { queue: "*", limit: 500 }, table).await?;
        let jobs = std::mem::take(&mut *table.jobs.lock().unwrap());
        for job in jobs {
            session.perform_job(&job).await?;
        }
        let batch: Vec<_> = session.held.drain(..).map(|token| (token, Ending::Completed)).collect();
        session.send(&batch, 0).await?;
        if batch.is_empty() {
            session.perform(&Op::Tick(PROCESS_TIMEOUT_S * 2), table).await?;
            session.perform(&Op::Sweep, table).await?;
            session.register().await?;
        }
    }
    Err(TestCaseError::fail("a task never ends"))
}

async fn one_after_another(world: &World, case: &Case) -> Result<(), TestCaseError> {
    let table = set_up(world, case).await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Session::open(world).await);
    }
    for (session, op) in &case.script {
        if !matches!(op, Op::Finish { .. } | Op::FinishAgain(_)) {
            sessions[*session].perform(op, &table).await?;
            assert_sound(world).await?;
            continue;
        }
        let before = claimed(world).await;
        let history = world.number("select count(*) from tasker_step_attempts where outcome <> 'released'").await;
        sessions[*session].perform(op, &table).await?;
        assert_sound(world).await?;
        // As many attempts were recorded as tokens that were claimed before have gone.
        let ended = before.difference(&claimed(world).await).count() as i64;
        let now = world.number("select count(*) from tasker_step_attempts where outcome <> 'released'").await;
        prop_assert_eq!(now - history, ended, "a finish was accepted without its token, or lost");
    }
    drain(world, &mut sessions[0], &table).await?;
    assert_sound(world).await
}

/// The same actors concurrently; an auditor checks every committed state in between.
async fn all_at_once(world: &Arc<World>, case: &Case) -> Result<(), TestCaseError> {
    let table = Arc::new(set_up(world, case).await);
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..SESSIONS {
        let script: Vec<Op> =
            case.script.iter().filter(|(session, _)| *session == number).map(|(_, op)| op.clone()).collect();
        let mut session = Session::open(world).await;
        let table = table.clone();
        sessions.spawn(async move {
            for op in script {
                session.perform(&op, &table).await?;
            }
            Ok::<_, TestCaseError>(())
        });
    }
    while !sessions.is_empty() {
        assert_sound(world).await?;
        while let Some(done) = sessions.try_join_next() {
            done.expect("a hand does not panic")?;
        }
    }
    assert_sound(world).await?;
    drain(world, &mut Session::open(world).await, &table).await?;
    assert_sound(world).await
}

/// A number that the environment asks for.
fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs the property on random cases, `cases` of them unless PROPTEST_CASES says otherwise; with TASKER_COMMITS round
/// after round, each with the next seed, until there have been that many commits.
fn check<Run: std::future::Future<Output = Result<(), TestCaseError>>>(
    cases: u32,
    property: impl Fn(Arc<World>, Case) -> Run,
) {
    let first = from_env("TASKER_SEED").unwrap_or_else(rand::random);
    let commits = from_env("TASKER_COMMITS");
    let limit = Duration::from_secs(if commits.is_some() { 7 * 24 * 3600 } else { 600 });
    World::run_within(limit, |world| async move {
        let began = Instant::now();
        let mut seed = first;
        loop {
            round(cases, seed, &world, &property);
            let done = COMMITS.load(Ordering::Relaxed);
            let Some(wanted) = commits else { return };
            println!("{done} commits in {} s, seed {seed}: nothing found", began.elapsed().as_secs());
            if done >= wanted {
                return;
            }
            seed = seed.wrapping_add(1);
        }
    });
}

fn round<Run: std::future::Future<Output = Result<(), TestCaseError>>>(
    cases: u32,
    seed: u64,
    world: &Arc<World>,
    property: &impl Fn(Arc<World>, Case) -> Run,
) {
    let config = Config {
        cases: from_env("PROPTEST_CASES").and_then(|cases| cases.try_into().ok()).unwrap_or(cases),
        max_shrink_iters: 400,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let runtime = tokio::runtime::Handle::current();
    let held = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&case(), |case| runtime.block_on(property(world.clone(), case)))
    });
    match held {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("TASKER_SEED={seed}\n{reason}\n{case:#?}"),
        Err(TestError::Abort(reason)) => panic!("TASKER_SEED={seed}: {reason}"),
    }
}

/// Backoff, attempt, base and cap in ms, factor, jitter.
type Policy = (&'static str, i32, i32, i32, f64, f64);

fn policy() -> impl Strategy<Value = Policy> {
    let backoff = select(vec!["none", "fixed", "linear", "exponential"]);
    let jitter = prop_oneof![Just(0.0), 0.0..=1.0f64];
    (backoff, 1..=1000i32, 0..=604_800_000i32, 0..=1_728_000_000i32, 1.0..=100.0f64, jitter)
}

/// The delay of a policy without its jitter, as KERNEL's formula has it.
fn delay_ms((backoff, attempt, base, cap, factor, _): Policy) -> f64 {
    let delay = match backoff {
        "none" => 0.0,
        "fixed" => f64::from(base),
        "linear" => f64::from(base) * f64::from(attempt),
        _ => f64::from(base) * factor.powi(attempt - 1),
    };
    delay.min(f64::from(cap))
}

#[test]
fn retry_delays_follow_the_policy_within_its_jitter() {
    World::run(|world| async move {
        let runtime = tokio::runtime::Handle::current();
        let seed = from_env("TASKER_SEED").unwrap_or_else(rand::random);
        let config =
            Config { cases: 300, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
        let sql = "select extract(epoch from tasker_core_v1.retry_delay($1, $2, $3, $5, $4, $6))::float * 1000";
        let held = tokio::task::block_in_place(|| {
            TestRunner::new(config).run(&policy(), |policy| {
                let (backoff, attempt, base, cap, factor, jitter) = policy;
                let query = sqlx::query_scalar(sql).bind(backoff).bind(attempt).bind(base).bind(cap).bind(factor);
                let given: f64 = runtime.block_on(query.bind(jitter).fetch_one(&world.pool)).unwrap();
                let expected = delay_ms(policy);
                let off = (given - expected).abs();
                prop_assert!(off <= expected * jitter + 1e-3 + expected * 1e-9, "{given} ms, and {expected} are due");
                Ok(())
            })
        });
        held.unwrap_or_else(|error| panic!("TASKER_SEED={seed}: {error}"));
    });
}

#[test]
fn every_commit_keeps_live_rows_right_and_every_task_ends() {
    check(24, |world, case| async move { one_after_another(&world, &case).await });
}

#[test]
fn concurrent_sessions_keep_every_committed_state_sound() {
    check(24, |world, case| async move { all_at_once(&world, &case).await });
}
