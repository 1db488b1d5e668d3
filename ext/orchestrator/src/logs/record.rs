//! A log line before it is formatted.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use tracing::Level;

use crate::correlation::LogContext;

/// An event with its context; the logger formats it.
#[derive(Debug, Clone)]
pub struct Record {
    pub at: SystemTime,
    pub level: Level,
    pub message: String,
    pub context: Arc<LogContext>,
    /// The operating system's id of the process.
    pub process: u32,
    /// The event's own fields, in the order in which they were recorded.
    pub fields: Vec<(String, Value)>,
}
