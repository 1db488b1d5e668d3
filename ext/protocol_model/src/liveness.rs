//! Does every run end once nothing disturbs it any more?
//!
//! The invariant on rest says that no run ends too early; this module says that none continues forever. Together: once
//! disturbances cease, every task ends.

use std::collections::HashMap;

use stateright::Model;

use crate::protocol::{Fairness, Protocol};
use crate::state::State;

/// The result of a walk over all states.
#[derive(Debug)]
pub struct Liveness {
    pub states: usize,
    /// Fair transitions between these states.
    pub steps: usize,
    /// States from which a run may cycle forever.
    pub endless: usize,
}

/// Walks all states, and repeatedly removes those without a fair transition to a remaining state. The rest lie on
/// cycles or lead to one.
pub fn check_liveness(protocol: &Protocol) -> Liveness {
    let mut numbers: HashMap<State, u32> = HashMap::new();
    let mut unseen = Vec::new();
    for state in protocol.init_states() {
        number_of(state, &mut numbers, &mut unseen);
    }
    let mut before: Vec<Vec<u32>> = Vec::new();
    let mut successors: Vec<u32> = Vec::new();
    let mut steps = 0;
    let mut actions = Vec::new();
    while let Some((number, state)) = unseen.pop() {
        actions.clear();
        protocol.candidates(&state, &mut actions);
        for action in &actions {
            let Some(next) = protocol.next_state(&state, *action) else { continue };
            let next = number_of(next, &mut numbers, &mut unseen);
            before.resize_with(numbers.len(), Vec::new);
            successors.resize(numbers.len(), 0);
            if protocol.fairness(&state, action) == Fairness::Fair {
                before[next as usize].push(number);
                successors[number as usize] += 1;
                steps += 1;
            }
        }
    }

    let states = numbers.len();
    let mut ended: Vec<u32> = (0..states as u32).filter(|number| successors[*number as usize] == 0).collect();
    let mut taken = 0;
    while let Some(number) = ended.pop() {
        taken += 1;
        for earlier in std::mem::take(&mut before[number as usize]) {
            successors[earlier as usize] -= 1;
            if successors[earlier as usize] == 0 {
                ended.push(earlier);
            }
        }
    }
    Liveness { states, steps, endless: states - taken }
}

fn number_of(state: State, numbers: &mut HashMap<State, u32>, unseen: &mut Vec<(u32, State)>) -> u32 {
    let next = numbers.len() as u32;
    *numbers.entry(state).or_insert_with_key(|state| {
        unseen.push((next, state.clone()));
        next
    })
}
