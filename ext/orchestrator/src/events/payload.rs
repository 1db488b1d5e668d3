//! Converts the database's responses about steps and tasks to events.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{json, Map, Value};
use uuid::Uuid;

use super::event::Event;

/// The fields of events about an attempt of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepFacts {
    pub task_id: i64,
    pub task_uuid: Uuid,
    pub namespace: String,
    pub workflow: String,
    pub version: String,
    pub step: String,
    pub attempt: u32,
    pub max_attempts: u32,
    #[serde(skip_serializing)]
    pub correlation_id: Uuid,
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct AttemptEvent {
    pub facts: StepFacts,
    pub ran: Option<Duration>,
    /// `None` for a completed attempt.
    pub error: Option<Value>,
    /// Time until the next attempt, if one follows.
    pub delay: Option<Duration>,
}

/// The fields of events about a task that has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskFacts {
    pub task_id: i64,
    #[serde(rename(deserialize = "uuid"))]
    pub task_uuid: Uuid,
    pub namespace: String,
    pub workflow: String,
    pub version: String,
    #[serde(skip_serializing)]
    pub correlation_id: Uuid,
    /// The name of the event.
    #[serde(skip_serializing)]
    pub name: String,
    #[serde(skip_serializing)]
    pub state: String,
}

/// An event that an SQL function has built.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EventPayload {
    pub name: String,
    pub correlation_id: Option<Uuid>,
    pub payload: Map<String, Value>,
}

impl EventPayload {
    pub fn event(&self) -> Event {
        Event::new(&self.name, self.correlation_id, self.payload.clone())
    }
}

impl StepFacts {
    /// The event of a claim.
    pub fn started(&self) -> Event {
        Event::new("step.started", Some(self.correlation_id), fields(self))
    }
}

impl AttemptEvent {
    pub fn name(&self) -> &'static str {
        Self::name_of(self.error.is_some(), self.delay)
    }

    pub fn name_of(failed: bool, delay: Option<Duration>) -> &'static str {
        match (failed, delay) {
            (false, _) => "step.completed",
            (true, Some(_)) => "step.retry_scheduled",
            (true, None) => "step.failed",
        }
    }

    pub fn event(&self) -> Event {
        let mut payload = fields(&self.facts);
        if let Some(ran) = self.ran {
            payload.insert("duration_ms".to_owned(), milliseconds(ran));
        }
        if let Some(error) = &self.error {
            let details = json!({"class": error["class"], "message": error["message"], "code": error["code"]});
            payload.insert("error".to_owned(), details);
        }
        if let Some(delay) = self.delay.filter(|_| self.error.is_some()) {
            payload.insert("delay_ms".to_owned(), milliseconds(delay));
        }
        Event::new(self.name(), Some(self.facts.correlation_id), payload)
    }
}

impl TaskFacts {
    pub fn event(&self) -> Event {
        Event::new(&self.name, Some(self.correlation_id), fields(self))
    }
}

fn fields(facts: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(facts) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn milliseconds(duration: Duration) -> Value {
    json!(duration.as_micros() as f64 / 1000.0)
}
