//! A model of the claim protocol: what processes, lost answers, deaths and operators can do to one task, in every order.
//!
//! The checker (stateright) walks all states that the bounds allow and holds each against the invariants. The model is
//! written after `db/functions` and `ext/orchestrator/src`, not generated from them. That PostgreSQL does the same is held by
//! the transition tests (`what_happens_is_what_the_tables_allow_and_nothing_else`) and the random workflows.
//!
//! | here | stands for |
//! |---|---|
//! | `Functions::claim_steps`, `open_claims` | the functions of that name; one step a call, any ready one instead of the first |
//! | `Functions::finish_steps`, `settle_steps` | the same; `Appetite` is how many children are kept and what the rest is filled with |
//! | `Functions::release_steps` | the same, with and without a delay |
//! | `Functions::heartbeat`, `give_back` | heartbeat: the sign of life, and the claims that no answer has told of |
//! | `Functions::lose`, `give_up`, `due` | the three parts of sweep, one row each |
//! | `Functions::cancel_task`, `end_step_by_hand`, `restart_steps` | the operator's verbs (complete_step is resolve_step with a result, reset_attempts is reset_step for several) |
//! | `Functions::register_process`, `deregister_process` | the same |
//! | `Worker`, `Lease`, `Stage` | `leases.rs`, and what dispatcher, maintenance and process do with it |
//!
//! A function is one atomic step. What is not atomic in PostgreSQL is an action of its own: a claim whose process was
//! looked up before it was taken off the list, a heartbeat whose list of tokens is older than a claim, a finish that
//! arrives after its client has given it up. A statement's answer arrives at once, late, or never.
//!
//! There is no clock. A process falls silent, a lease passes its deadline, a retry comes due whenever it likes. What goes
//! on by itself (`Nature::Course`) is told from what must not be relied on (`Nature::Choice`) and from faults and operators
//! (`Nature::Disturbance`), of which each course of events has a few. So the model can say that a task ends once nothing
//! disturbs it any more: see `course`.
//!
//! Not modelled: several tasks (the functions join by task), queues and priorities, payloads and refused data, batches of
//! claims, resolve_task, prune, repair_task, wake-ups, and row locks; PostgreSQL tests hold those.

pub mod canonical;
pub mod course;
pub mod database;
pub mod flaw;
pub mod functions;
pub mod invariants;
pub mod protocol;
pub mod worker;
pub mod workflow;

pub use database::{Claim, Database, Position, ProcessId, StepState, TaskState, Token};
pub use flaw::Flaw;
pub use functions::{Appetite, Functions};
pub use protocol::{Action, Batch, Fate, Nature, Protocol, State};
pub use worker::{Lease, Outcome, Stage, Worker};
pub use workflow::Workflow;
