//! States that differ in names only are one: they have one canonical form, and the same things can come of them.

use std::collections::{BTreeSet, HashSet};

use stateright::Model;
use tasker_protocol_model::canonical::canonical;
use tasker_protocol_model::{Claim, Protocol, State, Workflow};

/// Every state that can be reached, in its canonical form.
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

/// The same state under other names: workers change places, tokens and processes get new numbers, in another order.
fn under_other_names(mut state: State) -> State {
    let rename = |name: &mut u8| *name = 200 - *name;
    let rename_claim = |claim: &mut Claim| {
        rename(&mut claim.token);
        if claim.process != u8::MAX {
            rename(&mut claim.process);
        }
    };
    let State { db, workers, late, .. } = &mut state;
    (db.next_token, db.next_process) = (201, 201);
    db.claims.iter_mut().for_each(rename_claim);
    db.claims.reverse();
    db.processes.iter_mut().for_each(|process| rename(&mut process.id));
    db.processes.reverse();
    db.history.begun.iter_mut().chain(&mut db.history.unrecorded).for_each(rename);
    for worker in workers.iter_mut() {
        rename(&mut worker.process);
        worker.leases.iter_mut().for_each(|lease| rename_claim(&mut lease.claim));
        worker.leases.reverse();
        for answer in &mut worker.answers {
            answer.delivered.iter_mut().for_each(rename);
            answer.claims.iter_mut().for_each(rename_claim);
        }
        worker.answers.reverse();
    }
    workers.reverse();
    late.iter_mut().for_each(|(claim, _)| rename_claim(claim));
    late.reverse();
    state
}

#[test]
fn what_differs_in_names_only_has_the_same_future() {
    for protocol in
        [Protocol::new(Workflow::STEP, 2, 2), Protocol::new(Workflow::CHAIN, 2, 1), Protocol::new(Workflow::JOIN, 2, 1)]
    {
        let states = states(&protocol);
        assert!(states.len() > 1_000, "{} states", states.len());
        for state in states {
            let renamed = under_other_names(state.clone());
            assert_eq!(successors(&protocol, &renamed), successors(&protocol, &state), "{state:#?}");
        }
    }
}
