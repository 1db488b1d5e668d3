//! The part of tasker_core that thinks: when to claim, how many, when to flush, what a workflow is.
//!
//! What may happen to stored state is decided by the SQL functions in `db/functions`; what a step does is decided by
//! its handler, in Ruby or in Rust. Nothing here knows of Ruby.
//!
//! The way of a step: `task_initializer` (create) → `dispatcher` (claim) → `leases` → a handler → `dispatcher`
//! (finish). Beside it: `maintenance` (heartbeat, sweep), `listener` and `notifier` (notices). Around it: `correlation` and
//! `logs`.

pub mod claim;
pub mod configuration;
pub mod correlation;
pub mod database;
pub mod definitions;
mod dispatcher;
pub mod error;
pub mod events;
pub mod functions;
pub mod graph;
pub mod handler;
mod leases;
mod limit;
mod listener;
pub mod logs;
mod maintenance;
mod notifier;
pub mod operator;
pub mod orchestrator;
pub mod outcome;
mod pacing;
pub mod payload;
mod reader;
mod registration;
pub mod retry_policy;
pub mod schema;
pub mod task_initializer;
pub mod workflow;

pub use claim::Claim;
pub use configuration::{Configuration, ConfigurationManager};
pub use correlation::{CorrelationId, LogContext};
pub use error::{Error, FunctionErrorCode};
pub use events::EventPublisher;
pub use functions::Functions;
pub use handler::{HandlerError, HandlerRegistry, StepContext, StepHandler};
pub use operator::{Task, WorkflowStep};
pub use orchestrator::Orchestrator;
pub use outcome::Outcome;
pub use task_initializer::TaskInitializer;
pub use workflow::Workflow;
