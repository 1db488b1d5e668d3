//! The protocol as it is: every invariant holds in every state, and every course of events ends.

use std::time::Instant;

use stateright::{Checker, Expectation, Model};
use tasker_protocol_model::course::courses;
use tasker_protocol_model::{Protocol, Workflow};

/// Walks all states. `at_least` tells when the walk has become empty for some other reason than a smaller model.
fn check(name: &str, protocol: Protocol, at_least: usize) -> impl Checker<Protocol> {
    let began = Instant::now();
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, {depth} deep, in {:.1?}", began.elapsed());
    for (property, path) in checker.discoveries() {
        if checker.model().property(property).expectation == Expectation::Always {
            let end = path.last_state().clone();
            panic!("\"{property}\" does not hold after {:#?}\n{end:#?}", path.into_actions());
        }
    }
    assert!(states >= at_least, "{states} states are fewer than {at_least}: something has stopped happening");
    checker
}

#[test]
fn a_step_keeps_the_invariants_through_three_disturbances() {
    check("step", Protocol::new(Workflow::STEP, 2, 3), 50_000).assert_properties();
}

#[test]
fn a_chain_keeps_the_invariants_through_two_disturbances() {
    check("chain", Protocol::new(Workflow::CHAIN, 2, 2), 25_000).assert_properties();
}

#[test]
fn a_join_keeps_the_invariants_through_two_disturbances() {
    check("join", Protocol::new(Workflow::JOIN, 2, 2), 300_000).assert_properties();
}

#[test]
fn a_fork_keeps_the_invariants_through_one_disturbance() {
    check("fork", Protocol::new(Workflow::FORK, 2, 1), 15_000);
}

#[test]
fn a_step_among_three_workers_keeps_the_invariants_through_three_disturbances() {
    check("step, three workers", Protocol::new(Workflow::STEP, 3, 3), 5_000).assert_properties();
}

#[test]
#[ignore = "takes minutes and gigabytes"]
fn longer_graphs_keep_the_invariants_through_more_disturbances() {
    check("chain", Protocol::new(Workflow::CHAIN, 2, 3), 500_000).assert_properties();
    check("long chain", Protocol::new(Workflow::LONG_CHAIN, 2, 2), 100_000).assert_properties();
    check("fork", Protocol::new(Workflow::FORK, 2, 2), 1_000_000).assert_properties();
}

/// Together with the invariant on rest: once nothing disturbs it any more, a task ends.
#[test]
fn no_course_of_events_goes_on_for_ever() {
    for (name, protocol) in [
        ("step", Protocol::new(Workflow::STEP, 2, 2)),
        ("chain", Protocol::new(Workflow::CHAIN, 2, 2)),
        ("join", Protocol::new(Workflow::JOIN, 2, 1)),
    ] {
        let found = courses(&protocol);
        println!("{name}: {found:?}");
        assert!(found.states > 4_000 && found.steps > found.states, "{name}: {found:?}");
        assert_eq!(found.endless, 0, "{name}: {found:?}");
    }
}
