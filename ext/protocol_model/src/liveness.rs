//! What comes of a state when nothing disturbs it: does every course of events end?
//!
//! The invariant on rest says that no course ends too early; this says that none goes on for ever. Together: once nothing
//! disturbs it any more, every task ends.

use std::collections::HashMap;

use stateright::Model;

use crate::protocol::{Fairness, Protocol, State};

/// What a walk over all states has found.
#[derive(Debug)]
pub struct Liveness {
    pub states: usize,
    /// Steps that the course of events takes by itself, between these states.
    pub steps: usize,
    /// States from which the course of events may go round in circles.
    pub endless: usize,
}

/// Walks all states, and takes away again and again those from which the course of events cannot go on. What is left
/// goes round in circles.
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
