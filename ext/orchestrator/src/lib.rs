//! The core of tasker_core: decides when to claim, how much, and when to flush, and compiles workflows.
//!
//! The SQL functions in `db/functions` decide how stored state may change; a handler, in Ruby or in Rust, decides what
//! a step does. Nothing here depends on Ruby.
//!
//! The path of a step: `client::task_initializer` creates its task, `worker::dispatcher` claims it into
//! `worker::leases`, a handler runs it, and the dispatcher finishes it. Beside that, `worker::maintenance` sends
//! heartbeats and sweeps, and `worker::listener` and `worker::notifier` carry notices. `correlation` and `logs`
//! accompany all of it.
//!
//! Wings: `client` is for callers, `worker` for processes that run steps; both call `database`. `workflow`, `events`,
//! `configuration` and `logs` depend on none of these.

pub mod claim;
pub mod client;
pub mod configuration;
pub mod correlation;
pub mod database;
#[cfg(test)]
mod document;
pub mod error;
pub mod events;
pub mod handler;
pub mod logs;
pub mod measurements;
pub mod orchestrator;
pub mod outcome;
mod serde_seconds;
mod suggestion;
pub mod task_enqueuer;
mod worker;
pub mod workflow;

pub use claim::Claim;
pub use client::operator::{Task, WorkflowStep};
pub use client::task_initializer::TaskInitializer;
pub use configuration::{Configuration, ConfigurationManager};
pub use correlation::{CorrelationId, LogContext};
pub use database::functions::Functions;
pub use error::{Error, FunctionErrorCode};
pub use events::EventPublisher;
pub use handler::{HandlerError, HandlerRegistry, StepContext, StepHandler};
pub use orchestrator::Orchestrator;
pub use outcome::Outcome;
pub use workflow::Workflow;
