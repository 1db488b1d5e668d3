//! Events of steps and tasks, for listeners in the same process.
//!
//! Invariant: an event is published once, after the commit of its change, in the process that made the change; events
//! of a task keep their order. Events without a listener are not built. Neighbours: `registry` knows the names,
//! `publisher` buffers events for the listeners; the dispatcher and maintenance publish the events of steps and tasks.

mod event;
mod payload;
mod publisher;
mod registry;

pub use event::Event;
pub use payload::{AttemptEvent, EventPayload, StepFacts, TaskFacts};
pub use publisher::{publish_all, EventPublisher, EventStats};
pub use registry::{EventType, Field, EVENT_TYPES};
