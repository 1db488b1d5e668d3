//! States that differ only in names have the same successors in canonical form.

use std::collections::{BTreeSet, HashSet};

use stateright::Model;
use tasker_protocol_model::canonical::canonical;
use tasker_protocol_model::{Claim, Database, Earlier, Protocol, State, Tokens, Workflow};

/// Every reachable state, in its canonical form.
fn states(protocol: &Protocol) -> HashSet<State> {
    let mut seen: HashSet<_> = protocol.init_states().into_iter().collect();
    let mut unseen: Vec<_> = seen.iter().cloned().collect();
    while let Some(state) = unseen.pop() {
        unseen.extend(successors(protocol, &state).into_iter().filter(|next| seen.insert(next.clone())));
    }
    seen
}

fn successors(protocol: &Protocol, state: &State) -> BTreeSet<State> {
    let mut actions = Vec::new();
    protocol.candidates(state, &mut actions);
    actions.iter().filter_map(|action| protocol.apply(state, action)).map(canonical).collect()
}

/// The same state with other names: workers change places, tokens and processes get new numbers in another order.
fn under_other_names(mut state: State) -> State {
    let rename = |name: &mut u8| {
        if *name != u8::MAX {
            *name = 200 - *name;
        }
    };
    let rename_claim = |claim: &mut Claim| {
        rename(&mut claim.token);
        rename(&mut claim.process);
        rename(&mut claim.owner);
    };
    let rename_database = |db: &mut Database| {
        for numbers in [&mut db.tokens, &mut db.process_ids] {
            numbers.next = 201;
            numbers.again.iter_mut().chain(numbers.given.iter_mut().flatten()).for_each(rename);
        }
        db.claims.iter_mut().for_each(rename_claim);
        db.claims.reverse();
        db.processes.iter_mut().for_each(|process| rename(&mut process.id));
        db.processes.reverse();
        db.history.begun.iter_mut().chain(&mut db.history.unrecorded).for_each(rename);
    };
    let State { db, workers, late, jobs, earlier, .. } = &mut state;
    rename_database(db);
    if let Earlier::Remembered(db) = earlier {
        rename_database(db);
    }
    for worker in workers.iter_mut() {
        rename(&mut worker.owner);
        rename(&mut worker.process);
        worker.next_process.iter_mut().for_each(rename);
        worker.leases.iter_mut().for_each(|lease| rename_claim(&mut lease.claim));
        worker.leases.reverse();
        worker.dispatching.iter_mut().for_each(|dispatching| rename_claim(&mut dispatching.claim));
        for response in &mut worker.responses {
            response.delivered.iter_mut().for_each(rename);
            response.claims.iter_mut().for_each(rename_claim);
        }
        worker.responses.reverse();
    }
    workers.reverse();
    late.iter_mut().for_each(|(claim, _)| rename_claim(claim));
    late.reverse();
    jobs.iter_mut().for_each(|job| rename(&mut job.token));
    jobs.reverse();
    state
}

#[test]
fn states_that_differ_only_in_names_have_the_same_successors() {
    for protocol in [
        Protocol::new(Workflow::STEP, 2, 2),
        Protocol::new(Workflow::CHAIN, 2, 1),
        Protocol::new(Workflow::JOIN, 2, 1),
        Protocol::new(Workflow::CHAIN, 2, 1).with_returns(Tokens::Repeat).with_clock_jumps(),
        Protocol::new(Workflow::CHAIN, 2, 1).with_returns(Tokens::Differ),
        Protocol::new(Workflow::STEP.with_jobs(&[0]), 2, 1),
        Protocol::new(Workflow { max_attempts: 1, ..Workflow::STEP.with_jobs(&[0]) }, 2, 1)
            .with_returns(Tokens::Repeat),
    ] {
        let states = states(&protocol);
        assert!(states.len() > 1_000, "{} states", states.len());
        for state in states {
            let renamed = under_other_names(state.clone());
            assert_eq!(successors(&protocol, &renamed), successors(&protocol, &state), "{state:#?}");
        }
    }
}
