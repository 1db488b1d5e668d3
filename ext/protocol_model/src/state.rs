//! One state of the model: the database, the workers, and the messages between them.

use crate::database::{Claim, Database, Job, StepState};
use crate::worker::{Outcome, Worker};
use crate::workflow::Position;

/// The earlier state to which the database may return, once in a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Earlier {
    /// It will not return.
    Never,
    /// Any state from here on may become the remembered one.
    Any,
    Remembered(Box<Database>),
    /// It has returned.
    Past,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    pub db: Database,
    pub workers: Vec<Worker>,
    /// Outcomes whose statement is still under way after its client has given up waiting for it.
    pub late: Vec<(Claim, Outcome)>,
    /// The jobs in the application's queue, each once: a job may stay in it while it is performed.
    pub jobs: Vec<Job>,
    pub disturbances_left: u8,
    pub earlier: Earlier,
}

impl State {
    pub fn is_done(&self, position: Position) -> bool {
        self.db.step(position).state.is_done()
    }

    pub fn is_pending(&self, position: Position) -> bool {
        self.db.step(position).state == StepState::Pending
    }
}
