//! Helpers for tests: a database of their own, workflows, a worker, and a clock that can be moved.

#![allow(dead_code, reason = "each test crate uses its own part")]

use std::fs::{read_dir, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{mpsc, Arc};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::{to_raw_value, RawValue};
use serde_json::{json, Value};
use sqlx::{Connection, Executor, PgConnection, PgPool, Row};
use tasker_orchestrator::database::functions::{CreatedTask, Finding, ProcessEntry};
use tasker_orchestrator::database::{self, Address, Connections};
use tasker_orchestrator::handler;
use tasker_orchestrator::orchestrator::{Role, Settings};
use tasker_orchestrator::{
    Configuration, EventPublisher, Functions, HandlerError, HandlerRegistry, Orchestrator, StepContext, StepHandler,
    TaskInitializer, Workflow,
};

/// How long a test awaits a condition before it fails.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one test may take; the longest take half a minute on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

pub const DIAMOND: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database made from the template that `rake spec:rust` prepares.
pub struct World {
    pub url: String,
    pub connections: Connections,
    pub pool: PgPool,
    pub functions: Functions,
    name: String,
    template_url: String,
}

impl World {
    pub async fn create() -> Self {
        let template_url = std::env::var("TASKER_TEMPLATE_URL")
            .expect("TASKER_TEMPLATE_URL is not set: run these tests with `bundle exec rake spec:rust`");
        let name = format!("tasker_rust_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&sibling(&template_url, "postgres")).await.unwrap();
        let template = database_of(&template_url);
        admin.execute(sqlx::AssertSqlSafe(format!("create database {name} template {template}"))).await.unwrap();
        let url = sibling(&template_url, &name);
        let settings = Configuration::load(None).unwrap().database;
        let connections = database::connect(&Address::from_url(&url), &settings).await.unwrap();
        let pool = connections.pool().clone();
        let functions = Functions::new(connections.clone(), &settings);
        Self { connections, functions, pool, url, name, template_url }
    }

    /// Runs a test in a world of its own, which is gone afterwards. A test that hangs fails.
    pub fn run<Test: Future<Output = ()>>(test: impl FnOnce(Arc<Self>) -> Test) {
        Self::run_within(LIMIT, test);
    }

    /// Like `run`, with another time limit.
    pub fn run_within<Test: Future<Output = ()>>(limit: Duration, test: impl FnOnce(Arc<Self>) -> Test) {
        // Blocked threads would keep the runtime from enforcing the limit, and from ending.
        let watchdog = Watchdog::start(limit + CONDITION_TIMEOUT);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = Arc::new(Self::create().await);
            let waits = world.clone();
            if tokio::time::timeout(limit, test(world.clone())).await.is_err() {
                let statements = waits.statements().await;
                waits.remove().await;
                panic!("the test has not ended within {limit:?}; the database was busy with {statements:#?}");
            }
            world.remove().await;
        });
        drop(runtime);
        watchdog.stop();
    }

    /// The statements of this database's sessions, and what they wait for.
    async fn statements(&self) -> Vec<String> {
        let sql = "select concat_ws(' ', state, wait_event_type, wait_event, left(query, 200)) from pg_stat_activity \
                   where datname = current_database() and pid <> pg_backend_pid()";
        sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap_or_else(|error| vec![error.to_string()])
    }

    pub async fn remove(&self) {
        self.pool.close().await;
        self.record_calls().await;
        let mut admin = PgConnection::connect(&sibling(&self.template_url, "postgres")).await.unwrap();
        let drop = format!("drop database {} with (force)", self.name);
        admin.execute(sqlx::AssertSqlSafe(drop)).await.unwrap();
    }

    /// Appends the functions that were called in this database to a file, which `rakelib/called_functions.rb` checks.
    async fn record_calls(&self) {
        let Ok(path) = std::env::var("TASKER_CALLED_FUNCTIONS") else { return };
        if env!("CARGO_CRATE_NAME") != "sql_functions" {
            return;
        }
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        // A backend reports its calls at the latest when it exits.
        let others = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                      where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut connection).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        let called = "select string_agg(funcname || e'\\n', '') from pg_stat_user_functions \
                      where schemaname = 'tasker_core_v1'";
        let called: Option<String> = sqlx::query_scalar(called).fetch_one(&mut connection).await.unwrap();
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(called.unwrap_or_default().as_bytes()).unwrap();
    }

    /// A worker with these handlers; patient, so that moving the clock does not declare it dead.
    pub async fn worker(&self, handlers: &HandlerRegistry, overrides: &Value) -> Orchestrator {
        let orchestrator = self.orchestrator(overrides).await;
        let slots = configuration(overrides).execution.threads;
        handler::run(&orchestrator, handlers.clone(), slots);
        orchestrator
    }

    /// An orchestrator whose steps the test takes itself.
    pub async fn orchestrator(&self, overrides: &Value) -> Orchestrator {
        let events = EventPublisher::new(configuration(overrides).events);
        self.orchestrator_with_events(overrides, &events).await
    }

    /// Like `orchestrator`, with the test as the listener.
    pub async fn orchestrator_with_events(&self, overrides: &Value, events: &EventPublisher) -> Orchestrator {
        Orchestrator::start(Settings {
            address: Address::from_url(&self.url),
            configuration: configuration(overrides),
            events: events.clone(),
            name: "test".to_owned(),
            hostname: "localhost".to_owned(),
            pid: std::process::id(),
            role: Role::Worker,
        })
        .await
        .unwrap()
    }

    /// A registered process, for tests that call claim and finish directly.
    pub async fn process(&self) -> i64 {
        let entry = ProcessEntry {
            id: None,
            name: "test".to_owned(),
            hostname: "localhost".to_owned(),
            pid: 1,
            queues: vec!["*".to_owned()],
            dispatches: false,
            heartbeat_timeout_ms: 20_000,
            lease_grace_ms: 30_000,
        };
        self.functions.register_process(&entry, None).await.unwrap()
    }

    pub async fn create_task(&self, workflow: &Value, input: &Value) -> CreatedTask {
        self.create_tasks(workflow, std::slice::from_ref(input)).await.remove(0)
    }

    pub async fn create_tasks(&self, workflow: &Value, inputs: &[Value]) -> Vec<CreatedTask> {
        let workflow = Arc::new(Workflow::compile(workflow, &Configuration::load(None).unwrap()).unwrap());
        let initializer = TaskInitializer::new(self.functions.clone(), workflow);
        let requests: Vec<_> = inputs.iter().map(|input| initializer.request(raw(input)).unwrap()).collect();
        initializer.create(&requests).await.unwrap()
    }

    /// Waits until the task has ended, and returns its state.
    pub async fn ended(&self, task: i64) -> String {
        self.eventually(|| async move {
            let state = self.text("select state from tasker_tasks where id = $1", task).await;
            (state != "pending").then_some(state)
        })
        .await
    }

    /// Waits until the step of that name is in that state.
    pub async fn step_is(&self, task: i64, name: &str, state: &str) {
        self.eventually(|| async move {
            let steps = self.steps(task).await;
            steps.iter().any(|step| step.name == name && step.state == state).then_some(())
        })
        .await;
    }

    /// Awaits a condition; fails the test when it does not come true.
    pub async fn eventually<T, Check: Future<Output = Option<T>>>(&self, check: impl Fn() -> Check) -> T {
        let waiting = async {
            loop {
                if let Some(seen) = check().await {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(CONDITION_TIMEOUT, waiting).await.expect("the awaited condition has not come true")
    }

    pub async fn steps(&self, task: i64) -> Vec<Step> {
        let sql =
            "select name, state, attempts, result::text, last_error::text from tasker_core_v1.step_states(array[$1]) \
                   order by position";
        let rows = sqlx::query(sql).bind(task).fetch_all(&self.pool).await.unwrap();
        rows.iter()
            .map(|row| Step {
                name: row.get(0),
                state: row.get(1),
                attempts: row.get(2),
                result: row
                    .get::<Option<String>, _>(3)
                    .map_or(Value::Null, |text| serde_json::from_str(&text).unwrap()),
                error: row.get::<Option<String>, _>(4).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap()),
            })
            .collect()
    }

    /// (name, state, attempts) of every step.
    pub async fn outline(&self, task: i64) -> Vec<(String, String, i32)> {
        self.steps(task).await.into_iter().map(|step| (step.name, step.state, step.attempts)).collect()
    }

    pub async fn result(&self, task: i64, name: &str) -> Value {
        self.steps(task).await.into_iter().find(|step| step.name == name).unwrap().result
    }

    pub async fn status(&self, task: i64) -> String {
        self.text("select execution_status from tasker_core_v1.task_execution_context($1)", task).await
    }

    pub async fn text(&self, sql: &'static str, task: i64) -> String {
        sqlx::query_scalar(sql).bind(task).fetch_one(&self.pool).await.unwrap()
    }

    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Sweeps with the clock moved forward, and wakes idle workers. Returns the number of waiting steps that were due.
    pub async fn sweep_after(&self, offset: &str) -> i64 {
        let mut moved = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query("select set_config('tasker_core.clock_offset', $1, false)")
            .bind(offset)
            .execute(&mut moved)
            .await
            .unwrap();
        let sql = "select (tasker_core_v1.sweep(null, 1000)->>'due_steps')::bigint";
        let due = sqlx::query_scalar(sql).fetch_one(&mut moved).await.unwrap();
        sqlx::query("select tasker_core_v1.wake_workers('{default}')").execute(&mut moved).await.unwrap();
        due
    }

    /// Damages a task's row like a disk failure: stores its tags out of line and loses them. Reading them is an error
    /// (XX001).
    pub async fn damage(&self, task: i64) {
        let tags = "tags = array(select md5(n::text) from generate_series(1, 500) as n)";
        self.lose("tasker_tasks", tags, &format!("id = {task}")).await;
    }

    /// Stores a long value in a row, and loses all values that the table stores out of line.
    pub async fn lose(&self, table: &str, long: &str, row: &str) {
        let sql = format!(
            "update {table} set {long} where {row}; \
             set local allow_system_table_mods = on; \
             do $$ declare v_toast regclass := (select reltoastrelid from pg_class where oid = '{table}'::regclass); \
             begin \
               update pg_class set relkind = 'r' where oid = v_toast; \
               execute format('truncate %s', v_toast); \
               update pg_class set relkind = 't' where oid = v_toast; \
             end $$"
        );
        self.pool.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }

    /// Replaces the tags that `damage` has lost, as an operator would.
    pub async fn restore_tags(&self, task: i64) {
        let sql = "update tasker_tasks set tags = '{}' where id = $1";
        sqlx::query(sql).bind(task).execute(&self.pool).await.unwrap();
    }

    /// The findings of a complete audit. Every test expects none.
    pub async fn broken_invariants(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut next = Some(0);
        while let Some(after) = next {
            let audited = self.functions.audit(after, 500).await.unwrap();
            let line = |it: Finding| format!("{} task {}: {}", it.rule, it.task_id, it.explanation);
            broken.extend(audited.findings.into_iter().map(line));
            next = audited.after;
        }
        broken
    }
}

/// Aborts the process if a test blocks its runtime, which then cannot enforce the time limit.
struct Watchdog {
    ended: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(limit: Duration) -> Self {
        let (ended, end) = mpsc::channel();
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        std::thread::spawn(move || {
            if end.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{test} hangs: it has not ended within {limit:?}, and neither has its runtime");
                std::process::abort();
            }
        });
        Self { ended }
    }

    fn stop(self) {
        // Its thread may have ended at that moment.
        let _ = self.ended.send(());
    }
}

/// A step as `step_states` returns it.
#[derive(Debug)]
pub struct Step {
    pub name: String,
    pub state: String,
    pub attempts: i32,
    pub result: Value,
    pub error: Value,
}

pub fn configuration(overrides: &Value) -> Configuration {
    let mut settings = json!({"leases": {"process_timeout": "1h"}});
    for (section, values) in overrides.as_object().unwrap() {
        for (key, value) in values.as_object().unwrap() {
            settings[section][key] = value.clone();
        }
    }
    Configuration::load(Some(&settings)).unwrap()
}

pub fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

/// A workflow of steps, each with a handler of its own name.
pub fn workflow(name: &str, steps: &[(&str, &[&str])]) -> Value {
    let steps: Vec<Value> = steps
        .iter()
        .map(|(step, depends_on)| json!({"name": step, "handler": step, "depends_on": depends_on}))
        .collect();
    json!({"name": name, "steps": steps})
}

/// The same workflow with another field in one of its steps.
pub fn with(mut workflow: Value, step: usize, key: &str, value: Value) -> Value {
    workflow["steps"][step][key] = value;
    workflow
}

/// A handler made of a function.
pub struct Does<F>(pub F);

#[async_trait]
impl<F> StepHandler for Does<F>
where
    F: Fn(&StepContext) -> Result<Value, HandlerError> + Send + Sync,
{
    async fn call(&self, context: &StepContext) -> Result<Value, HandlerError> {
        (self.0)(context)
    }
}

/// Handlers under names, each made of a function.
pub fn handlers<F>(named: impl IntoIterator<Item = (&'static str, F)>) -> HandlerRegistry
where
    F: Fn(&StepContext) -> Result<Value, HandlerError> + Send + Sync + 'static,
{
    let mut registry = HandlerRegistry::default();
    for (name, function) in named {
        registry.register(name, Does(function));
    }
    registry
}

fn database_of(url: &str) -> &str {
    let path = url.splitn(4, '/').nth(3).expect("a URL of a database has a path");
    path.split('?').next().expect("splitting gives one part at least")
}

fn sibling(url: &str, name: &str) -> String {
    let database = database_of(url);
    url.replacen(&format!("/{database}"), &format!("/{name}"), 1)
}

/// The files in a folder of this crate, and in the folders below it, whose names have this ending.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)]);
    while let Some(folder) = folders.pop() {
        for path in read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}
