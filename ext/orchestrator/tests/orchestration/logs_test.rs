//! Log lines about a task have its correlation id, including those of tasks that its handlers spawn or create.

use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use serde_json::{json, Value};
use tasker_orchestrator::correlation::{carried, CorrelationId};
use tasker_orchestrator::logs::{self, Record, StructuredLogger};
use tasker_orchestrator::{HandlerError, HandlerRegistry, LogContext, StepContext, StepHandler};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::prelude::*;

use crate::support::{with, workflow, World};

/// Keeps the log lines of the whole test process.
pub struct Kept {
    id: CorrelationId,
    pub records: Mutex<Vec<Record>>,
}

impl StructuredLogger for Kept {
    fn level(&self) -> LevelFilter {
        LevelFilter::INFO
    }

    fn correlation_id(&self) -> CorrelationId {
        self.id
    }

    fn log(&self, record: &Record) {
        self.records.lock().unwrap().push(record.clone());
    }
}

pub fn listening() -> Arc<Kept> {
    static KEPT: OnceLock<Arc<Kept>> = OnceLock::new();
    KEPT.get_or_init(|| {
        let kept = Arc::new(Kept { id: CorrelationId::fresh(), records: Mutex::default() });
        tracing_subscriber::registry().with(logs::layer(kept.clone())).init();
        kept
    })
    .clone()
}

/// Logs from the handler and from a spawned task, and creates another task.
struct Speaks(Arc<World>);

#[async_trait]
impl StepHandler for Speaks {
    async fn call(&self, _: &StepContext) -> Result<Value, HandlerError> {
        tracing::info!(target: "tasker_test", "the handler speaks");
        let spawned = tokio::spawn(carried(async { tracing::info!(target: "tasker_test", "its task speaks") }));
        spawned.await.map_err(|error| HandlerError::permanent(error.to_string()))?;
        let child = self.0.create_task(&workflow("child", &[("only", &[])]), &json!({})).await;
        Ok(json!({ "child": child.id }))
    }
}

struct Declines;

#[async_trait]
impl StepHandler for Declines {
    async fn call(&self, _: &StepContext) -> Result<Value, HandlerError> {
        Err(HandlerError::permanent("declined".repeat(1000)))
    }
}

pub fn field(record: &Record, name: &str) -> Option<Value> {
    record.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
}

#[test]
fn a_task_and_the_task_its_handler_creates_share_an_id() {
    let kept = listening();
    let heard = kept.clone();
    World::run(|world| async move {
        let mut handlers = HandlerRegistry::default();
        handlers.register("speaks", Speaks(world.clone())).register("declines", Declines);
        let orchestrator = world.worker(&handlers, &json!({})).await;
        let definition = workflow("spoken", &[("first", &[]), ("second", &["first"])]);
        let definition = with(with(definition, 0, "handler", json!("speaks")), 1, "handler", json!("declines"));
        let id = CorrelationId::fresh();
        let task = LogContext::of(id).around(world.create_task(&definition, &json!({}))).await;
        assert_eq!(world.ended(task.id).await, "error");

        let own = "select correlation_id::text || ' ' || coalesce(parent_correlation_id::text, 'none') from tasker_tasks where id = $1";
        assert_eq!(world.text(own, task.id).await, format!("{id} none"));
        let child = world.result(task.id, "first").await["child"].as_i64().unwrap();
        assert_eq!(world.text(own, child).await, format!("{id} {id}"));

        let records = world
            .eventually(|| async {
                let records = heard.records.lock().unwrap();
                let own: Vec<Record> =
                    records.iter().filter(|record| record.context.correlation_id == Some(id)).cloned().collect();
                let ended = records.iter().any(|record| {
                    field(record, "task_id") == Some(json!(task.id))
                        && record.message == "task ended"
                        && field(record, "correlation_id") == Some(json!(id))
                });
                ended.then_some(own)
            })
            .await;
        let logged: Vec<_> = records
            .iter()
            .filter(|record| record.context.task_id == Some(task.id))
            .map(|record| (record.message.as_str(), record.context.step.as_deref(), record.context.attempt))
            .collect();
        assert_eq!(
            logged,
            [
                ("the handler speaks", Some("first"), Some(1)),
                ("its task speaks", Some("first"), Some(1)),
                ("step completed", Some("first"), Some(1)),
                ("step failed", Some("second"), Some(1)),
            ]
        );
        let failed = records.iter().find(|record| record.message == "step failed").unwrap();
        assert!(field(failed, "duration_ms").unwrap().is_number());
        assert_eq!(field(failed, "error.class"), Some(json!("Permanent")));
        assert_eq!(field(failed, "error.message").unwrap().as_str().unwrap().chars().count(), 2001);
        orchestrator.stop(std::time::Duration::from_secs(5)).await.unwrap();
    });
    let registered = |record: &&Record| record.message == "process registered";
    let of_process = kept.records.lock().unwrap().iter().find(registered).cloned().unwrap();
    assert_eq!(of_process.context.correlation_id, Some(kept.id), "what belongs to no task has the process's");
}
