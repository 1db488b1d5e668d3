//! Enqueues jobs for steps in the application's own job queue.
//!
//! Invariant: a job carries the key of a claim, and nothing else gives it the right to run the step; a job that the
//! queue loses, repeats or delays therefore does no harm. Neighbours: `worker::queue_dispatcher` claims the steps,
//! `channel` has the implementation for a thread that belongs to another runtime.

mod channel;

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use uuid::Uuid;

use crate::claim::ClaimKey;

pub use self::channel::{ChannelEnqueuer, JobBatch};

/// A step to run as a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepJob {
    /// What the job passes to `Orchestrator::adopt`.
    pub claim: ClaimKey,
    pub queue: String,
    /// The smallest number is the most urgent.
    pub priority: i64,
    pub task_uuid: Uuid,
    pub correlation_id: Uuid,
    pub namespace: String,
    pub workflow: String,
    pub step: String,
}

/// Why a job was not enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueueError {
    /// The name of the exception's class.
    pub class: String,
    pub message: String,
}

/// For each job, in order, whether it was enqueued.
pub type Enqueued = Vec<Result<(), EnqueueError>>;

/// A job queue. An implementation must respond for every job; it may report one as failed that was enqueued: the job
/// then finds that its step is no longer claimed for it.
pub trait TaskEnqueuer: Send + Sync {
    fn enqueue(&self, jobs: Vec<StepJob>) -> Pin<Box<dyn Future<Output = Enqueued> + Send + '_>>;
}
