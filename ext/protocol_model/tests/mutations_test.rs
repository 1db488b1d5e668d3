//! The protocol with each mutation: the checker must find it, by the invariant that it breaks.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};
use tasker_protocol_model::invariants::{
    COUNTERS, CURRENT_TOKEN, DEPENDS_ON_PROCESS, EXPLAINED, IN_FLIGHT, LIVE_UNTIL_ENDED, NOT_LOST_BEFORE_START,
    NOT_LOST_TO_JUMP, NO_REST, ONE_LIVE_ROW, ONE_RUN, ONE_SUCCESS, OWN_CLAIM, OWN_JOB, OWN_OUTCOME, PARENTS_FIRST,
};
use tasker_protocol_model::liveness::check_liveness;
use tasker_protocol_model::{Mutation, Protocol, Tokens, Workflow};

/// Finds a run that breaks the invariant and prints it up to that point. It need not be the shortest one: the checker
/// keeps the last that it finds before it stops.
fn breaks(mutation: Mutation, workflow: Workflow, disturbances: u8, invariant: &'static str) {
    breaks_in(Protocol::new(workflow, 2, disturbances), mutation, invariant);
}

/// As `breaks`, where the database may return to an earlier state, in the worst case of its tokens.
fn breaks_after_return(mutation: Mutation, workflow: Workflow, invariant: &'static str) {
    breaks_in(Protocol::new(workflow, 2, 1).with_returns(Tokens::Repeat), mutation, invariant);
}

fn breaks_in(protocol: Protocol, mutation: Mutation, invariant: &'static str) {
    let protocol = protocol.with(mutation);
    let found = HasDiscoveries::AllOf(BTreeSet::from([invariant]));
    let checker = protocol.checker().finish_when(found).spawn_bfs().join();
    let Some(path) = checker.discovery(invariant) else {
        panic!("{mutation:?}: no run breaks \"{invariant}\" in {} states", checker.unique_state_count());
    };
    println!("{mutation:?} breaks \"{invariant}\":");
    let holds = checker.model().property(invariant).condition;
    for (_, action) in path.into_vec().into_iter().take_while(|(state, _)| holds(checker.model(), state)) {
        println!("    {:?}", action.expect("the run ends where the invariant does not hold"));
    }
}

#[test]
fn without_a_fence_a_step_succeeds_twice() {
    breaks(Mutation::FinishWithoutClaim, Workflow::STEP, 2, ONE_SUCCESS);
}

#[test]
fn without_a_fence_a_late_worker_ends_a_foreign_attempt() {
    breaks(Mutation::FinishByStep, Workflow::STEP, 1, CURRENT_TOKEN);
}

#[test]
fn the_number_of_the_attempt_is_no_token() {
    breaks(Mutation::TokenPerAttempt, Workflow::STEP, 2, CURRENT_TOKEN);
}

#[test]
fn the_claiming_process_is_no_token() {
    breaks(Mutation::TokenPerProcess, Workflow::STEP, 1, CURRENT_TOKEN);
}

#[test]
fn a_stale_outcome_that_counts_for_children_breaks_counters() {
    breaks(Mutation::StaleOutcomeSettles, Workflow::CHAIN, 1, COUNTERS);
}

#[test]
fn a_lost_attempt_that_is_free_is_missing_from_the_counters() {
    breaks(Mutation::LostAttemptIsFree, Workflow::STEP, 1, COUNTERS);
}

#[test]
fn a_failed_attempt_that_is_free_is_retried_forever() {
    let found = check_liveness(&Protocol::new(Workflow::STEP, 2, 0).with(Mutation::FailedAttemptIsFree));
    println!("{found:?}");
    assert!(found.endless > 0, "{found:?}");
}

#[test]
fn a_child_both_handed_over_and_queued_has_two_live_rows() {
    breaks(Mutation::HandOverAndLeave, Workflow::CHAIN, 0, ONE_LIVE_ROW);
}

#[test]
fn a_join_that_is_ready_with_any_parent_starts_too_early() {
    breaks(Mutation::ReadyWithAnyParent, Workflow::JOIN, 0, PARENTS_FIRST);
}

#[test]
fn a_failure_that_ends_no_task_leaves_it_without_live_rows() {
    breaks(Mutation::FailureEndsNoTask, Workflow::CHAIN, 0, LIVE_UNTIL_ENDED);
}

#[test]
fn a_lost_response_leaks_its_claim_if_heartbeats_release_none() {
    breaks(Mutation::HeartbeatKeepsUnknownClaims, Workflow::STEP, 1, NO_REST);
}

#[test]
fn a_heartbeat_without_a_record_leaves_a_rerun_unexplained() {
    breaks(Mutation::HeartbeatRecordsNothing, Workflow::STEP, 1, EXPLAINED);
}

#[test]
fn a_leaving_process_without_a_record_hides_a_rerun() {
    breaks(Mutation::LeaveRecordsNothing, Workflow::STEP, 1, EXPLAINED);
}

#[test]
fn a_cancellation_without_a_record_hides_an_execution() {
    breaks(Mutation::CancelRecordsNothing, Workflow::STEP, 1, EXPLAINED);
}

#[test]
fn a_claim_of_a_missing_process_stays_if_sweep_overlooks_it() {
    breaks(Mutation::SweepOverlooksMissingProcesses, Workflow::STEP, 2, NO_REST);
}

#[test]
fn a_cancellation_that_leaves_claims_leaves_live_rows() {
    breaks(Mutation::CancelLeavesClaims, Workflow::STEP, 1, LIVE_UNTIL_ENDED);
}

#[test]
fn a_cancellation_that_leaves_rows_leaves_a_step_ready() {
    breaks(Mutation::CancelLeavesRows, Workflow::STEP, 1, ONE_LIVE_ROW);
}

#[test]
fn an_override_that_ignores_claims_leaves_an_ended_step_claimed() {
    breaks(Mutation::OverrideIgnoresClaims, Workflow::STEP, 1, ONE_LIVE_ROW);
}

#[test]
fn a_failed_release_that_is_forgotten_is_held_forever() {
    breaks(Mutation::ReturnIsForgotten, Workflow::STEP, 2, NO_REST);
}

#[test]
fn a_token_alone_accepts_another_steps_outcome_after_a_return() {
    breaks_after_return(Mutation::TokenAlone, Workflow::CHAIN, OWN_OUTCOME);
}

#[test]
fn a_fence_without_the_process_fails_after_a_return() {
    breaks_after_return(Mutation::FinishForAnyProcess, Workflow::STEP, CURRENT_TOKEN);
}

#[test]
fn process_ids_from_a_sequence_break_the_fence_after_a_return() {
    breaks_after_return(Mutation::ProcessIdGivenAgain, Workflow::STEP, CURRENT_TOKEN);
}

#[test]
fn a_registration_that_trusts_tokens_takes_foreign_claims() {
    breaks_after_return(Mutation::RegisterByToken, Workflow::STEP, OWN_CLAIM);
}

#[test]
fn a_replaced_lease_delivers_another_handlers_outcome() {
    breaks_after_return(Mutation::LeaseIsReplaced, Workflow::CHAIN, OWN_OUTCOME);
}

#[test]
fn a_sweep_that_trusts_the_clock_ends_living_attempts() {
    breaks_in(Protocol::new(Workflow::STEP, 2, 1).with_clock_jumps(), Mutation::SweepTrustsClock, NOT_LOST_TO_JUMP);
}

const JOB: Workflow = Workflow::STEP.with_jobs(&[0]);

#[test]
fn a_job_that_starts_any_claim_of_its_step_ignores_its_return() {
    breaks(Mutation::AdoptByStep, JOB, 0, OWN_JOB);
}

#[test]
fn a_job_that_starts_twice_runs_an_attempt_twice() {
    breaks(Mutation::JobStartsTwice, JOB, 0, ONE_RUN);
}

#[test]
fn an_adopted_claim_that_stays_the_dispatchers_is_not_its_holders() {
    breaks(Mutation::AdoptedStaysDispatchers, JOB, 0, OWN_CLAIM);
}

#[test]
fn an_adopted_claim_that_stays_enqueued_outlives_its_process() {
    breaks(Mutation::AdoptedStaysEnqueued, JOB, 0, DEPENDS_ON_PROCESS);
}

#[test]
fn a_return_that_leaves_the_claim_leaves_two_live_rows() {
    breaks(Mutation::EnqueuedDiesWithDispatcher, JOB, 1, ONE_LIVE_ROW);
}

#[test]
fn a_lost_job_holds_its_step_forever_if_no_sweep_returns_it() {
    breaks(Mutation::UnstartedClaimsStay, JOB, 0, NO_REST);
}

#[test]
fn a_return_that_spends_an_attempt_spends_it_before_the_start() {
    breaks(Mutation::ReturnSpendsAttempt, JOB, 0, NOT_LOST_BEFORE_START);
}

#[test]
fn a_confirmation_that_revives_a_claim_leaves_two_live_rows() {
    breaks(Mutation::ConfirmRevivesClaim, JOB, 0, ONE_LIVE_ROW);
}

#[test]
fn running_jobs_that_are_not_counted_exceed_the_limit() {
    let jobs = Protocol::new(Workflow::PAIR.with_jobs(&[0, 1]), 2, 0).with_in_flight(1);
    breaks_in(jobs, Mutation::StartedJobsAreNotCounted, IN_FLIGHT);
}

#[test]
fn an_interrupt_without_a_record_hides_an_execution() {
    breaks(Mutation::InterruptRecordsNothing, JOB, 1, EXPLAINED);
}
