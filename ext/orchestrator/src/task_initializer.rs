//! The Rust door to creating tasks; the Ruby door is `Workflow.create!`, on the application's own connection.
//!
//! Invariant: no task without its input checked and its version registered. Neighbours: `kernel` writes;
//! `workflow` checks.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use crate::correlation::{CorrelationId, LogContext};
use crate::error::Error;
use crate::kernel::{CreatedTask, Kernel, TaskRequest};
use crate::workflow::Workflow;

/// Creates tasks of one workflow version.
pub struct TaskInitializer {
    kernel: Kernel,
    workflow: Arc<Workflow>,
    registered: OnceCell<i64>,
}

impl TaskInitializer {
    pub fn new(kernel: Kernel, workflow: Arc<Workflow>) -> Self {
        Self { kernel, workflow, registered: OnceCell::new() }
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

    /// Creates all the tasks in one transaction and wakes idle workers.
    pub async fn create(&self, requests: &[TaskRequest]) -> Result<Vec<CreatedTask>, Error> {
        self.registered.get_or_try_init(|| self.kernel.register_workflow(&self.workflow)).await?;
        let created = self.kernel.create_tasks(requests).await?;
        let mut queues: Vec<String> = created.iter().flat_map(|task| task.queues.iter().cloned()).collect();
        queues.sort_unstable();
        queues.dedup();
        if let Err(error) = self.kernel.wake_workers(&queues).await {
            tracing::debug!(error.class = error.class(), error.message = %error, "no notice sent; the workers' poll will find the steps");
        }
        Ok(created)
    }
}
