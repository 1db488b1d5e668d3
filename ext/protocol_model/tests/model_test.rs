//! The protocol without mutations: every invariant holds in every state, and every run ends.

use std::time::Instant;

use stateright::{Checker, Expectation, Model};
use tasker_protocol_model::invariants::{FULL, HANDED_OVER, PROCESS_MISSING};
use tasker_protocol_model::liveness::check_liveness;
use tasker_protocol_model::{Protocol, Tokens, Workflow};

/// Visits all states and requires `at_least` of them, so that a check cannot become empty unnoticed. Exactly the
/// situations in `out_of_reach` are never reached.
fn check(name: &str, protocol: Protocol, at_least: usize, out_of_reach: &[&str]) -> usize {
    let began = Instant::now();
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, {depth} deep, in {:.1?}", began.elapsed());
    let found = checker.discoveries();
    for (property, path) in &found {
        if checker.model().property(property).expectation == Expectation::Always {
            let end = path.last_state().clone();
            panic!("\"{property}\" does not hold after {:#?}\n{end:#?}", path.clone().into_actions());
        }
    }
    assert!(checker.is_done(), "{name}: some states were not visited");
    assert!(states >= at_least, "{name}: only {states} states, expected at least {at_least}");
    let situations = checker.model().properties().into_iter().filter(|one| one.expectation == Expectation::Sometimes);
    let missing: Vec<_> = situations.map(|one| one.name).filter(|name| !found.contains_key(name)).collect();
    assert_eq!(missing, out_of_reach, "{name}");
    states
}

#[test]
fn a_step_keeps_the_invariants_through_three_disturbances() {
    check("step", Protocol::new(Workflow::STEP, 2, 3), 80_000, &[HANDED_OVER]);
}

#[test]
fn a_step_with_three_attempts_survives_two_disturbances() {
    check("patient step", Protocol::new(Workflow::PATIENT_STEP, 2, 2), 20_000, &[HANDED_OVER]);
}

#[test]
fn a_step_among_three_workers_survives_three_disturbances() {
    check("step, three workers", Protocol::new(Workflow::STEP, 3, 3), 150_000, &[HANDED_OVER]);
}

#[test]
fn a_chain_keeps_the_invariants_through_two_disturbances() {
    check("chain", Protocol::new(Workflow::CHAIN, 2, 2), 40_000, &[]);
}

#[test]
fn a_fork_keeps_the_invariants_through_one_disturbance() {
    check("fork", Protocol::new(Workflow::FORK, 2, 1), 25_000, &[PROCESS_MISSING]);
}

#[test]
fn a_diamond_keeps_the_invariants_through_two_disturbances() {
    check("diamond", Protocol::new(Workflow::DIAMOND, 2, 2), 45_000, &[]);
}

const JOB: Workflow = Workflow::STEP.with_jobs(&[0]);
const JOB_WITH_ONE_ATTEMPT: Workflow = Workflow { max_attempts: 1, ..JOB };
const TWO_JOBS: Workflow = Workflow::PAIR.with_jobs(&[0, 1]);

#[test]
fn a_job_keeps_the_invariants_whatever_its_queue_does() {
    check("job", Protocol::new(JOB, 2, 1), 10_000, &[HANDED_OVER, FULL]);
    check("job, one attempt", Protocol::new(JOB_WITH_ONE_ATTEMPT, 2, 2), 20_000, &[HANDED_OVER, FULL]);
}

#[test]
fn a_job_after_a_step_keeps_the_invariants_through_one_disturbance() {
    let chain = Workflow::CHAIN.with_jobs(&[1]);
    check("job after a step", Protocol::new(chain, 2, 1), 40_000, &[HANDED_OVER, FULL]);
}

#[test]
fn a_return_keeps_the_invariants_of_a_job() {
    check("job, tokens repeat", returning(JOB, 1, Tokens::Repeat), 50_000, &[HANDED_OVER, FULL]);
    check("job, tokens differ", returning(JOB, 1, Tokens::Differ), 50_000, &[HANDED_OVER, FULL]);
}

fn returning(workflow: Workflow, disturbances: u8, tokens: Tokens) -> Protocol {
    Protocol::new(workflow, 2, disturbances).with_returns(tokens)
}

#[test]
fn a_return_keeps_the_invariants_when_tokens_repeat() {
    check("step, tokens repeat", returning(Workflow::STEP, 2, Tokens::Repeat), 45_000, &[HANDED_OVER]);
    check("chain, tokens repeat", returning(Workflow::CHAIN, 1, Tokens::Repeat), 5_000, &[PROCESS_MISSING]);
}

#[test]
fn a_return_keeps_the_invariants_when_tokens_differ() {
    check("step, tokens differ", returning(Workflow::STEP, 2, Tokens::Differ), 35_000, &[HANDED_OVER]);
    check("chain, tokens differ", returning(Workflow::CHAIN, 1, Tokens::Differ), 4_000, &[PROCESS_MISSING]);
}

#[test]
#[ignore = "takes minutes and gigabytes"]
fn longer_graphs_keep_the_invariants_through_more_disturbances() {
    check("patient step", Protocol::new(Workflow::PATIENT_STEP, 2, 3), 500_000, &[HANDED_OVER]);
    check("chain", Protocol::new(Workflow::CHAIN, 2, 3), 1_000_000, &[]);
    check("join", Protocol::new(Workflow::JOIN, 2, 2), 500_000, &[]);
    check("long chain", Protocol::new(Workflow::LONG_CHAIN, 2, 2), 100_000, &[]);
    check("fork", Protocol::new(Workflow::FORK, 2, 2), 1_000_000, &[]);
}

#[test]
#[ignore = "takes minutes and gigabytes"]
fn jobs_keep_the_invariants_through_more_disturbances() {
    check("job", Protocol::new(JOB, 2, 2), 250_000, &[HANDED_OVER, FULL]);
    check("two jobs", Protocol::new(TWO_JOBS, 2, 1).with_in_flight(1), 1_500_000, &[HANDED_OVER]);
    let chain = Workflow::CHAIN.with_jobs(&[0, 1]);
    check("chain of jobs", Protocol::new(chain, 2, 1), 250_000, &[HANDED_OVER, FULL]);
}

#[test]
#[ignore = "takes a minute"]
fn every_run_of_a_job_ends() {
    let [repeat, differ] = [Tokens::Repeat, Tokens::Differ].map(|tokens| returning(JOB, 1, tokens));
    for protocol in [Protocol::new(JOB, 2, 2), repeat, differ] {
        let found = check_liveness(&protocol);
        println!("{found:?}");
        assert_eq!(found.endless, 0, "{found:?}");
    }
}

#[test]
#[ignore = "takes minutes and gigabytes"]
fn a_return_keeps_the_invariants_of_longer_graphs() {
    for tokens in [Tokens::Repeat, Tokens::Differ] {
        check("pair", returning(Workflow::PAIR, 1, tokens), 70_000, &[HANDED_OVER, PROCESS_MISSING]);
        check("step", returning(Workflow::STEP, 3, tokens).with_clock_jumps(), 500_000, &[HANDED_OVER]);
        let found = check_liveness(&returning(Workflow::STEP, 2, tokens).with_clock_jumps());
        println!("step: {found:?}");
        assert_eq!(found.endless, 0, "{found:?}");
    }
}

/// What needs a disturbance, or a step that is no job.
const WITHOUT_DISTURBANCE: [&str; 11] = [
    "a task is cancelled under a running handler",
    HANDED_OVER,
    "an outcome is rejected because its claim has gone",
    "an outcome that its process no longer waits for arrives and is rejected",
    "a heartbeat releases a claim that no worker knows",
    "a heartbeat with an old list releases a claim whose handler runs",
    "a handler continues without its claim",
    PROCESS_MISSING,
    "a finish is still under way when its step has ended",
    "two handlers run the same step",
    "an enqueued job outlives its dispatcher",
];

/// Together with the invariant on rest: once nothing disturbs it any more, a task ends. This walk is independent of the
/// checker and compares states where the checker compares fingerprints; both must find the same number.
#[test]
fn every_run_ends() {
    for (name, protocol, out_of_reach) in [
        ("step", Protocol::new(Workflow::STEP, 2, 2), [HANDED_OVER].as_slice()),
        ("chain", Protocol::new(Workflow::CHAIN, 2, 2), &[]),
        ("join", Protocol::new(Workflow::JOIN, 2, 1), &[PROCESS_MISSING]),
        ("diamond", Protocol::new(Workflow::DIAMOND, 2, 2), &[]),
        ("chain, tokens repeat", returning(Workflow::CHAIN, 1, Tokens::Repeat), &[PROCESS_MISSING]),
        // A jump of the clock takes nothing from a live process.
        ("step, clock jumps", Protocol::new(Workflow::STEP, 2, 2).with_clock_jumps(), &[HANDED_OVER]),
        ("job, clock jumps", Protocol::new(JOB, 2, 1).with_clock_jumps(), &[HANDED_OVER, FULL]),
        ("two jobs, one in flight", Protocol::new(TWO_JOBS, 2, 0).with_in_flight(1), &WITHOUT_DISTURBANCE),
    ] {
        let found = check_liveness(&protocol);
        println!("{name}: {found:?}");
        assert!(found.steps > found.states, "{name}: {found:?}");
        assert_eq!(found.endless, 0, "{name}: {found:?}");
        assert_eq!(check(name, protocol, 5_000, out_of_reach), found.states, "{name}");
    }
}
