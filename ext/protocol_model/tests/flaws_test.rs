//! The protocol with a fault put into it: the checker finds each, and by the invariant that it must break.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};
use tasker_protocol_model::course::courses;
use tasker_protocol_model::invariants::{
    COUNTERS, CURRENT_TOKEN, EXPLAINED, LIVE_UNTIL_ENDED, NO_REST, ONE_LIVE_ROW, ONE_SUCCESS, OWN_CLAIM, OWN_OUTCOME,
    PARENTS_FIRST, PATIENT,
};
use tasker_protocol_model::{Flaw, Protocol, Tokens, Workflow};

/// Finds a course of events that breaks the invariant, and tells it as far as to there. It need not be the shortest: the
/// checker keeps the last that it meets before it stops.
fn breaks(flaw: Flaw, workflow: Workflow, disturbances: u8, invariant: &'static str) {
    breaks_in(Protocol::new(workflow, 2, disturbances), flaw, invariant);
}

/// As `breaks`, where the database may return to an earlier state, in the worst case of its tokens.
fn breaks_after_return(flaw: Flaw, workflow: Workflow, invariant: &'static str) {
    breaks_in(Protocol::new(workflow, 2, 1).with_returns(Tokens::Repeat), flaw, invariant);
}

fn breaks_in(protocol: Protocol, flaw: Flaw, invariant: &'static str) {
    let protocol = protocol.with(flaw);
    let found = HasDiscoveries::AllOf(BTreeSet::from([invariant]));
    let checker = protocol.checker().finish_when(found).spawn_bfs().join();
    let Some(path) = checker.discovery(invariant) else {
        panic!("{flaw:?}: no course of events breaks \"{invariant}\" in {} states", checker.unique_state_count());
    };
    println!("{flaw:?} breaks \"{invariant}\":");
    let holds = checker.model().property(invariant).condition;
    for (_, action) in path.into_vec().into_iter().take_while(|(state, _)| holds(checker.model(), state)) {
        println!("    {:?}", action.expect("the course ends where the invariant does not hold"));
    }
}

#[test]
fn without_a_fence_a_step_succeeds_twice() {
    breaks(Flaw::FinishWithoutClaim, Workflow::STEP, 2, ONE_SUCCESS);
}

#[test]
fn without_a_fence_a_late_worker_ends_an_attempt_that_is_not_its_own() {
    breaks(Flaw::FinishByStep, Workflow::STEP, 1, CURRENT_TOKEN);
}

#[test]
fn the_number_of_the_attempt_is_no_token() {
    breaks(Flaw::TokenPerAttempt, Workflow::STEP, 2, CURRENT_TOKEN);
}

#[test]
fn the_claiming_process_is_no_token() {
    breaks(Flaw::TokenPerProcess, Workflow::STEP, 1, CURRENT_TOKEN);
}

#[test]
fn a_stale_outcome_that_settles_counts_twice() {
    breaks(Flaw::StaleOutcomeSettles, Workflow::CHAIN, 1, COUNTERS);
}

#[test]
fn a_lost_attempt_that_is_free_is_missing_from_the_counters() {
    breaks(Flaw::LostAttemptIsFree, Workflow::STEP, 1, COUNTERS);
}

#[test]
fn a_failed_attempt_that_is_free_is_tried_for_ever() {
    let found = courses(&Protocol::new(Workflow::STEP, 2, 0).with(Flaw::FailedAttemptIsFree));
    println!("{found:?}");
    assert!(found.endless > 0, "{found:?}");
}

#[test]
fn a_child_that_is_handed_over_and_left_has_two_live_rows() {
    breaks(Flaw::HandOverAndLeave, Workflow::CHAIN, 0, ONE_LIVE_ROW);
}

#[test]
fn a_join_that_is_ready_with_any_parent_begins_too_early() {
    breaks(Flaw::ReadyWithAnyParent, Workflow::JOIN, 0, PARENTS_FIRST);
}

#[test]
fn a_failure_that_ends_no_task_leaves_it_without_live_rows() {
    breaks(Flaw::FailureEndsNoTask, Workflow::CHAIN, 0, LIVE_UNTIL_ENDED);
}

#[test]
fn a_lost_answer_is_for_ever_when_heartbeats_give_nothing_back() {
    breaks(Flaw::HeartbeatKeepsUnknownClaims, Workflow::STEP, 1, NO_REST);
}

#[test]
fn a_heartbeat_that_records_nothing_leaves_a_second_execution_unexplained() {
    breaks(Flaw::HeartbeatRecordsNothing, Workflow::STEP, 1, EXPLAINED);
}

#[test]
fn a_process_that_leaves_and_records_nothing_leaves_a_second_execution_unexplained() {
    breaks(Flaw::LeaveRecordsNothing, Workflow::STEP, 1, EXPLAINED);
}

#[test]
fn a_cancellation_that_records_nothing_hides_what_has_run() {
    breaks(Flaw::CancelRecordsNothing, Workflow::STEP, 1, EXPLAINED);
}

#[test]
fn a_claim_that_outlives_its_process_stays_when_sweep_overlooks_it() {
    breaks(Flaw::SweepOverlooksMissingProcesses, Workflow::STEP, 2, NO_REST);
}

#[test]
fn a_cancellation_that_leaves_claims_leaves_live_rows() {
    breaks(Flaw::CancelLeavesClaims, Workflow::STEP, 1, LIVE_UNTIL_ENDED);
}

#[test]
fn a_cancellation_that_leaves_rows_leaves_a_cancelled_step_ready() {
    breaks(Flaw::CancelLeavesRows, Workflow::STEP, 1, ONE_LIVE_ROW);
}

#[test]
fn a_step_that_is_ended_by_hand_under_its_handler_is_over_and_claimed() {
    breaks(Flaw::EndByHandIgnoresClaims, Workflow::STEP, 1, ONE_LIVE_ROW);
}

#[test]
fn a_return_that_failed_and_is_forgotten_is_held_for_ever() {
    breaks(Flaw::ReturnIsForgotten, Workflow::STEP, 2, NO_REST);
}

#[test]
fn a_token_alone_brings_another_steps_outcome_after_a_return() {
    breaks_after_return(Flaw::TokenAlone, Workflow::CHAIN, OWN_OUTCOME);
}

#[test]
fn a_fence_without_the_process_lets_another_end_the_attempt_after_a_return() {
    breaks_after_return(Flaw::FinishForAnyProcess, Workflow::STEP, CURRENT_TOKEN);
}

#[test]
fn process_ids_from_a_sequence_let_another_end_the_attempt_after_a_return() {
    breaks_after_return(Flaw::ProcessIdGivenAgain, Workflow::STEP, CURRENT_TOKEN);
}

#[test]
fn a_registration_that_trusts_tokens_takes_over_the_claims_of_others() {
    breaks_after_return(Flaw::RegisterByToken, Workflow::STEP, OWN_CLAIM);
}

#[test]
fn a_lease_that_a_claim_replaces_lends_its_name_to_another_outcome() {
    breaks_after_return(Flaw::LeaseIsReplaced, Workflow::CHAIN, OWN_OUTCOME);
}

#[test]
fn a_sweep_that_trusts_the_clock_takes_attempts_from_living_processes() {
    breaks_in(Protocol::new(Workflow::STEP, 2, 1).with_leaps(), Flaw::SweepTrustsClock, PATIENT);
}
