//! A step of a compiled workflow.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::configuration::{Backoff, RetryPolicy};

/// Where a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dispatch {
    /// In a worker.
    Worker,
    /// In a job of the application's queue.
    ActiveJob,
}

impl Dispatch {
    pub const NAMES: [&str; 2] = ["worker", "active_job"];

    pub fn of(name: &str) -> Option<Self> {
        match name {
            "worker" => Some(Self::Worker),
            "active_job" => Some(Self::ActiveJob),
            _ => None,
        }
    }
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Index in an order in which every parent comes first, from 0.
    pub position: usize,
    pub name: String,
    pub handler: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub queue: String,
    /// As declared; otherwise the settings decide by its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<Dispatch>,
    /// Added to the task's; the smallest number runs first.
    pub priority: i32,
    pub level: u32,
    /// Positions of the parents.
    pub dependencies: Vec<usize>,
    /// Positions of the children.
    pub dependents: Vec<usize>,
    #[serde(flatten, serialize_with = "policy_in_milliseconds")]
    pub retry: RetryPolicy,
    #[serde(rename = "timeout_ms", serialize_with = "milliseconds")]
    pub timeout: Duration,
    /// The name of the external system that it depends on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    pub config: Value,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(millis(*duration))
}

fn policy_in_milliseconds<S: serde::Serializer>(policy: &RetryPolicy, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct InMilliseconds {
        max_attempts: u32,
        backoff: Backoff,
        base_ms: u64,
        factor: f64,
        cap_ms: u64,
        jitter: f64,
    }
    InMilliseconds {
        max_attempts: policy.max_attempts,
        backoff: policy.backoff,
        base_ms: millis(policy.base),
        factor: policy.factor,
        cap_ms: millis(policy.cap),
        jitter: policy.jitter,
    }
    .serialize(serializer)
}
