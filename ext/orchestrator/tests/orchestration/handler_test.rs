//! Attempts whose handlers do not return: they panic, at once or later, or take too long.

use async_trait::async_trait;
use serde_json::{json, Value};
use tasker_orchestrator::{HandlerError, HandlerRegistry, StepContext, StepHandler};

use crate::support::{with, workflow, World};

/// Takes longer than any test.
struct Endless;

#[async_trait]
impl StepHandler for Endless {
    async fn call(&self, _: &StepContext) -> Result<Value, HandlerError> {
        std::future::pending().await
    }
}

/// Panics while its future runs.
struct PanicsLater;

#[async_trait]
impl StepHandler for PanicsLater {
    async fn call(&self, _: &StepContext) -> Result<Value, HandlerError> {
        tokio::task::yield_now().await;
        panic!("panicked later")
    }
}

/// Takes longer than any test, and panics when its future is dropped.
struct PanicsWhenDropped;

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        panic!("panicked when dropped")
    }
}

#[async_trait]
impl StepHandler for PanicsWhenDropped {
    async fn call(&self, _: &StepContext) -> Result<Value, HandlerError> {
        let _guard = Guard;
        std::future::pending().await
    }
}

/// Panics before there is a future: written without the macro, as a handler may be.
struct PanicsAtOnce;

impl StepHandler for PanicsAtOnce {
    fn call<'life0, 'life1, 'call>(
        &'life0 self,
        _: &'life1 StepContext,
    ) -> std::pin::Pin<Box<dyn std::future::Future<Output = Result<Value, HandlerError>> + Send + 'call>>
    where
        'life0: 'call,
        'life1: 'call,
        Self: 'call,
    {
        panic!("panicked at once")
    }
}

/// Runs one step once with a handler; returns its error.
fn error_of(handler: impl StepHandler + 'static, expected: Value) {
    World::run(|world| async move {
        let mut handlers = HandlerRegistry::default();
        handlers.register("s", handler);
        let definition = with(workflow("one", &[("s", &[])]), 0, "timeout", json!("200ms"));
        let definition = with(definition, 0, "retryable", json!(false));
        let task = world.create_task(&definition, &json!({})).await.id;
        let worker = world.worker(&handlers, &json!({"execution": {"threads": 1}})).await;
        assert_eq!(world.ended(task).await, "error");
        let error = world.steps(task).await.remove(0).error;
        assert_eq!(json!([error["class"], error["message"]]), expected);
        worker.stop(std::time::Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_handler_that_panics_at_once_fails_its_step() {
    error_of(PanicsAtOnce, json!(["Panic", "panicked at once"]));
}

#[test]
fn a_handler_that_panics_later_fails_its_step() {
    error_of(PanicsLater, json!(["Panic", "panicked later"]));
}

#[test]
fn a_handler_that_exceeds_its_time_limit_fails_its_step() {
    error_of(Endless, json!(["Timeout", "the time limit of 200ms has passed"]));
}

#[test]
fn a_handler_that_panics_when_it_is_dropped_fails_its_step() {
    error_of(PanicsWhenDropped, json!(["Timeout", "the time limit of 200ms has passed"]));
}

#[test]
#[should_panic(expected = "the test has not ended within 50ms")]
fn a_test_that_hangs_fails_and_names_what_the_database_does() {
    World::run_within(std::time::Duration::from_millis(50), |_| std::future::pending());
}
