//! A model of the claim protocol: what processes, lost answers, deaths and operators can do to one task, in every order.
//!
//! The checker (stateright) walks all states that the bounds allow and holds each against the invariants. The model is
//! written after `db/functions` and `ext/orchestrator/src`, not generated from them. That PostgreSQL does the same is held by
//! the transition tests (`what_happens_is_what_the_tables_allow_and_nothing_else`) and the random workflows.
//!
//! | here | stands for |
//! |---|---|
//! | `Functions::claim_steps`, `insert_claim` | the functions of that name; one step a call, any ready one instead of the first |
//! | `Functions::finish_steps`, `advance_tasks` | the same; `Demand` is how many children are kept and what the rest is filled with |
//! | `Functions::release_steps` | the same, with and without a delay; `Record` is whether a released attempt is recorded |
//! | `Functions::heartbeat`, `return_claims` | heartbeat: the sign of life, and the claims that no answer has told of |
//! | `Functions::held_claim` | held_claims: token, position, attempt and process, all of them |
//! | `Functions::lose`, `give_up`, `due` | the three parts of sweep, one row each |
//! | `Functions::cancel_task`, `override_step`, `restart_step` | the operator's verbs (complete_step is resolve_step with a result, reset_attempts is reset_step for several) |
//! | `Functions::register_process`, `register_again`, `deregister_process` | the same; register_process with and without a former registration |
//! | `Numbers` | next_token and the ids of processes: drawn at random, or from a sequence |
//! | `Worker`, `Lease`, `Stage` | `leases.rs`, and what dispatcher, maintenance and process do with it |
//!
//! A function is one atomic step. What is not atomic in PostgreSQL is an action of its own: a claim whose process was
//! looked up before it was taken off the list, a heartbeat whose list of tokens is older than a claim, a finish that
//! arrives after its client has given it up. A statement's answer arrives at once, late, or never.
//!
//! # The database returns to an earlier state
//!
//! A fail-over to a standby that lacks the last commits, or a restore, puts the database back below workers that live on, with
//! what they hold and with messages under way. With `Protocol::with_returns`, any state may be remembered, and the database
//! returns to it once in a course of events; it may show that (another timeline), or not. The state before the workers came is
//! one of them. Ids of processes are random, so no state gives one again. With `Tokens::Differ` tokens are not given again
//! either, which their random bits see to. `Tokens::Repeat` is the worst case, in which the random bits agree as well: the
//! sequence gives the tokens of the lost state again, in their order.
//!
//! Every claim carries what no table has: the process that got it, and the step and attempt for which its handler was begun.
//! So the invariants see when an attempt is ended by another process, or with another handler's outcome. With one task, the
//! position stands for the task as well. What was executed in the lost state only is in no record, and need not be.
//!
//! # Time
//!
//! There is no clock. A process falls silent, a lease passes its deadline, a retry comes due whenever it likes. What goes
//! on by itself (`Fairness::Fair`) is told from what must not be relied on (`Fairness::Optional`) and from faults and operators
//! (`Fairness::Disturbance`), of which each course of events has a few. So the model can say that a task ends once nothing
//! disturbs it any more: see `liveness`. With `Protocol::with_leaps` the database's clock may leap: every process that was fresh
//! looks silent, and sweep must not judge it before it had time for a sign of life.
//!
//! What no table says and an invariant needs is in `History`: which claims have begun, and which went without a record. A
//! heartbeat's list may be older than what it meets, so it may give back a claim whose handler runs. The step then runs
//! twice, and the invariant is that the first execution is on record.
//!
//! Not modelled: several tasks (the functions join by task), queues and priorities, payloads and refused data, batches of
//! claims, resolve_task, prune, repair_task, wake-ups, and row locks; PostgreSQL tests hold those.
//!
//! # Running it
//!
//! `cargo test -p tasker_protocol_model -- --nocapture` prints what it has found; with `--include-ignored` the long form too.
//! Every check is exhaustive within its bounds and says how many states it has seen. A check fails if there are fewer than
//! there should be, or if a situation that makes it worth something is never met (`invariants::REACHED`). A walk without the
//! checker finds as many states, and the canonical form is held against renamed states that must have the same future.
//!
//! | model | workers | attempts | disturbances | states |
//! |---|---|---|---|---|
//! | step | 2 | 2 | 3 | 103,701 |
//! | step | 3 | 2 | 3 | 215,265 |
//! | step | 2 | 3 | 2 | 22,267 |
//! | chain of two | 2 | 2 | 2 | 48,328 |
//! | join | 2 | 2 | 1 | 13,511 |
//! | fork | 2 | 2 | 1 | 28,155 |
//! | diamond | 2 | 1 | 2 | 63,135 |
//! | step, leaps | 2 | 2 | 2 | 7,291 |
//! | step, returns, tokens repeat | 2 | 2 | 2 | 48,212 |
//! | step, returns, tokens differ | 2 | 2 | 2 | 36,220 |
//! | chain of two, returns, tokens repeat | 2 | 2 | 1 | 5,233 |
//! | chain of two, returns, tokens differ | 2 | 2 | 1 | 4,462 |
//! | step, long form | 2 | 3 | 3 | 633,529 |
//! | chain of two, long form | 2 | 2 | 3 | 1,308,293 |
//! | chain of three, long form | 2 | 2 | 2 | 263,993 |
//! | join, long form | 2 | 2 | 2 | 628,304 |
//! | fork, long form | 2 | 2 | 2 | 1,771,750 |
//! | pair, returns, tokens repeat, long form | 2 | 2 | 1 | 251,136 |
//! | pair, returns, tokens differ, long form | 2 | 2 | 1 | 75,352 |
//! | step, returns and leaps, tokens repeat, long form | 2 | 2 | 3 | 1,612,110 |
//! | step, returns and leaps, tokens differ, long form | 2 | 2 | 3 | 1,022,530 |
//!
//! In all of them every invariant holds, and in those that `liveness` walks every course of events ends. Each `Mutation` breaks
//! the invariant that its test names.

pub mod canonical;
pub mod database;
pub mod functions;
pub mod invariants;
pub mod liveness;
pub mod mutation;
pub mod protocol;
pub mod worker;
pub mod workflow;

pub use database::{Claim, Database, Owner, Position, ProcessId, Record, Sign, StepState, TaskState, Token};
pub use functions::{Demand, Functions, Sender};
pub use mutation::Mutation;
pub use protocol::{Action, Batch, Delivery, Earlier, Fairness, Protocol, State, Tokens};
pub use worker::{Lease, Outcome, Stage, Worker};
pub use workflow::Workflow;
