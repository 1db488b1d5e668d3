//! The events that a worker process publishes about its steps and tasks.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{json, Value};
use sqlx::Executor;
use tasker_orchestrator::database::functions::TaskRequest;
use tasker_orchestrator::events::Event;
use tasker_orchestrator::{handler, EventPublisher, HandlerError, StepContext, TaskInitializer, Workflow};

use crate::support::{configuration, handlers, with, workflow, World};

const CREATED: &str = "task.created";

fn publisher(patterns: &[&str]) -> EventPublisher {
    let events = EventPublisher::new(configuration(&json!({"events": {"flush_interval": 0}})).events);
    events.set_interests(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>()).unwrap();
    events
}

/// Takes events until one of them has the name; returns all.
async fn until(events: &EventPublisher, name: &str) -> Vec<Event> {
    let mut received = Vec::new();
    while !received.iter().any(|event: &Event| event.name == name) {
        let batch = tokio::time::timeout(Duration::from_secs(20), events.next_batch()).await;
        received.extend(batch.unwrap_or_else(|_| panic!("{name} was not published, but {received:?}")).unwrap());
    }
    received
}

fn outline(received: &[Event]) -> Vec<String> {
    received
        .iter()
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
        let initializer = TaskInitializer::new(world.functions.clone(), one);
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
fn creating_tasks_publishes_them_and_a_new_version() {
    World::run(|world| async move {
        let events = publisher(&["*"]);
        let one = Arc::new(Workflow::compile(&workflow("one", &[("s", &[])]), &configuration(&json!({}))).unwrap());
        let initializer = TaskInitializer::new(world.functions.clone(), one.clone()).with_events(events.clone());
        let keyed = |key: &str| {
            let request = initializer.request(RawValue::from_string("{}".to_owned()).unwrap()).unwrap();
            TaskRequest { idempotency_key: Some(key.to_owned()), ..request }
        };
        let created = initializer.create(&[keyed("a"), keyed("b")]).await.unwrap();
        let again = initializer.create(&[keyed("b"), keyed("c")]).await.unwrap();
        let received = until(&events, CREATED).await;
        let received =
            [received, if events.stats().waiting > 0 { until(&events, CREATED).await } else { vec![] }].concat();
        let outline: Vec<_> =
            received.iter().map(|event| (event.name.as_str(), event.payload.get("task_id"))).collect();
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
        assert_eq!(received[1].correlation_id, Some(created[0].correlation_id));
        assert_eq!(received[1].payload["version"], one.version());
        assert_eq!(received[0].payload["steps"], 1);
    });
}

#[test]
fn each_change_is_published_once_and_in_order() {
    World::run(|world| async move {
        let events = publisher(&["*"]);
        let orchestrator = world.orchestrator_with_events(&json!({"execution": {"threads": 1}}), &events).await;
        let named =
            handlers([("first", fails_once as fn(&StepContext) -> Result<Value, HandlerError>), ("second", declined)]);
        handler::run(&orchestrator, named, 1);
        let definition = workflow("order", &[("first", &[]), ("second", &["first"])]);
        let definition = with(definition, 0, "retry", json!({"backoff": "fixed", "base": "20ms", "jitter": 0}));
        let task = world.create_task(&definition, &json!({})).await;

        let received = until(&events, "task.failed").await;
        assert_eq!(
            outline(&received),
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
        for event in &received {
            assert_eq!(event.correlation_id.unwrap().to_string(), correlation_id);
            assert_eq!(event.payload["task_id"], task.id);
            assert_eq!(event.payload["task_uuid"], task.uuid.to_string());
            assert_eq!(event.payload["workflow"], "order");
            assert_eq!(event.payload["namespace"], "default");
        }
        assert!(received.windows(2).all(|pair| pair[0].id < pair[1].id), "ids are in the order of publication");
        assert_eq!(received[1].payload["delay_ms"], 20.0);
        assert_eq!(received[1].payload["error"]["message"], "busy");
        assert_eq!(received[5].payload["error"]["code"], "card_declined");
        assert!(received[3].payload["duration_ms"].is_number());
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(events.stats().waiting, 0, "no event is published twice");
    });
}

#[test]
fn the_sweeping_process_publishes_what_a_sweep_finds() {
    World::run(|world| async move {
        let retries = json!({"max_attempts": 2, "backoff": "fixed", "base": "1m", "jitter": 0});
        let again = with(workflow("again", &[("only", &[])]), 0, "retry", retries);
        let ends = with(workflow("over", &[("only", &[])]), 0, "retryable", json!(false));
        world.create_task(&again, &json!({})).await;
        world.create_task(&ends, &json!({})).await;
        let dead = world.process().await;
        assert_eq!(world.functions.claim_steps(dead, &["*".to_owned()], 2, 1 << 20).await.unwrap().len(), 2);
        world.pool.execute("delete from tasker_processes").await.unwrap();

        let events = publisher(&["step.*", "task.*"]);
        let orchestrator = world.orchestrator_with_events(&json!({}), &events).await;
        let received = until(&events, "task.failed").await;
        let mut outline = outline(&received);
        outline.sort_unstable();
        assert_eq!(outline, ["step.failed only 1", "step.retry_scheduled only 1", "task.failed"]);
        let lost = received.iter().find(|event| event.name == "step.retry_scheduled").unwrap();
        assert_eq!(lost.payload["delay_ms"], 60_000.0);
        assert_eq!(lost.payload["error"]["class"], "TaskerCore::LostAttempt");
        assert_eq!(lost.payload["workflow"], "again");
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn events_without_a_listener_are_not_published() {
    World::run(|world| async move {
        let events = publisher(&["task.completed"]);
        let orchestrator = world.orchestrator_with_events(&json!({}), &events).await;
        let echo =
            handlers([("only", (|_: &StepContext| Ok(json!({}))) as fn(&StepContext) -> Result<Value, HandlerError>)]);
        handler::run(&orchestrator, echo, 1);
        world.create_task(&workflow("one", &[("only", &[])]), &json!({})).await;
        assert_eq!(outline(&until(&events, "task.completed").await), ["task.completed"]);
        assert_eq!(events.stats().published, 1);
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
    });
}
