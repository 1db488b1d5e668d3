//! One worker process: what it claims, holds, finishes and maintains.
//!
//! `dispatcher` is the loop between database and handlers, decided by `pacing` and bounded by `limit`; `leases` are the
//! claims that it holds; `queue_dispatcher` enqueues steps that run as jobs; `maintenance` runs its chores;
//! `registration` is its row in the database; `listener` and `notifier` receive and send wake-ups; they share a
//! `context`. Neighbour: `orchestrator` starts and stops them.

use std::time::Duration;

pub mod context;
pub mod dispatcher;
pub mod leases;
pub mod limit;
pub mod listener;
pub mod maintenance;
pub mod notifier;
pub mod pacing;
pub mod queue_dispatcher;
pub mod registration;

/// How long the last statements of a stopping process may take.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(5);
