//! What an operator does to a task and to its steps, from Rust. The Ruby door is the models' verbs, on the application's own
//! connection.
//!
//! Invariant: each verb is the SQL function of its name, with who and why; whoever listens is told after the commit, and
//! idle workers hear of what became ready. Neighbour: `kernel` calls the functions.

use serde_json::value::RawValue;

use crate::error::Error;
use crate::events::{tell_all, EventPublisher, Told};
use crate::kernel::{Changed, Kernel};

/// A task, for an operator.
#[derive(Clone)]
pub struct Task {
    kernel: Kernel,
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
    pub fn new(kernel: Kernel, id: i64) -> Self {
        Self { kernel, id, events: None }
    }

    /// The same, and whoever listens there is told of what its verbs change.
    pub fn telling(self, events: EventPublisher) -> Self {
        Self { events: Some(events), ..self }
    }

    /// A step by its place in the workflow.
    pub fn step(&self, position: i32) -> WorkflowStep {
        WorkflowStep { task: self.clone(), position }
    }

    /// Ends a task that has not ended; what runs of it can finish nothing any more.
    ///
    /// # Errors
    /// Those of every verb: `Error::Kernel` with `UnknownTask` when there is no such task or step, `RefusedTransition` when the
    /// state forbids it, and `BadArgument` when `reason` or `by` is blank.
    pub async fn cancel_with_reason(&self, reason: &str, by: &str) -> Result<Changed, Error> {
        self.changed(self.kernel.cancel_task(self.id, reason, by).await?).await
    }

    /// Gives every failed step all its attempts again; a task that had ended goes on.
    pub async fn reset_attempts(&self, reason: &str, by: &str) -> Result<Changed, Error> {
        self.changed(self.kernel.reset_attempts(self.id, reason, by).await?).await
    }

    /// Declares a task that ended with an error to be dealt with.
    pub async fn resolve(&self, reason: &str, by: &str) -> Result<Changed, Error> {
        self.changed(self.kernel.resolve_task(self.id, reason, by).await?).await
    }

    /// Tells of it, and wakes workers.
    async fn changed(&self, changed: Changed) -> Result<Changed, Error> {
        if let Some(events) = &self.events {
            tell_all(events, changed.emitted.iter().filter(|told| events.wants(&told.name)).map(Told::event)).await;
        }
        self.kernel.wake_for(&changed.ready_queues).await;
        Ok(changed)
    }
}

impl WorkflowStep {
    /// Gives a failed step all its attempts again.
    pub async fn reset_attempts(&self, reason: &str, by: &str) -> Result<Changed, Error> {
        self.task.changed(self.kernel().reset_step(self.task.id, self.position, reason, by).await?).await
    }

    /// Makes a step that waits for its next attempt, or for its time, ready at once.
    pub async fn retry_now(&self, reason: &str, by: &str) -> Result<Changed, Error> {
        self.task.changed(self.kernel().retry_now(self.task.id, self.position, reason, by).await?).await
    }

    /// Takes a step from the process that runs it, without spending an attempt.
    pub async fn release(&self, reason: &str, by: &str) -> Result<Changed, Error> {
        self.task.changed(self.kernel().release_step(self.task.id, self.position, reason, by).await?).await
    }

    /// Declares a step that failed or has not begun to be dealt with; its children may run.
    pub async fn mark_resolved(&self, reason: &str, by: &str) -> Result<Changed, Error> {
        self.task.changed(self.kernel().resolve_step(self.task.id, self.position, reason, by).await?).await
    }

    /// As `mark_resolved`, with a result (an object) that its children see.
    pub async fn complete(&self, result: &RawValue, reason: &str, by: &str) -> Result<Changed, Error> {
        self.task.changed(self.kernel().complete_step(self.task.id, self.position, result, reason, by).await?).await
    }

    /// Replaces the result (an object) of a step that is done.
    pub async fn update_result(&self, result: &RawValue, reason: &str, by: &str) -> Result<Changed, Error> {
        self.task
            .changed(self.kernel().update_step_result(self.task.id, self.position, result, reason, by).await?)
            .await
    }

    fn kernel(&self) -> &Kernel {
        &self.task.kernel
    }
}
