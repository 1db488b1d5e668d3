//! What an operator does to a task and to its steps, from Rust. The Ruby door is the models' verbs, on the application's own
//! connection.
//!
//! Invariant: each verb is the SQL function of its name, with who and why; whoever listens is told after the commit, and
//! idle workers hear of what became ready. Neighbour: `functions` calls the functions.

use serde_json::value::RawValue;

use crate::database::functions::{ActionResult, Functions};
use crate::error::Error;
use crate::events::{publish_all, EventPayload, EventPublisher};

/// A task, for an operator.
#[derive(Clone)]
pub struct Task {
    functions: Functions,
    id: i64,
    events: Option<EventPublisher>,
}

/// One of its steps.
#[derive(Clone)]
pub struct WorkflowStep {
    task: Task,
    position: i32,
}

impl Task {
    /// A task by its id; whether it exists is seen when a verb is called.
    pub fn new(functions: Functions, id: i64) -> Self {
        Self { functions, id, events: None }
    }

    /// The same, and whoever listens there is told of what its verbs change.
    pub fn with_events(self, events: EventPublisher) -> Self {
        Self { events: Some(events), ..self }
    }

    /// A step by its place in the workflow.
    pub fn step(&self, position: i32) -> WorkflowStep {
        WorkflowStep { task: self.clone(), position }
    }

    /// Ends a task that has not ended; what runs of it can finish nothing any more.
    ///
    /// # Errors
    /// Those of every verb: `Error::Function` with `UnknownTask` when there is no such task or step, `InvalidTransition` when the
    /// state forbids it, and `InvalidArgument` when `reason` or `by` is blank.
    pub async fn cancel_with_reason(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.publish_and_wake(self.functions.cancel_task(self.id, reason, by).await?).await
    }

    /// Gives every failed step all its attempts again; a task that had ended goes on.
    pub async fn reset_attempts(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.publish_and_wake(self.functions.reset_attempts(self.id, reason, by).await?).await
    }

    /// Declares a task that ended with an error to be dealt with.
    pub async fn resolve(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.publish_and_wake(self.functions.resolve_task(self.id, reason, by).await?).await
    }

    /// Tells of it, and wakes workers.
    async fn publish_and_wake(&self, result: ActionResult) -> Result<ActionResult, Error> {
        if let Some(events) = &self.events {
            publish_all(
                events,
                result.emitted.iter().filter(|event| events.is_interested(&event.name)).map(EventPayload::event),
            )
            .await;
        }
        self.functions.try_wake_workers(&result.ready_queues).await;
        Ok(result)
    }
}

impl WorkflowStep {
    /// Gives a failed step all its attempts again.
    pub async fn reset_attempts(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task.publish_and_wake(self.functions().reset_step(self.task.id, self.position, reason, by).await?).await
    }

    /// Makes a step that waits for its next attempt, or for its time, ready at once.
    pub async fn retry_now(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task.publish_and_wake(self.functions().retry_now(self.task.id, self.position, reason, by).await?).await
    }

    /// Takes a step from the process that runs it, without spending an attempt.
    pub async fn release(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task.publish_and_wake(self.functions().release_step(self.task.id, self.position, reason, by).await?).await
    }

    /// Declares a step that failed or has not begun to be dealt with; its children may run.
    pub async fn mark_resolved(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task.publish_and_wake(self.functions().resolve_step(self.task.id, self.position, reason, by).await?).await
    }

    /// As `mark_resolved`, with a result (an object) that its children see.
    pub async fn complete(&self, result: &RawValue, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task
            .publish_and_wake(self.functions().complete_step(self.task.id, self.position, result, reason, by).await?)
            .await
    }

    /// Replaces the result (an object) of a step that is done.
    pub async fn update_result(&self, result: &RawValue, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task
            .publish_and_wake(
                self.functions().update_step_result(self.task.id, self.position, result, reason, by).await?,
            )
            .await
    }

    fn functions(&self) -> &Functions {
        &self.task.functions
    }
}
