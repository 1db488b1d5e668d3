//! Steps that run while the database's clock jumps: an hour back, or a minute forward.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{json, Value};
use sqlx::{AssertSqlSafe, Executor};
use tasker_orchestrator::database::functions::ProcessEntry;
use tasker_orchestrator::{HandlerError, HandlerRegistry, StepContext, StepHandler};
use tokio::sync::Semaphore;

use crate::support::{with, workflow, World};

/// Runs until the gate is opened.
struct Waits {
    started: Arc<AtomicU32>,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl StepHandler for Waits {
    async fn call(&self, _: &StepContext) -> Result<Value, HandlerError> {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.gate.acquire().await.expect("the gate stays").forget();
        Ok(json!({}))
    }
}

/// Sets the database's clock, for every session.
async fn set_clock(world: &World, offset: &str) {
    let sql = format!(
        "create or replace function tasker_core_v1.current_time() returns timestamptz language sql volatile as \
         $$ select clock_timestamp() + interval '{offset}' $$"
    );
    world.pool.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// A process that claims a step and never sends a heartbeat.
async fn dead_with_claim(world: &World) -> i64 {
    let entry = ProcessEntry {
        id: None,
        name: "dead".to_owned(),
        hostname: "localhost".to_owned(),
        pid: 1,
        queues: vec!["dead".to_owned()],
        dispatches: false,
        heartbeat_timeout_ms: 2_000,
        lease_grace_ms: 1_000,
    };
    let process = world.functions.register_process(&entry, None).await.unwrap();
    assert_eq!(world.functions.claim_steps(process, &entry.queues, 1, 1 << 20).await.unwrap().len(), 1);
    process
}

async fn lost(world: &World, process: i64) {
    world
        .eventually(|| async {
            let sql = "select count(*) from tasker_step_attempts where outcome = 'lost' and process_id = $1";
            let attempts: i64 = sqlx::query_scalar(sql).bind(process).fetch_one(&world.pool).await.unwrap();
            (attempts == 1).then_some(())
        })
        .await;
}

#[test]
fn a_clock_jump_loses_no_attempt_and_still_ends_dead_processes() {
    World::run(|world| async move {
        let settings = |queue: &str, threads: u32| {
            json!({"leases": {"heartbeat_interval": "700ms", "process_timeout": "4s", "deadline_grace": "1s"},
                   "execution": {"queues": [queue], "threads": threads, "claim_ahead": 0},
                   "maintenance": {"sweep_interval": "50ms"}})
        };
        let in_queue = |queue: &str, timeout: &str| {
            let step = with(workflow(&format!("in_{queue}"), &[("waits", &[])]), 0, "queue", json!(queue));
            with(with(step, 0, "timeout", json!(timeout)), 0, "retry", json!({"max_attempts": 2, "backoff": "none"}))
        };
        let (started, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let mut handlers = HandlerRegistry::default();
        handlers.register("waits", Waits { started: started.clone(), gate: gate.clone() });
        let workers = [
            world.worker(&handlers, &settings("default", 2)).await,
            world.worker(&handlers, &settings("default", 2)).await,
        ];
        let holder = world.orchestrator(&settings("limited", 1)).await;
        let running = world.create_tasks(&in_queue("default", "40s"), &vec![json!({}); 4]).await;
        world.eventually(|| async { (started.load(Ordering::Relaxed) == 4).then_some(()) }).await;

        // A minute forward is more than the running steps' time limit, and more than a process may be silent.
        world.create_tasks(&in_queue("dead", "20s"), &[json!({}), json!({})]).await;
        let dead = dead_with_claim(&world).await;
        set_clock(&world, "60 seconds").await;
        // Once it is found, the others were judged too.
        lost(&world, dead).await;

        // Back by an hour and a minute: what was to happen would else happen in an hour.
        let began = Instant::now();
        let limited = world.create_task(&in_queue("limited", "5s"), &json!({})).await.id;
        holder.next_step().await.unwrap();
        let dead = dead_with_claim(&world).await;
        set_clock(&world, "-1 hour").await;
        lost(&world, dead).await;
        lost(&world, holder.process_id()).await;
        assert!(began.elapsed() >= Duration::from_millis(5_900), "a lease lasts as long as it was to last");
        let sql = "select error->>'message' from tasker_step_attempts where task_id = $1 and outcome = 'lost'";
        let message = world.text(sql, limited).await;
        assert!(message.starts_with("the lease ended at"), "{message}");

        gate.add_permits(4);
        for task in running {
            assert_eq!(world.ended(task.id).await, "complete");
            let sql = "select string_agg(outcome, ' ' order by attempt) from tasker_step_attempts where task_id = $1";
            assert_eq!(world.text(sql, task.id).await, "completed", "nothing was lost, and nothing ran twice");
        }
        assert!(world.broken_invariants().await.is_empty());
        for worker in workers.iter().chain([&holder]) {
            worker.stop(Duration::ZERO).await.ok();
        }
    });
}
