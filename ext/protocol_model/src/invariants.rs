//! What must hold in every state, and which situations a check must reach to be meaningful.

use crate::database::{Claim, Dispatch, Step, StepState, TaskState};
use crate::functions::Demand;
use crate::protocol::{Action, Batch, Delivery, Fairness, Protocol, Tokens};
use crate::state::{Earlier, State};
use crate::worker::{Outcome, Stage};
use crate::workflow::Position;

pub type Invariant = (&'static str, fn(&Protocol, &State) -> bool);

pub const ONE_LIVE_ROW: &str = "I1 a step has at most one live row, and none once it has ended";
pub const ONE_SUCCESS: &str = "I2 a step has at most one successful attempt";
pub const PARENTS_FIRST: &str = "I3 a step does not start before all its parents are done";
pub const LIVE_UNTIL_ENDED: &str = "I4 a task has live rows exactly as long as it has not ended";
pub const CURRENT_TOKEN: &str = "I5 every attempt is ended by the holder of its claim";
pub const OWN_OUTCOME: &str = "no step has the outcome of another step's or another attempt's handler";
pub const OWN_CLAIM: &str = "a claim belongs to the registration of the process that received it";
pub const NOT_LOST_TO_JUMP: &str = "no live process loses an attempt because the clock jumped";
pub const EXPLAINED: &str = "every execution that has started is claimed or recorded";
pub const ONE_RUN: &str = "no two processes run an attempt under the same token";
pub const OWN_JOB: &str = "a job starts its step only under the claim for which it was enqueued";
pub const DEPENDS_ON_PROCESS: &str = "a claim under which a handler runs ends with its process";
pub const NOT_LOST_BEFORE_START: &str = "no attempt is lost before a process has started it";
pub const IN_FLIGHT: &str = "no more steps than allowed are claimed by dispatchers or run as jobs";
pub const COUNTERS: &str = "counters agree with the rows";
pub const NO_REST: &str = "at rest the task has ended, and no worker holds anything";

/// Needs a step with children.
pub const HANDED_OVER: &str = "a child is handed over to the process that finished its parent";
/// Needs two disturbances: the process is taken for dead, and continues.
pub const PROCESS_MISSING: &str = "a claim belongs to a process that is not registered";

/// Needs more steps that run as jobs than may be in flight.
pub const FULL: &str = "a step waits because too many are in flight";

pub const ALL: [Invariant; 16] = [
    (ONE_LIVE_ROW, one_live_row),
    (ONE_SUCCESS, one_success),
    (PARENTS_FIRST, parents_first),
    (LIVE_UNTIL_ENDED, live_until_ended),
    (CURRENT_TOKEN, |_, state| !state.db.history.ended_by_another),
    (OWN_OUTCOME, |_, state| !state.db.history.ended_with_another),
    (OWN_CLAIM, own_claim),
    (NOT_LOST_TO_JUMP, |_, state| !state.db.history.lost_to_clock),
    // Where tokens repeat, a worker may release a claim whose response is still under way to it.
    (EXPLAINED, |protocol, state| protocol.returns == Some(Tokens::Repeat) || !state.db.history.unexplained),
    (ONE_RUN, one_run),
    (OWN_JOB, |_, state| !state.db.history.started_under_another),
    (DEPENDS_ON_PROCESS, depends_on_process),
    (NOT_LOST_BEFORE_START, |_, state| !state.db.history.lost_before_start),
    (IN_FLIGHT, |protocol, state| in_flight(state) <= protocol.functions.in_flight),
    (COUNTERS, counters),
    (NO_REST, no_rest),
];

pub const REACHED: [Invariant; 15] = [
    ("a task completes", |_, state| state.db.task.state == TaskState::Complete),
    ("a task ends with an error", |_, state| state.db.task.state == TaskState::Error),
    ("a task is cancelled under a running handler", |_, state| {
        state.db.task.state == TaskState::Cancelled && runs_without_claim(state)
    }),
    ("a step ends with an error after its last attempt", |protocol, state| {
        let is_used_up = |step: &Step| step.spent == protocol.functions.workflow.max_attempts;
        state.db.steps.iter().any(|step| step.state == StepState::Error && is_used_up(step))
    }),
    ("a step completes in its last attempt", |protocol, state| {
        let is_used_up = |step: &Step| step.spent == protocol.functions.workflow.max_attempts;
        state.db.steps.iter().any(|step| step.state == StepState::Complete && is_used_up(step))
    }),
    (HANDED_OVER, |protocol, state| {
        has_outcome(state, |worker, claim| {
            let demand = Demand { handed_over: 1, filled_with: None };
            let has_children = protocol.functions.workflow.children(claim.position).next().is_some();
            has_children && protocol.is_possible(state, &finish(worker, claim, demand))
        })
    }),
    ("an outcome is rejected because its claim has gone", |protocol, state| {
        has_outcome(state, |worker, claim| {
            let is_gone = !is_claimed(state, claim);
            is_gone && protocol.is_possible(state, &finish(worker, claim, Demand::NONE))
        })
    }),
    ("an outcome that its process no longer waits for arrives and is rejected", |protocol, state| {
        let mut late = state.late.iter().enumerate();
        late.any(|(late, (claim, _))| {
            !is_claimed(state, *claim) && protocol.is_possible(state, &Action::Arrive { late })
        })
    }),
    ("a heartbeat releases a claim that no worker knows", |protocol, state| {
        state.db.claims.iter().any(|claim| {
            let action = Action::GiveBack { token: claim.token };
            protocol.fairness(state, &action) == Fairness::Fair && protocol.is_possible(state, &action)
        })
    }),
    ("a heartbeat with an old list releases a claim whose handler runs", |protocol, state| {
        state.db.claims.iter().any(|claim| {
            let runs = state.workers.iter().any(|worker| worker.runs(claim.token));
            runs && protocol.is_possible(state, &Action::GiveBack { token: claim.token })
        })
    }),
    ("a handler continues without its claim", |_, state| runs_without_claim(state)),
    (PROCESS_MISSING, |_, state| state.db.claims.iter().any(|claim| !state.db.knows(claim.process))),
    ("no worker knows a claim", |_, state| {
        let unknown = |claim| !state.workers.iter().any(|worker| worker.knows_of(claim));
        state.db.claims.iter().any(|claim| unknown(*claim))
    }),
    ("a finish is still under way when its step has ended", |_, state| {
        state.late.iter().any(|(claim, _)| !state.is_pending(claim.position))
    }),
    ("two handlers run the same step", |protocol, state| {
        let running = |position| {
            let leases = state.workers.iter().flat_map(|worker| &worker.leases);
            leases.filter(|lease| lease.claim.position == position && lease.stage == Stage::Running).count()
        };
        protocol.functions.workflow.positions().any(|position| running(position) > 1)
    }),
];

/// Situations of steps that run as jobs.
pub const REACHED_BY_JOBS: [Invariant; 8] = [
    ("a job is late: it finds that its claim was returned", |_, state| {
        let is_late = |step: &Step| step.state == StepState::Pending && step.attempts == 0 && step.ready_rows == 1;
        let mut steps = state.db.steps.iter().zip(0..);
        steps.any(|(step, position)| is_late(step) && state.jobs.iter().any(|job| job.position == position))
    }),
    ("a job is still in the queue when its step runs", |_, state| {
        let mut started = claims_in(state, Dispatch::Started);
        started.any(|claim| state.jobs.iter().any(|job| job.position == claim.position))
    }),
    ("a job is still in the queue when its task has ended", |_, state| {
        state.db.task.state == TaskState::Complete && !state.jobs.is_empty()
    }),
    ("the queue has lost an enqueued job", |_, state| {
        claims_in(state, Dispatch::Enqueued).any(|claim| !state.jobs.contains(&claim.job()))
    }),
    ("an enqueued job outlives its dispatcher", |_, state| {
        claims_in(state, Dispatch::Enqueued).any(|claim| !state.db.knows(claim.process))
    }),
    ("a job starts before its dispatcher has confirmed it", |_, state| {
        let mut confirming = state.workers.iter().filter_map(|worker| worker.dispatching);
        let has_started = |position| claims_in(state, Dispatch::Started).any(|claim| claim.position == position);
        confirming.any(|dispatching| dispatching.is_enqueued && has_started(dispatching.claim.position))
    }),
    ("a job is enqueued after its claim was returned", |_, state| {
        let mut enqueuing = state.workers.iter().filter_map(|worker| worker.dispatching);
        enqueuing.any(|dispatching| !dispatching.is_enqueued && !is_claimed(state, dispatching.claim))
    }),
    (FULL, |protocol, state| {
        let is_ready = |position| state.db.step(position).ready_rows > 0;
        let is_full = in_flight(state) == protocol.functions.in_flight;
        is_full && protocol.functions.workflow.jobs.iter().any(|position| is_ready(*position))
    }),
];

fn claims_in(state: &State, dispatch: Dispatch) -> impl Iterator<Item = Claim> + '_ {
    state.db.claims.iter().filter(move |claim| claim.dispatch == Some(dispatch)).copied()
}

fn in_flight(state: &State) -> usize {
    state.db.claims.iter().filter(|claim| claim.dispatch.is_some()).count()
}

/// Where tokens repeat, a process may run an attempt that the database has lost under the token of a later claim.
fn one_run(protocol: &Protocol, state: &State) -> bool {
    let runs = |claim: &Claim| {
        let leases = state.workers.iter().flat_map(|worker| &worker.leases);
        leases.filter(|lease| lease.stage == Stage::Running && lease.claim.has_key_of(claim)).count()
    };
    protocol.returns == Some(Tokens::Repeat) || state.db.claims.iter().all(|claim| runs(claim) <= 1)
}

/// Where tokens repeat, `begun` may list a later claim with the token of an attempt that the database has lost.
fn depends_on_process(protocol: &Protocol, state: &State) -> bool {
    let has_begun = |claim: &&Claim| state.db.history.begun.contains(&claim.token);
    protocol.returns == Some(Tokens::Repeat)
        || state.db.claims.iter().filter(has_begun).all(|claim| !claim.is_dispatchers())
}

/// Whether a running attempt that satisfies `is_such` may be finished as completed.
fn has_outcome(state: &State, is_such: impl Fn(usize, Claim) -> bool) -> bool {
    state.workers.iter().enumerate().any(|(number, worker)| {
        let mut running = worker.leases.iter().filter(|lease| lease.stage == Stage::Running);
        running.any(|lease| is_such(number, lease.claim))
    })
}

fn finish(worker: usize, claim: Claim, demand: Demand) -> Action {
    let batch = Batch { first: (claim.token, Outcome::Completed), second: None };
    Action::Finish { worker, batch, demand, delivery: Delivery::InTime }
}

fn is_claimed(state: &State, given: Claim) -> bool {
    state.db.claims.iter().any(|claim| claim.has_key_of(&given))
}

fn runs_without_claim(state: &State) -> bool {
    let mut leases = state.workers.iter().flat_map(|worker| &worker.leases);
    leases.any(|lease| lease.stage == Stage::Running && !is_claimed(state, lease.claim))
}

fn own_claim(_: &Protocol, state: &State) -> bool {
    let is_own = |claim: &Claim| {
        let mut workers = state.workers.iter().filter(|worker| worker.is_registered_as(claim.process));
        workers.all(|worker| worker.owner == claim.owner)
    };
    state.db.claims.iter().all(is_own)
}

fn one_live_row(protocol: &Protocol, state: &State) -> bool {
    protocol.functions.workflow.positions().all(|position| {
        let most = usize::from(state.is_pending(position));
        state.db.live_rows(position) <= most
    })
}

fn one_success(_: &Protocol, state: &State) -> bool {
    let is_recorded = |step: &Step| step.state != StepState::Complete || step.successes == 1;
    state.db.steps.iter().all(|step| step.successes <= 1 && is_recorded(step))
}

fn parents_first(protocol: &Protocol, state: &State) -> bool {
    let held = |position| {
        let mut leases = state.workers.iter().flat_map(|worker| &worker.leases);
        // A claim that the database has lost may have followed parents that it has lost as well.
        let counts = |claim| state.earlier != Earlier::Past || is_claimed(state, claim);
        leases.any(|lease| lease.claim.position == position && counts(lease.claim))
    };
    protocol.functions.workflow.positions().all(|position| {
        let has_begun = state.db.live_rows(position) > 0 || state.db.step(position).spent > 0 || held(position);
        !has_begun || parents_done(protocol, state, position) == protocol.functions.workflow.parents(position).len()
    })
}

fn live_until_ended(protocol: &Protocol, state: &State) -> bool {
    let positions = || protocol.functions.workflow.positions();
    let is_live = positions().any(|position| state.db.live_rows(position) > 0);
    let is_forgotten = |position| {
        let may_run = parents_done(protocol, state, position) == protocol.functions.workflow.parents(position).len();
        state.is_pending(position) && may_run && state.db.live_rows(position) == 0
    };
    is_live == (state.db.task.state == TaskState::Pending) && !positions().any(is_forgotten)
}

fn counters(protocol: &Protocol, state: &State) -> bool {
    let positions = || protocol.functions.workflow.positions();
    let live: usize = positions().map(|position| state.db.live_rows(position)).sum();
    let undone = positions().filter(|position| !state.is_done(*position)).count();
    let task = &state.db.task;
    let task_agrees = match task.state {
        TaskState::Complete => undone == 0,
        TaskState::Error => undone > 0,
        TaskState::Pending | TaskState::Cancelled => true,
    };
    let step_agrees = |position: Position| {
        let step = state.db.step(position);
        let missing = protocol.functions.workflow.parents(position).len() - parents_done(protocol, state, position);
        (!state.is_pending(position) || step.pending_parents == missing as i8)
            && step.attempts == step.spent
            && step.attempts <= protocol.functions.workflow.max_attempts
    };
    task.active == live as i8 && task.remaining == undone as i8 && task_agrees && positions().all(step_agrees)
}

fn no_rest(protocol: &Protocol, state: &State) -> bool {
    let holds = || {
        let mut workers = state.workers.iter();
        workers.any(|one| !one.leases.is_empty() || !one.responses.is_empty() || one.dispatching.is_some())
    };
    let has_ended = state.db.task.state != TaskState::Pending;
    has_ended && !holds() || !protocol.is_at_rest(state)
}

fn parents_done(protocol: &Protocol, state: &State, position: Position) -> usize {
    protocol.functions.workflow.parents(position).iter().filter(|parent| state.is_done(**parent)).count()
}
