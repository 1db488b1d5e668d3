//! The connections to the application's PostgreSQL: the pool with its limits and time-outs, and the checks at the
//! start.
//!
//! Invariant: nothing on a pooled connection depends on an earlier statement except its settings, and in poll-only mode
//! not even those: `Connections::in_transaction` sends them with each statement. Neighbours: `functions` runs its
//! statements on the `pool`, `listener` opens its own connection; `address` has the database's location, `hosts`
//! chooses the server, `pooler` detects a pooler in between, `identity` verifies that it is the application's database.

mod address;
pub mod definitions;
pub mod functions;
mod hosts;
mod identity;
mod pool;
mod pooler;

use crate::error::{Error, Problem, Problems};

pub use self::address::{Address, Host, SessionAttributes, Setting};
pub use self::identity::Identity;
pub use self::pool::{connect, Connections};

fn configuration_error(key: &str, message: impl Into<String>) -> Error {
    Error::Configuration { problems: Problems(vec![Problem::new(key, &serde_json::Value::Null, message)]) }
}
