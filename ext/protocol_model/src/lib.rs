//! A model of the claim protocol: what processes, lost responses, crashes, the application's job queue and operators can
//! do to one task, in every order.
//!
//! The checker (stateright) visits all states within the bounds and checks the invariants in each. The model is written
//! after `db/functions` and `ext/orchestrator/src`, not generated from them. The transition tests
//! (`transitions_match_the_tables_in_both_directions`) and the random workflows verify that PostgreSQL does the same.
//!
//! | model | models |
//! |---|---|
//! | `Functions::claim_steps`, `insert_claim` | the functions of the same name; one step a call, any ready one instead of the first |
//! | `Functions::finish_steps`, `advance_tasks` | the same; `Demand` is how many children are handed over and which step is claimed as well |
//! | `Functions::release_steps` | the same, with and without a delay; `Record` is whether a released attempt is recorded |
//! | `Functions::heartbeat`, `return_claims` | heartbeat: its time, and the release of claims that the process does not name |
//! | `Functions::held_claim` | held_claims: compares token, position, attempt and process |
//! | `Functions::lose`, `give_up`, `due` | the three parts of sweep, one row each |
//! | `Functions::dispatch_steps`, `confirm_dispatch`, `adopt_claim` | the functions of the same name; one step a call |
//! | `Functions::return_unstarted_claim` | return_unstarted_claims, which a sweep calls |
//! | `Functions::cancel_task`, `override_step`, `restart_step` | the operator actions (complete_step is resolve_step with a result, retry_task is retry_step for several steps) |
//! | `Functions::register_process`, `register_again`, `deregister_process` | the same; register_process with and without a former registration |
//! | `Numbers` | next_token and the ids of processes: drawn at random, or from a sequence |
//! | `Worker`, `Lease`, `Stage` | `leases.rs`, and its use by the dispatcher, maintenance and registration |
//! | `Worker::dispatching` | `queue_dispatcher.rs`, with batches of one step |
//! | `State::jobs`, `Action::Adopt` | the application's queue, and `Orchestrator::adopt`, which its jobs call |
//!
//! A function is one atomic step. Whatever is not atomic in PostgreSQL is an action of its own: a claim whose process
//! was looked up before it was removed, a heartbeat whose list of tokens is older than a claim, a finish that arrives
//! after its client has stopped waiting for it. The response to a statement arrives at once, late, or never.
//!
//! # The database returns to an earlier state
//!
//! A fail-over to a standby that lacks the last commits, or a restore, resets the database while workers continue with
//! the claims that they hold and with messages under way. With `Protocol::with_returns`, any state may be remembered,
//! and the database returns to it once in a run; it may show that (by another timeline) or not. The state before the
//! workers registered is one of those states. Process ids are random, so they never repeat. With `Tokens::Differ`
//! tokens do not repeat either, thanks to their random bits. `Tokens::Repeat` is the worst case, in which the random
//! bits agree as well: the sequence repeats the tokens of the lost state in their order.
//!
//! Every claim carries facts that no table stores: the process that received it, and the step and attempt for which its
//! handler was started. This lets the invariants detect an attempt that is ended by another process, or with another
//! handler's outcome. With one task, the position also identifies the task. Executions in the lost state have no
//! record, and need none.
//!
//! # Steps that run as jobs
//!
//! `Workflow::with_jobs` names the steps that dispatchers claim; workers claim the others. Every process may dispatch
//! steps and run jobs. A dispatcher claims a step, enqueues its job and confirms the claim; a process that runs the job
//! adopts the claim. Between any two of these the dispatcher may end, be taken for dead, or take so long that a sweep or
//! a heartbeat returns the claim. The queue may accept a job and report an error.
//!
//! The queue is not part of the database. It may lose a job, run it late, and run it again, any number of times: these
//! actions do not count as disturbances (`Fairness::Optional`), except a late job where tokens repeat. Nor does a
//! dispatch by a silent process: sweeps return its claims, which uses no attempts, until it sends a heartbeat. When the
//! database returns to an earlier state, the jobs stay.
//!
//! A job whose claim can never exist again remains in the queue without its token (canonical.rs), as it only finds that
//! it may not start. The mutation `AdoptByStep`, which ignores the token, lets such a job start.
//!
//! # Time
//!
//! The model has no clock. A process may fall silent, a lease may pass its deadline, and a retry may become due at any
//! time. Actions that eventually happen by themselves (`Fairness::Fair`) are distinguished from those that may never
//! happen (`Fairness::Optional`) and from faults and operators (`Fairness::Disturbance`), of which each run has a
//! limited number. So the model can show that a task ends once nothing disturbs it any more: see `liveness`. With
//! `Protocol::with_clock_jumps` the database's clock may jump: every fresh process then appears silent, and a sweep
//! must not judge it before it has had time for a heartbeat.
//!
//! Facts that an invariant needs and no table stores are in `History`: which claims have started, and which were
//! removed without a record. A heartbeat's list may be older than the claims in the database, so it may release a claim
//! whose handler runs. The step then runs twice, and the invariant requires that the first execution is recorded.
//!
//! Not modelled: several tasks (the functions join by task), queues and priorities, changes of `dispatch.queues`,
//! payloads and rejected data, batches of claims, resolve_task, prune, repair_task, wake-ups, and row locks; tests with
//! PostgreSQL cover those.
//!
//! # Running it
//!
//! `cargo test -p tasker_protocol_model -- --nocapture` prints the results; `--include-ignored` adds the long form.
//! Every check is exhaustive within its bounds and prints the number of states. A check fails if there are fewer states
//! than expected, or if a situation that makes the check meaningful is never reached (`invariants::REACHED`). A walk
//! without the checker must find the same number of states, and states with other names must have the same successors.
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
//! | step, clock jumps | 2 | 2 | 2 | 7,291 |
//! | step, returns, tokens repeat | 2 | 2 | 2 | 48,212 |
//! | step, returns, tokens differ | 2 | 2 | 2 | 36,220 |
//! | chain of two, returns, tokens repeat | 2 | 2 | 1 | 5,233 |
//! | chain of two, returns, tokens differ | 2 | 2 | 1 | 4,462 |
//! | job | 2 | 2 | 1 | 13,403 |
//! | job | 2 | 1 | 2 | 21,234 |
//! | chain of a step and a job | 2 | 2 | 1 | 49,591 |
//! | two jobs, one in flight | 2 | 2 | 0 | 25,105 |
//! | job, clock jumps | 2 | 2 | 1 | 14,485 |
//! | job, returns, tokens repeat | 2 | 2 | 1 | 62,376 |
//! | job, returns, tokens differ | 2 | 2 | 1 | 59,862 |
//! | step, long form | 2 | 3 | 3 | 633,529 |
//! | chain of two, long form | 2 | 2 | 3 | 1,308,293 |
//! | chain of three, long form | 2 | 2 | 2 | 263,993 |
//! | join, long form | 2 | 2 | 2 | 628,304 |
//! | fork, long form | 2 | 2 | 2 | 1,771,750 |
//! | job, long form | 2 | 2 | 2 | 276,774 |
//! | two jobs, one in flight, long form | 2 | 2 | 1 | 1,679,260 |
//! | chain of jobs, long form | 2 | 2 | 1 | 294,660 |
//! | pair, returns, tokens repeat, long form | 2 | 2 | 1 | 251,136 |
//! | pair, returns, tokens differ, long form | 2 | 2 | 1 | 75,352 |
//! | step, returns and clock jumps, tokens repeat, long form | 2 | 2 | 3 | 1,612,110 |
//! | step, returns and clock jumps, tokens differ, long form | 2 | 2 | 3 | 1,022,530 |
//!
//! In all of them every invariant holds, and in those that `liveness` walks every run ends. Each `Mutation` breaks the
//! invariant that its test names.

pub mod canonical;
pub mod database;
pub mod functions;
pub mod invariants;
pub mod liveness;
pub mod model;
pub mod mutation;
pub mod protocol;
pub mod state;
pub mod worker;
pub mod workflow;

pub use database::{
    Claim, Database, Dispatch, Job, Owner, ProcessId, Record, Sender, Sign, StepState, TaskState, Token,
};
pub use functions::{Demand, Functions};
pub use mutation::Mutation;
pub use protocol::{Action, Batch, Delivery, Fairness, Protocol, Tokens};
pub use state::{Earlier, State};
pub use worker::{Dispatching, Lease, Outcome, Stage, Worker};
pub use workflow::{Position, Workflow};
