//! Sessions that call the functions directly, with helpers for tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{json, Value};
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tasker_orchestrator::{Configuration, Workflow};
use tokio::task::JoinHandle;

use crate::support::World;

/// The time of a stopped clock.
pub const NOON: &str = "2030-01-01T12:00:00+00:00";

/// An error of the database: SQLSTATE, message and facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub facts: Value,
}

impl Refusal {
    pub fn is_serialization_failure(&self) -> bool {
        self.code == "40001"
    }
}

pub type CallResult = Result<Value, Refusal>;

/// A connection of its own, and the number of its backend.
pub struct Session {
    pub connection: PgConnection,
    pub backend: i32,
}

impl Session {
    pub async fn open(world: &World) -> Self {
        let mut connection = PgConnection::connect(&world.url).await.unwrap();
        let backend = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
        Self { connection, backend }
    }

    /// The result of one function, as JSON.
    pub async fn try_call(&mut self, call: &str) -> CallResult {
        let sql = format!("select to_json(tasker_core_v1.{call})::text");
        match sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await {
            Ok(row) => {
                let text: Option<String> = row.get(0);
                Ok(text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap()))
            }
            Err(sqlx::Error::Database(error)) => {
                let detail = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::detail);
                Err(Refusal {
                    code: error.code().unwrap_or_default().into_owned(),
                    message: error.message().to_owned(),
                    facts: detail.and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or(Value::Null),
                })
            }
            Err(error) => panic!("{call}: {error}"),
        }
    }

    pub async fn call(&mut self, call: &str) -> Value {
        self.try_call(call).await.unwrap_or_else(|refusal| panic!("{call}: {refusal:?}"))
    }

    pub async fn refusal(&mut self, call: &str) -> Refusal {
        match self.try_call(call).await {
            Ok(response) => panic!("{call} was not refused: {response}"),
            Err(refusal) => refusal,
        }
    }

    /// The message and the facts of an error with this code.
    pub async fn refused(&mut self, code: &str, call: &str) -> (String, Value) {
        let refusal = self.refusal(call).await;
        assert_eq!(refusal.code, code, "{call}: {refusal:?}");
        (refusal.message, refusal.facts)
    }

    pub async fn run(&mut self, sql: &str) {
        let ran = self.connection.execute(AssertSqlSafe(sql)).await;
        ran.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The rows of a query as JSON objects.
    pub async fn rows(&mut self, sql: &str) -> Vec<Value> {
        let sql = format!("select to_json(q)::text from ({sql}) as q");
        let rows = sqlx::query(AssertSqlSafe(sql.as_str())).fetch_all(&mut self.connection).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
    }

    /// The one value of a query.
    pub async fn one(&mut self, sql: &str) -> Value {
        let rows = self.rows(&format!("select ({sql}) as value")).await;
        rows[0]["value"].clone()
    }

    pub async fn count(&mut self, rows_of: &str) -> i64 {
        self.one(&format!("select count(*) from {rows_of}")).await.as_i64().unwrap()
    }

    /// Moves this session's clock.
    pub async fn at(&mut self, offset: &str) {
        self.run(&format!("set tasker_core.clock_offset = '{offset}'")).await;
    }

    /// Registers a process that serves these queues (`a,b` or `*`), with a heartbeat timeout of 20 s and a lease grace
    /// of 30 s.
    pub async fn process(&mut self, queues: &str) -> i64 {
        self.registered(json!({"queues": queues.split(',').collect::<Vec<_>>()})).await
    }

    /// Registers a process that enqueues jobs for the steps of every queue.
    pub async fn dispatcher(&mut self) -> i64 {
        self.registered(json!({"queues": ["*"], "dispatches": true})).await
    }

    /// Registers a process that only runs jobs.
    pub async fn job_process(&mut self) -> i64 {
        self.registered(json!({"queues": []})).await
    }

    async fn registered(&mut self, mut entry: Value) -> i64 {
        for (name, value) in [
            ("name", json!("hand")),
            ("hostname", json!("here")),
            ("pid", json!(1)),
            ("heartbeat_timeout_ms", json!(20_000)),
            ("lease_grace_ms", json!(30_000)),
        ] {
            entry[name] = value;
        }
        self.call(&format!("register_process({})", quoted(&entry))).await.as_i64().unwrap()
    }

    pub async fn claim(&mut self, process: i64, queues: &str, limit: usize) -> Vec<Value> {
        let claims = self.call(&format!("claim_steps({process}, '{{{queues}}}', {limit})")).await;
        claims.as_array().unwrap().clone()
    }

    pub async fn claim_one(&mut self, process: i64) -> Value {
        self.claim(process, "*", 1).await.remove(0)
    }

    pub async fn finish(&mut self, process: i64, outcomes: &[Value], limit: usize) -> Value {
        self.call(&finish(process, outcomes, limit)).await
    }

    /// Creates one task and returns its id.
    pub async fn create(&mut self, workflow: &Workflow, options: Value) -> i64 {
        self.create_all(&[request(workflow, options)]).await.remove(0)
    }

    pub async fn create_all(&mut self, requests: &[Value]) -> Vec<i64> {
        let created = self.call(&format!("create_tasks({})", quoted(&json!(requests)))).await;
        created.as_array().unwrap().iter().map(|task| task["id"].as_i64().unwrap()).collect()
    }

    /// Claims and completes steps until none is ready.
    pub async fn complete_all(&mut self, process: i64) {
        loop {
            let claims = self.claim(process, "*", 1000).await;
            if claims.is_empty() {
                break;
            }
            let outcomes: Vec<Value> = claims.iter().map(completed).collect();
            self.finish(process, &outcomes, 0).await;
        }
    }

    /// Names of a task's steps, each with its state.
    pub async fn states(&mut self, task: i64) -> BTreeMap<String, String> {
        let rows = self.rows(&format!("select name, state from tasker_core_v1.step_states(array[{task}])")).await;
        rows.iter().map(|row| (text(&row["name"]), text(&row["state"]))).collect()
    }

    pub async fn state(&mut self, task: i64, step: &str) -> String {
        self.states(task).await.remove(step).expect("the task has a step of that name")
    }

    pub async fn position(&mut self, task: i64, step: &str) -> i32 {
        let sql = format!("select position from tasker_core_v1.step_states(array[{task}]) where name = '{step}'");
        self.one(&sql).await.as_i64().unwrap().try_into().unwrap()
    }

    pub async fn task_state(&mut self, task: i64) -> String {
        text(&self.one(&format!("select state from tasker_tasks where id = {task}")).await)
    }

    /// The recorded actions on a task: `action position by: reason`.
    pub async fn events(&mut self, task: i64) -> Vec<String> {
        let rows = self
            .rows(&format!(
                "select concat_ws(' ', action, position) || ' ' || actor || ': ' || reason as event \
                 from tasker_task_events where task_id = {task} order by id"
            ))
            .await;
        rows.iter().map(|row| text(&row["event"])).collect()
    }

    /// Starts a call that has to wait for another session; returns this session with the result.
    pub fn begin(mut self, call: &str) -> JoinHandle<(Self, CallResult)> {
        let call = call.to_owned();
        tokio::spawn(async move {
            let response = self.try_call(&call).await;
            (self, response)
        })
    }
}

/// Waits until one backend waits for a lock of another.
pub async fn waits_for(world: &World, waiter: i32, holder: i32) {
    world
        .eventually(|| async {
            let sql = "select $2 = any(pg_blocking_pids($1))";
            let waits = sqlx::query_scalar(sql).bind(waiter).bind(holder).fetch_one(&world.pool).await.unwrap();
            Option::filter(Some(()), |()| waits)
        })
        .await;
}

/// Stops the clock of this database at `NOON`; a session's offset moves it from there.
pub async fn stop_the_clock(world: &World) {
    let clock = format!(
        "create or replace function tasker_core_v1.current_time() returns timestamptz language sql volatile as $$ \
           select timestamptz '{NOON}' + coalesce(nullif(current_setting('tasker_core.clock_offset', true), ''), '0')::interval $$"
    );
    world.pool.execute(AssertSqlSafe(clock)).await.unwrap();
}

/// Everything that the database holds: the rows of each table as text.
pub async fn content(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut content = BTreeMap::new();
    for table in tables(world).await {
        let sql = format!("select t::text from {table} t order by 1");
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&world.pool).await.unwrap();
        content.insert(table, rows);
    }
    content
}

pub async fn tables(world: &World) -> Vec<String> {
    let sql = "select tablename::text from pg_tables where tablename like 'tasker\\_%' order by 1";
    sqlx::query_scalar(sql).fetch_all(&world.pool).await.unwrap()
}

/// Compiles a workflow and registers it.
pub async fn register(world: &World, definition: &Value) -> Workflow {
    let workflow = compile(definition);
    world.functions.register_workflow(&workflow).await.unwrap();
    workflow
}

pub fn compile(definition: &Value) -> Workflow {
    let settings = json!({"systems": {"bank": {"base_url": "https://bank.example"}}});
    Workflow::compile(definition, &Configuration::load(Some(&settings)).unwrap()).unwrap()
}

pub fn request(workflow: &Workflow, options: Value) -> Value {
    let mut request = options;
    request["namespace"] = json!(workflow.namespace());
    request["workflow"] = json!(workflow.name());
    request["version"] = json!(workflow.version());
    request
}

pub fn finish(process: i64, outcomes: &[Value], limit: usize) -> String {
    format!("finish_steps({process}, {}, {limit})", quoted(&json!(outcomes)))
}

pub fn token(claim: &Value) -> i64 {
    claim["token"].as_i64().unwrap()
}

/// The key of a claim.
pub fn key(claim: &Value) -> Value {
    json!({"token": claim["token"], "task_id": claim["task_id"], "position": claim["position"], "attempt": claim["attempt"]})
}

/// Claims as a heartbeat sends them, as an SQL literal.
pub fn held_by(claims: &[Value]) -> String {
    quoted(&claims.iter().map(key).collect())
}

/// An SQL expression for all the claims of a process, as a heartbeat sends them.
pub fn all_held(process: i64) -> String {
    format!("(select jsonb_agg(to_jsonb(c)) from tasker_claimed_steps c where process_id = {process})")
}

/// An outcome of a claim.
pub fn ended(claim: &Value, mut outcome: Value) -> Value {
    outcome.as_object_mut().unwrap().extend(key(claim).as_object().unwrap().clone());
    outcome
}

/// The outcome of a claim whose handler returned the name of its step.
pub fn completed(claim: &Value) -> Value {
    ended(claim, json!({"outcome": "completed", "result": {"from": claim["step"]}}))
}

pub fn failed(claim: &Value) -> Value {
    ended(claim, json!({"outcome": "failed", "error": {"class": "E", "message": "no"}, "retryable": true}))
}

pub fn failed_for_good(claim: &Value) -> Value {
    ended(claim, json!({"outcome": "failed", "error": {"class": "E", "message": "never"}, "retryable": false}))
}

/// The claim on a step of that name.
pub fn on<'a>(claims: &'a [Value], step: &str) -> &'a Value {
    claims.iter().find(|claim| claim["step"] == step).unwrap_or_else(|| panic!("{step} is not claimed: {claims:?}"))
}

/// The steps that are claimed, in the order of the claims.
pub fn steps(claims: &[Value]) -> Vec<String> {
    claims.iter().map(|claim| text(&claim["step"])).collect()
}

pub fn tokens(claims: &[Value]) -> String {
    let mut list = String::new();
    for claim in claims {
        write!(list, "{}{}", if list.is_empty() { "" } else { "," }, token(claim)).unwrap();
    }
    format!("'{{{list}}}'")
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// A JSON value as an SQL literal.
pub fn quoted(value: &Value) -> String {
    format!("'{}'", value.to_string().replace('\'', "''"))
}
