//! Notices of what has happened, for those who listen in the same process.
//!
//! Invariant: an event leaves only after the commit that it tells of, once, in the process that made the change; events of a
//! task keep their order. What nobody listens to is not even built. Neighbours: `registry` knows the names, `publisher`
//! holds what waits for its listeners; dispatcher and maintenance tell it what became of steps and tasks.

mod payload;
mod publisher;
mod registry;

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

pub use payload::{AttemptEvent, EventPayload, StepFacts, TaskFacts};
pub use publisher::{EventPublisher, EventStats};
pub use registry::{EventType, Field, EVENT_TYPES};

/// One notice.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// UUID v7: unique, and in the order of publication within a process.
    pub id: Uuid,
    pub name: String,
    /// Seconds since 1970, to the microsecond.
    pub occurred_at: f64,
    pub correlation_id: Option<Uuid>,
    pub payload: Map<String, Value>,
}

impl Event {
    /// An event of this moment.
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

/// Publishes what has been committed; that an event could not be published changes nothing about that.
pub async fn publish_all(publisher: &EventPublisher, events: impl Iterator<Item = Event>) {
    for event in events {
        if let Err(error) = publisher.publish(event).await {
            tracing::error!(%error, "an event was not published");
        }
    }
}
