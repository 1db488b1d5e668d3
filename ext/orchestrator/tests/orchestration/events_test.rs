//! What a worker process tells of what becomes of its steps and tasks.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{json, Value};
use sqlx::Executor;
use tasker_orchestrator::events::Event;
use tasker_orchestrator::kernel::TaskRequest;
use tasker_orchestrator::{handler, EventPublisher, HandlerError, StepContext, TaskInitializer, Workflow};

use crate::support::{configuration, handlers, with, workflow, World};

const CREATED: &str = "task.created";

fn publisher(patterns: &[&str]) -> EventPublisher {
    let events = EventPublisher::new(configuration(&json!({"events": {"flush_interval": 0}})).events);
    events.want(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>()).unwrap();
    events
}

/// Takes events until one of them has the name; answers all.
async fn until(events: &EventPublisher, name: &str) -> Vec<Event> {
    let mut told = Vec::new();
    while !told.iter().any(|event: &Event| event.name == name) {
        let batch = tokio::time::timeout(Duration::from_secs(20), events.next_batch()).await;
        told.extend(batch.unwrap_or_else(|_| panic!("{name} was not told, but {told:?}")).unwrap());
    }
    told
}

fn outline(told: &[Event]) -> Vec<String> {
    told.iter()
        .map(|event| match event.payload.get("step") {
            Some(step) => format!("{} {} {}", event.name, step.as_str().unwrap(), event.payload["attempt"]),
            None => event.name.clone(),
        })
        .collect()
}

fn fails_once(context: &StepContext) -> Result<Value, HandlerError> {
    if context.step().attempt == 1 {
        return Err(HandlerError::retryable("busy"));
    }
    Ok(json!({}))
}

fn declined(_: &StepContext) -> Result<Value, HandlerError> {
    Err(HandlerError::Permanent { message: "declined".to_owned(), code: Some("card_declined".to_owned()) })
}

#[test]
fn a_version_that_was_truncated_since_is_registered_again() {
    World::run(|world| async move {
        let one = Arc::new(Workflow::compile(&workflow("one", &[("s", &[])]), &configuration(&json!({}))).unwrap());
        let initializer = TaskInitializer::new(world.kernel.clone(), one);
        let request = || initializer.request(RawValue::from_string("{}".to_owned()).unwrap()).unwrap();
        initializer.create(&[request()]).await.unwrap();
        let truncation =
            "truncate tasker_workflow_versions, tasker_step_definitions, tasker_tasks, tasker_task_inputs, \
                          tasker_workflow_steps, tasker_ready_steps";
        sqlx::query(truncation).execute(&world.pool).await.unwrap();
        let created = initializer.create(&[request()]).await.unwrap();
        assert_eq!(world.steps(created[0].id).await.len(), 1);
    });
}

#[test]
fn whoever_creates_tasks_tells_of_them_and_of_a_version_that_is_new() {
    World::run(|world| async move {
        let events = publisher(&["*"]);
        let one = Arc::new(Workflow::compile(&workflow("one", &[("s", &[])]), &configuration(&json!({}))).unwrap());
        let initializer = TaskInitializer::new(world.kernel.clone(), one.clone()).telling(events.clone());
        let keyed = |key: &str| {
            let request = initializer.request(RawValue::from_string("{}".to_owned()).unwrap()).unwrap();
            TaskRequest { idempotency_key: Some(key.to_owned()), ..request }
        };
        let created = initializer.create(&[keyed("a"), keyed("b")]).await.unwrap();
        let again = initializer.create(&[keyed("b"), keyed("c")]).await.unwrap();
        let told = until(&events, CREATED).await;
        let told = [told, if events.figures().waiting > 0 { until(&events, CREATED).await } else { vec![] }].concat();
        let outline: Vec<_> = told.iter().map(|event| (event.name.as_str(), event.payload.get("task_id"))).collect();
        let ids = [&created[0], &created[1], &again[1]].map(|task| json!(task.id));
        assert_eq!(
            outline,
            [
                ("workflow.registered", None),
                (CREATED, Some(&ids[0])),
                (CREATED, Some(&ids[1])),
                (CREATED, Some(&ids[2]))
            ]
        );
        assert_eq!(told[1].correlation_id, Some(created[0].correlation_id));
        assert_eq!(told[1].payload["version"], one.version());
        assert_eq!(told[0].payload["steps"], 1);
    });
}

#[test]
fn each_change_is_told_once_in_its_order_with_who_it_is_about() {
    World::run(|world| async move {
        let events = publisher(&["*"]);
        let orchestrator = world.orchestrator_that_tells(&json!({"execution": {"threads": 1}}), &events).await;
        let named =
            handlers([("first", fails_once as fn(&StepContext) -> Result<Value, HandlerError>), ("second", declined)]);
        handler::run(&orchestrator, named, 1);
        let definition = workflow("order", &[("first", &[]), ("second", &["first"])]);
        let definition = with(definition, 0, "retry", json!({"backoff": "fixed", "base": "20ms", "jitter": 0}));
        let task = world.create_task(&definition, &json!({})).await;

        let told = until(&events, "task.failed").await;
        assert_eq!(
            outline(&told),
            [
                "step.started first 1",
                "step.retry_scheduled first 1",
                "step.started first 2",
                "step.completed first 2",
                "step.started second 1",
                "step.failed second 1",
                "task.failed",
            ]
        );
        let correlation_id = world.text("select correlation_id::text from tasker_tasks where id = $1", task.id).await;
        for event in &told {
            assert_eq!(event.correlation_id.unwrap().to_string(), correlation_id);
            assert_eq!(event.payload["task_id"], task.id);
            assert_eq!(event.payload["task_uuid"], task.uuid.to_string());
            assert_eq!(event.payload["workflow"], "order");
            assert_eq!(event.payload["namespace"], "default");
        }
        assert!(told.windows(2).all(|pair| pair[0].id < pair[1].id), "ids are in the order of publication");
        assert_eq!(told[1].payload["delay_ms"], 20.0);
        assert_eq!(told[1].payload["error"]["message"], "busy");
        assert_eq!(told[5].payload["error"]["code"], "card_declined");
        assert!(told[3].payload["duration_ms"].is_number());
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(events.figures().waiting, 0, "nothing is told twice");
    });
}

#[test]
fn what_a_sweep_finds_is_told_by_the_process_that_sweeps() {
    World::run(|world| async move {
        let retries = json!({"max_attempts": 2, "backoff": "fixed", "base": "1m", "jitter": 0});
        let again = with(workflow("again", &[("only", &[])]), 0, "retry", retries);
        let over = with(workflow("over", &[("only", &[])]), 0, "retryable", json!(false));
        world.create_task(&again, &json!({})).await;
        world.create_task(&over, &json!({})).await;
        let dead = world.process().await;
        assert_eq!(world.kernel.claim_steps(dead, &["*".to_owned()], 2, 1 << 20).await.unwrap().len(), 2);
        world.pool.execute("delete from tasker_processes").await.unwrap();

        let events = publisher(&["step.*", "task.*"]);
        let orchestrator = world.orchestrator_that_tells(&json!({}), &events).await;
        let told = until(&events, "task.failed").await;
        let mut outline = outline(&told);
        outline.sort_unstable();
        assert_eq!(outline, ["step.failed only 1", "step.retry_scheduled only 1", "task.failed"]);
        let lost = told.iter().find(|event| event.name == "step.retry_scheduled").unwrap();
        assert_eq!(lost.payload["delay_ms"], 60_000.0);
        assert_eq!(lost.payload["error"]["class"], "TaskerCore::LostAttempt");
        assert_eq!(lost.payload["workflow"], "again");
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn what_nobody_listens_to_is_not_told() {
    World::run(|world| async move {
        let events = publisher(&["task.completed"]);
        let orchestrator = world.orchestrator_that_tells(&json!({}), &events).await;
        let echo =
            handlers([("only", (|_: &StepContext| Ok(json!({}))) as fn(&StepContext) -> Result<Value, HandlerError>)]);
        handler::run(&orchestrator, echo, 1);
        world.create_task(&workflow("one", &[("only", &[])]), &json!({})).await;
        assert_eq!(outline(&until(&events, "task.completed").await), ["task.completed"]);
        assert_eq!(events.figures().published, 1);
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
    });
}
