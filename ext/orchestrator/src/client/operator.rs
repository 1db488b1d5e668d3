//! An operator's actions on tasks and steps, from Rust. In Ruby, the models have the same actions on the application's
//! own connection.
//!
//! Invariant: each action calls the SQL function of its name with a reason and an actor. After the commit it publishes
//! the events and wakes idle workers. Neighbour: `functions` calls the functions.

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
    /// A task by its id. It need not exist: an action on it fails then.
    pub fn new(functions: Functions, id: i64) -> Self {
        Self { functions, id, events: None }
    }

    /// The same task; its actions publish their events here.
    pub fn with_events(self, events: EventPublisher) -> Self {
        Self { events: Some(events), ..self }
    }

    /// A step by its position in the workflow.
    pub fn step(&self, position: i32) -> WorkflowStep {
        WorkflowStep { task: self.clone(), position }
    }

    /// Cancels a task that has not ended; handlers that still run cannot finish their steps.
    ///
    /// # Errors
    /// Those of every action: `Error::Function` with `UnknownTask` if the task or step does not exist,
    /// `InvalidTransition` if its state forbids the action, and `InvalidArgument` if `reason` or `by` is blank.
    pub async fn cancel(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.publish_and_wake(self.functions.cancel_task(self.id, reason, by).await?).await
    }

    /// Alias of [`cancel`](Self::cancel).
    pub async fn cancel_with_reason(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.cancel(reason, by).await
    }

    /// Retries every failed step with its attempts reset, and the task continues. If none has failed, makes the waiting
    /// steps ready now.
    pub async fn retry(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.publish_and_wake(self.functions.retry_task(self.id, reason, by).await?).await
    }

    /// Alias of [`retry`](Self::retry).
    pub async fn reset_attempts(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.retry(reason, by).await
    }

    /// Resolves a task that ended with an error and was handled outside: it no longer counts as failed.
    pub async fn resolve(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.publish_and_wake(self.functions.resolve_task(self.id, reason, by).await?).await
    }

    /// Publishes the action's events and wakes workers for the steps that became ready.
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
    /// Retries a failed step with its attempts reset, or makes a waiting step ready now.
    pub async fn retry(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task.publish_and_wake(self.functions().retry_step(self.task.id, self.position, reason, by).await?).await
    }

    /// Releases a step from the process that runs it, without using an attempt.
    pub async fn release(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task.publish_and_wake(self.functions().release_step(self.task.id, self.position, reason, by).await?).await
    }

    /// Resolves a step that failed or has not begun and was handled outside; its children may run.
    pub async fn resolve(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task.publish_and_wake(self.functions().resolve_step(self.task.id, self.position, reason, by).await?).await
    }

    /// Alias of [`resolve`](Self::resolve).
    pub async fn mark_resolved(&self, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.resolve(reason, by).await
    }

    /// Completes a step that failed or has not begun with a result (an object) that its children read.
    pub async fn complete(&self, result: &RawValue, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task
            .publish_and_wake(self.functions().complete_step(self.task.id, self.position, result, reason, by).await?)
            .await
    }

    /// Replaces the result (an object) of a step that is done; children that start later read the new one.
    pub async fn update_result(&self, result: &RawValue, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task
            .publish_and_wake(self.functions().update_result(self.task.id, self.position, result, reason, by).await?)
            .await
    }

    fn functions(&self) -> &Functions {
        &self.task.functions
    }
}
