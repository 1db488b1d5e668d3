//! The part of tasker_core that thinks: when to claim, how many, when to flush, what a workflow is.
//!
//! What may happen to stored state is decided by the SQL functions in `db/functions`; what a step does is decided by
//! its handler, in Ruby or in Rust. Nothing here knows of Ruby.
//!
//! The way of a step: `task_initializer` (create) → `dispatcher` (claim) → `leases` → a handler → `dispatcher`
//! (finish). Beside it: `maintenance` (heartbeat, sweep), `listener` and `waker` (notices). Around it: `correlation` and
//! `logs`.

pub mod configuration;
pub mod correlation;
pub mod database;
pub mod definitions;
mod dispatcher;
pub mod error;
pub mod events;
pub mod graph;
pub mod handler;
pub mod kernel;
mod leases;
mod limit;
mod listener;
pub mod logs;
mod maintenance;
pub mod operator;
pub mod orchestrator;
mod pacing;
pub mod payload;
mod process;
mod reader;
pub mod retry_policy;
pub mod schema;
pub mod step;
pub mod task_initializer;
mod waker;
pub mod workflow;

pub use configuration::{Configuration, ConfigurationManager};
pub use correlation::{CorrelationId, LogContext};
pub use error::{Error, KernelCode};
pub use events::EventPublisher;
pub use handler::{HandlerError, HandlerRegistry, StepContext, StepHandler};
pub use kernel::Kernel;
pub use operator::{Task, WorkflowStep};
pub use orchestrator::Orchestrator;
pub use step::{Claim, Outcome};
pub use task_initializer::TaskInitializer;
pub use workflow::Workflow;
