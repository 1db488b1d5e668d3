//! An event of a step, a task, a workflow, or the application.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// A published event, as listeners receive it.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// UUID v7: unique, and sorted by publication within a process.
    pub id: Uuid,
    pub name: String,
    /// Seconds since 1970, to the microsecond.
    pub occurred_at: f64,
    pub correlation_id: Option<Uuid>,
    pub payload: Map<String, Value>,
}

impl Event {
    /// An event that occurs now.
    pub fn new(name: &str, correlation_id: Option<Uuid>, payload: Map<String, Value>) -> Self {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            id: Uuid::now_v7(),
            name: name.to_owned(),
            occurred_at: since_epoch.as_micros() as f64 / 1e6,
            correlation_id,
            payload,
        }
    }
}
