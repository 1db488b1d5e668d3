//! Measures the engine with Rust no-op handlers; `bin/bench` runs it and reads its JSON.
//!
//!     engine_bench URL throughput TASKS WIDTH   tasks of 1 → WIDTH → 1 steps, created beforehand
//!     engine_bench URL drain TASKS QUEUES       tasks that are there already, with handlers named noop; queues by commas
//!     engine_bench URL latency TASKS            created → started, and finished → dependent started, one at a time
//!     engine_bench URL chain STEPS SLEEP_MS     one chain whose steps take a while
//!     engine_bench URL load SECONDS WINDOW_SECONDS   tasks of 1 → 3 → 1 steps, always some more than are running
//!     engine_bench URL commits CLIENTS SECONDS  the machine's own limit: single-row commits

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::value::to_raw_value;
use serde_json::{json, Value};
use tasker_orchestrator::database::{self, Address, Connections};
use tasker_orchestrator::handler;
use tasker_orchestrator::logs::{self, format::Format, LineWriter};
use tasker_orchestrator::orchestrator::{Role, Settings};
use tasker_orchestrator::{
    Configuration, Error, EventPublisher, Functions, HandlerError, HandlerRegistry, Orchestrator, StepContext,
    StepHandler, TaskInitializer, Workflow,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::prelude::*;

/// Records the time of each call, waits for its delay, and returns nothing.
struct Noop {
    calls: Arc<Mutex<Vec<Instant>>>,
    pause: Duration,
}

#[async_trait]
impl StepHandler for Noop {
    async fn call(&self, _: &StepContext) -> Result<Value, HandlerError> {
        self.calls.lock().expect("nothing panics with it").push(Instant::now());
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        Ok(json!({}))
    }
}

struct Bench {
    connections: Connections,
    orchestrator: Orchestrator,
    calls: Arc<Mutex<Vec<Instant>>>,
    settings: Configuration,
}

impl Bench {
    async fn start(url: &str, threads: usize, pause: Duration) -> Result<Self, Error> {
        Self::start_for(url, threads, pause, &["*"]).await
    }

    async fn start_for(url: &str, threads: usize, pause: Duration, queues: &[&str]) -> Result<Self, Error> {
        let overrides = json!({"execution": {"threads": threads, "queues": queues}});
        let settings = Configuration::load(Some(&overrides))?;
        let address = Address::from_url(url);
        let connections = database::connect(&address, &settings.database).await?;
        let orchestrator = Orchestrator::start(Settings {
            address,
            events: EventPublisher::new(settings.events.clone()),
            configuration: settings.clone(),
            name: "bench".to_owned(),
            hostname: "localhost".to_owned(),
            pid: std::process::id(),
            role: Role::Worker,
        })
        .await?;
        let calls = Arc::new(Mutex::new(Vec::new()));
        Ok(Self { connections, orchestrator, calls, settings })
            .inspect(|bench: &Self| bench.run_handlers(threads, pause))
    }

    fn run_handlers(&self, threads: usize, pause: Duration) {
        let mut handlers = HandlerRegistry::default();
        handlers.register("noop", Noop { calls: self.calls.clone(), pause });
        handler::run(&self.orchestrator, handlers, threads);
    }

    fn initializer(&self, definition: &Value) -> Result<TaskInitializer, Error> {
        let workflow = Arc::new(Workflow::compile(definition, &self.settings)?);
        Ok(TaskInitializer::new(Functions::new(self.connections.clone(), &self.settings.database), workflow))
    }

    /// Waits until this process has ended this number of tasks since its start.
    async fn ended(&self, tasks: u64) {
        while self.orchestrator.health().tasks_ended < tasks {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn wide(width: usize) -> Value {
    let branches: Vec<String> = (0..width).map(|number| format!("branch_{number}")).collect();
    let mut steps = vec![json!({"name": "root", "handler": "noop"})];
    steps.extend(branches.iter().map(|name| json!({"name": name, "handler": "noop", "depends_on": ["root"]})));
    steps.push(json!({"name": "join", "handler": "noop", "depends_on": branches}));
    json!({"name": format!("wide_{width}"), "steps": steps})
}

fn chain(length: usize) -> Value {
    let steps: Vec<Value> = (0..length)
        .map(|number| {
            let parents: Vec<String> =
                number.checked_sub(1).map(|parent| format!("link_{parent}")).into_iter().collect();
            json!({"name": format!("link_{number}"), "handler": "noop", "depends_on": parents})
        })
        .collect();
    json!({"name": format!("chain_{length}"), "steps": steps})
}

async fn create(initializer: &TaskInitializer, tasks: usize) -> Result<(), Error> {
    const BATCH: usize = 500;
    let input = to_raw_value(&json!({"order_id": 42})).expect("an object of a number is JSON");
    for start in (0..tasks).step_by(BATCH) {
        let requests = (start..tasks.min(start + BATCH))
            .map(|_| initializer.request(input.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        initializer.create(&requests).await?;
    }
    Ok(())
}

async fn throughput(url: &str, tasks: usize, width: usize) -> Result<Value, Error> {
    let steps_per_workflow = json!({"limits": {"steps_per_workflow": width + 2}});
    let settings = Configuration::load(Some(&steps_per_workflow))?;
    let connections = database::connect(&Address::from_url(url), &settings.database).await?;
    let workflow = Arc::new(Workflow::compile(&wide(width), &settings)?);
    let created = Instant::now();
    create(&TaskInitializer::new(Functions::new(connections, &settings.database), workflow), tasks).await?;
    let created = created.elapsed().as_secs_f64();

    let began = Instant::now();
    let bench = Bench::start(url, 16, Duration::ZERO).await?;
    bench.ended(tasks as u64).await;
    let seconds = began.elapsed().as_secs_f64();
    let health = bench.orchestrator.health();
    bench.orchestrator.stop(Duration::from_secs(5)).await?;
    let steps = tasks * (width + 2);
    Ok(json!({
        "steps": steps, "seconds": seconds, "steps_per_second": steps as f64 / seconds,
        "tasks_created_per_second": tasks as f64 / created,
        "steps_per_flush": health.finished as f64 / health.flushes as f64,
    }))
}

async fn drain(url: &str, tasks: u64, queues: &[&str]) -> Result<Value, Error> {
    let began = Instant::now();
    let bench = Bench::start_for(url, 16, Duration::ZERO, queues).await?;
    bench.ended(tasks).await;
    let seconds = began.elapsed().as_secs_f64();
    let steps = bench.orchestrator.health().finished;
    bench.orchestrator.stop(Duration::from_secs(5)).await?;
    Ok(json!({"steps": steps, "seconds": seconds, "steps_per_second": steps as f64 / seconds}))
}

/// Creates tasks as fast as they end, for `seconds`; returns the steps per second of each window.
async fn load(url: &str, seconds: usize, window: usize) -> Result<Value, Error> {
    const AHEAD: u64 = 1500;
    let bench = Bench::start(url, 16, Duration::ZERO).await?;
    let initializer = bench.initializer(&wide(3))?;
    let (mut created, mut windows, mut finished) = (0, Vec::new(), 0);
    for _ in 0..seconds / window {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(window as u64) {
            if created < bench.orchestrator.health().tasks_ended + AHEAD {
                create(&initializer, 500).await?;
                created += 500;
            } else {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let health = bench.orchestrator.health();
        windows.push((health.finished - finished) as f64 / began.elapsed().as_secs_f64());
        finished = health.finished;
    }
    bench.ended(created).await;
    bench.orchestrator.stop(Duration::from_secs(5)).await?;
    Ok(json!({"steps": created * 5, "steps_per_second": windows}))
}

async fn latency(url: &str, tasks: usize) -> Result<Value, Error> {
    let bench = Bench::start(url, 5, Duration::ZERO).await?;
    let initializer = bench.initializer(&chain(2))?;
    let (mut to_start, mut to_dependent) = (Vec::new(), Vec::new());
    for number in 1..=tasks {
        // A pause in which all work ends; then one task on an idle worker.
        tokio::time::sleep(Duration::from_millis(40)).await;
        bench.calls.lock().expect("nothing panics with it").clear();
        let began = Instant::now();
        create(&initializer, 1).await?;
        bench.ended(number as u64).await;
        let calls = bench.calls.lock().expect("nothing panics with it").clone();
        to_start.push((calls[0] - began).as_secs_f64() * 1000.0);
        to_dependent.push((calls[1] - calls[0]).as_secs_f64() * 1000.0);
    }
    bench.orchestrator.stop(Duration::from_secs(5)).await?;
    Ok(json!({"created_to_started_ms": percentiles(to_start), "finished_to_dependent_ms": percentiles(to_dependent)}))
}

async fn long_chain(url: &str, steps: usize, pause: Duration) -> Result<Value, Error> {
    let bench = Bench::start(url, 5, pause).await?;
    let initializer = bench.initializer(&chain(steps))?;
    create(&initializer, 1).await?;
    bench.ended(1).await;
    let calls = bench.calls.lock().expect("nothing panics with it").clone();
    let seconds = (calls[calls.len() - 1] - calls[0] + pause).as_secs_f64();
    bench.orchestrator.stop(Duration::from_secs(5)).await?;
    let work = steps as f64 * pause.as_secs_f64();
    Ok(
        json!({"steps": steps, "seconds": seconds, "work_seconds": work, "overhead_ms_per_step": (seconds - work) * 1000.0 / steps as f64}),
    )
}

/// How many transactions of one inserted row the database commits per second.
async fn commits(url: &str, clients: usize, seconds: u64) -> Result<Value, Error> {
    let overrides = json!({"database": {"pool": {"max_connections": clients.max(2)}}});
    let settings = Configuration::load(Some(&overrides))?;
    let pool = database::connect(&Address::from_url(url), &settings.database).await?.pool().clone();
    sqlx::query("create table if not exists bench_commits (number bigint)").execute(&pool).await?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let running: Vec<_> = (0..clients)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut committed = 0_u64;
                while Instant::now() < until {
                    sqlx::query("insert into bench_commits values (1)").execute(&pool).await?;
                    committed += 1;
                }
                Ok::<u64, sqlx::Error>(committed)
            })
        })
        .collect();
    let mut committed = 0;
    for client in running {
        committed += client.await.expect("a client does not panic")?;
    }
    Ok(json!({"clients": clients, "commits_per_second": committed as f64 / seconds as f64}))
}

fn percentiles(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    json!({"p50": at(0.5), "p95": at(0.95), "p99": at(0.99)})
}

/// Logs to the file that `bench/logging` passes, if any: `FORMAT:FILE`.
fn log() -> std::io::Result<()> {
    let Ok(setting) = std::env::var("TASKER_BENCH_LOG") else { return Ok(()) };
    let (format, path) = setting.split_once(':').expect("TASKER_BENCH_LOG is FORMAT:FILE");
    let format = if format == "json" { Format::Json } else { Format::Human };
    let logger = Arc::new(LineWriter::new(LevelFilter::INFO, format, std::fs::File::create(path)?));
    tracing_subscriber::registry().with(logs::layer(logger)).init();
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    log()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| -> Result<usize, Box<dyn std::error::Error>> {
        Ok(arguments.get(index).ok_or("an argument is missing")?.parse()?)
    };
    let url = arguments.first().ok_or("engine_bench URL throughput|drain|latency|chain|load|commits …")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stats = match arguments.get(1).map(String::as_str) {
        Some("throughput") => runtime.block_on(throughput(url, number(2)?, number(3)?))?,
        Some("latency") => runtime.block_on(latency(url, number(2)?))?,
        Some("chain") => runtime.block_on(long_chain(url, number(2)?, Duration::from_millis(number(3)? as u64)))?,
        Some("drain") => {
            let queues: Vec<&str> = arguments.get(3).ok_or("an argument is missing")?.split(',').collect();
            runtime.block_on(drain(url, number(2)? as u64, &queues))?
        }
        Some("load") => runtime.block_on(load(url, number(2)?, number(3)?))?,
        Some("commits") => runtime.block_on(commits(url, number(2)?, number(3)? as u64))?,
        other => return Err(format!("{other:?}: throughput, drain, latency, chain, load or commits").into()),
    };
    println!("{stats}");
    Ok(())
}
