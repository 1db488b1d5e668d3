//! The Rust door to creating tasks; the Ruby door is `Workflow.create!`, on the application's own connection.
//!
//! Invariant: no task without its input checked and its version registered. Neighbours: `functions` writes;
//! `workflow` checks.

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
    pub fn new(functions: Functions, workflow: Arc<Workflow>) -> Self {
        Self { functions, workflow, registered: OnceCell::new(), events: None }
    }

    /// The same, and whoever listens there is told of tasks that are created and of the version's registration.
    pub fn with_events(self, events: EventPublisher) -> Self {
        Self { events: Some(events), ..self }
    }

    /// A request for a task with this input and otherwise defaults. Its correlation id is the current one; where a task
    /// is being worked at, that is its parent's too.
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
    pub async fn create(&self, requests: &[TaskRequest]) -> Result<Vec<CreatedTask>, Error> {
        self.registered.get_or_try_init(|| self.register()).await?;
        let created = match self.functions.create_tasks(requests).await {
            Err(Error::Function { code: FunctionErrorCode::UnknownVersion, .. }) => {
                self.register().await?;
                self.functions.create_tasks(requests).await?
            }
            other => other?,
        };
        // Before workers are told of them.
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
