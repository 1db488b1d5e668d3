//! The protocol as a model that stateright can check.

use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::invariants;
use crate::protocol::{Action, Protocol};
use crate::state::State;

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.initial_states().map(canonical).to_vec()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.candidates(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.apply(state, &action).map(canonical)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let invariants = invariants::ALL.iter().map(|(name, holds)| Property::always(name, *holds));
        let by_jobs = invariants::REACHED_BY_JOBS.iter().filter(|_| !self.functions.workflow.jobs.is_empty());
        let reached = invariants::REACHED.iter().chain(by_jobs);
        invariants.chain(reached.map(|(name, holds)| Property::sometimes(name, *holds))).collect()
    }
}
