//! Creates tasks from Rust; Ruby does so with `Workflow.create!`, on the application's own connection.
//!
//! Invariant: a task is created only after its input is checked and its version registered. Neighbours: `functions`
//! writes; `workflow` checks.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{json, Value};
use tokio::sync::OnceCell;

use crate::correlation::{CorrelationId, LogContext};
use crate::database::functions::{CreatedTask, Functions, TaskRequest};
use crate::error::{Error, FunctionErrorCode};
use crate::events::{publish_all, Event, EventPayload, EventPublisher};
use crate::workflow::Workflow;

/// Creates tasks of one workflow version.
pub struct TaskInitializer {
    functions: Functions,
    workflow: Arc<Workflow>,
    registered: OnceCell<i64>,
    events: Option<EventPublisher>,
}

const CREATED: &str = "task.created";

impl TaskInitializer {
    /// Maximum steps that one statement creates, unless a single task has more.
    pub const MAX_STEPS: usize = 10_000;
    /// Maximum bytes of requests in one statement, unless a single one has more.
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;

    pub fn new(functions: Functions, workflow: Arc<Workflow>) -> Self {
        Self { functions, workflow, registered: OnceCell::new(), events: None }
    }

    /// The same initializer, which publishes the events of created tasks and of the version's registration.
    pub fn with_events(self, events: EventPublisher) -> Self {
        Self { events: Some(events), ..self }
    }

    /// A request for a task with this input and defaults for the rest. Its correlation id is the current one; within an
    /// attempt, that is also its parent's.
    ///
    /// # Errors
    /// `Error::Input` with every problem of the input.
    pub fn request(&self, input: Box<RawValue>) -> Result<TaskRequest, Error> {
        self.workflow.validate_input(input.get())?;
        let current = LogContext::current().unwrap_or_default();
        Ok(TaskRequest {
            namespace: self.workflow.namespace().to_owned(),
            workflow: self.workflow.name().to_owned(),
            version: self.workflow.version().to_owned(),
            input,
            priority: 0,
            wait_until: None,
            idempotency_key: None,
            correlation_id: current.correlation_id.map(CorrelationId::as_uuid),
            parent_correlation_id: current.task_id.and(current.correlation_id).map(CorrelationId::as_uuid),
            tags: Vec::new(),
        })
    }

    /// Creates all the tasks in one transaction and wakes idle workers. A version that has been removed since it was
    /// registered, by a truncation, a restore or retention, is registered again, once.
    ///
    /// What is atomic: the whole call. After an error no task of it exists, unless the error is a time-out or a lost
    /// connection at the commit, after which either all of them exist or none; with an idempotency key for each, the
    /// call can be repeated. The registration of the version is committed before, and stays.
    ///
    /// What is bounded: a statement creates at most [`Self::MAX_STEPS`] steps from at most [`Self::MAX_BYTES`] of
    /// requests, or a single task, so that neither `database.statement_timeout` nor PostgreSQL's limit of 1 GB depends
    /// on how many there are. The transaction takes as long as all of its statements; what may take hours is better
    /// created by several calls. Two transactions that use the same idempotency keys in another order may stop each
    /// other: the database then refuses one of them.
    ///
    /// # Errors
    /// `Error::Function` with `IdempotencyConflict` when a key belongs to a task with another input; `Error::Refused`
    /// when the database does not accept what a request has.
    pub async fn create(&self, requests: &[TaskRequest]) -> Result<Vec<CreatedTask>, Error> {
        self.registered.get_or_try_init(|| self.register()).await?;
        let parts = parts(requests, self.workflow.steps().len());
        let created = match self.functions.create_tasks(&parts).await {
            Err(Error::Function { code: FunctionErrorCode::UnknownVersion, .. }) => {
                self.register().await?;
                self.functions.create_tasks(&parts).await?
            }
            other => other?,
        };
        // Before workers are woken, so that no event of a step precedes its task's creation.
        let new = created.iter().filter(|task| !task.existing);
        self.publish(CREATED, new.map(|task| self.created(task))).await;
        let mut queues: Vec<String> = created.iter().flat_map(|task| task.queues.iter().cloned()).collect();
        queues.sort_unstable();
        queues.dedup();
        self.functions.try_wake_workers(&queues).await;
        Ok(created)
    }

    async fn register(&self) -> Result<i64, Error> {
        let registered = self.functions.register_workflow(&self.workflow).await?;
        self.publish("workflow.registered", registered.emitted.iter().map(EventPayload::event)).await;
        Ok(registered.id)
    }

    fn created(&self, task: &CreatedTask) -> Event {
        let facts = json!({
            "task_id": task.id, "task_uuid": task.uuid, "namespace": self.workflow.namespace(),
            "workflow": self.workflow.name(), "version": self.workflow.version()
        });
        let payload = match facts {
            Value::Object(payload) => payload,
            _ => serde_json::Map::new(),
        };
        Event::new(CREATED, Some(task.correlation_id), payload)
    }

    async fn publish(&self, name: &str, events: impl Iterator<Item = Event>) {
        if let Some(publisher) = self.events.as_ref().filter(|publisher| publisher.is_interested(name)) {
            publish_all(publisher, events).await;
        }
    }
}

/// Splits requests into the parts of one statement each, in their order; at least one part.
fn parts(requests: &[TaskRequest], steps: usize) -> Vec<&[TaskRequest]> {
    let max = (TaskInitializer::MAX_STEPS / steps.max(1)).max(1);
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, request) in requests.iter().enumerate() {
        let more = request.bytes();
        if index > start && (index - start == max || bytes + more > TaskInitializer::MAX_BYTES) {
            parts.push(&requests[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += more;
    }
    parts.push(&requests[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_STEPS: usize = TaskInitializer::MAX_STEPS;
    const MAX_BYTES: usize = TaskInitializer::MAX_BYTES;

    fn request(bytes: usize) -> TaskRequest {
        let input = json!({ "text": "x".repeat(bytes) }).to_string();
        TaskRequest {
            namespace: "default".to_owned(),
            workflow: "w".to_owned(),
            version: "1".to_owned(),
            input: RawValue::from_string(input).unwrap(),
            priority: 0,
            wait_until: None,
            idempotency_key: None,
            correlation_id: None,
            parent_correlation_id: None,
            tags: Vec::new(),
        }
    }

    fn sizes(requests: &[TaskRequest], steps: usize) -> Vec<usize> {
        parts(requests, steps).iter().map(|part| part.len()).collect()
    }

    #[test]
    fn requests_are_sent_in_parts_of_bounded_steps_and_bytes() {
        let small = vec![request(1); 7];
        assert_eq!(sizes(&small, MAX_STEPS / 3), [3, 3, 1]);
        assert_eq!(sizes(&small, MAX_STEPS), [1; 7]);
        assert_eq!(sizes(&small, MAX_STEPS + 1), [1; 7], "at least one");
        assert_eq!(sizes(&small, 1), [7]);
        let third = request(MAX_BYTES / 3);
        let mixed = [third.clone(), third.clone(), third.clone(), request(MAX_BYTES * 2), request(1), third];
        assert_eq!(sizes(&mixed, 1), [2, 1, 1, 2], "a frame around each makes three too long");
        assert_eq!(sizes(&[], 1), [0]);
        let mut tagged = vec![request(1); 2];
        tagged[1].tags = vec!["t".repeat(MAX_BYTES)];
        assert_eq!(sizes(&tagged, 1), [1, 1], "tags count as well");
    }
}
