//! Processes, their database, and everything that can happen next.

use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::database::{Claim, Database, Position, ProcessId, Record, StepState, Token};
use crate::flaw::Flaw;
use crate::functions::{Appetite, Functions};
use crate::invariants;
use crate::worker::{Answer, Outcome, Stage, Worker};
use crate::workflow::Workflow;

/// The bounds of a check.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub functions: Functions,
    pub workers: usize,
    /// How many disturbances a course of events has.
    pub disturbances: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    pub db: Database,
    pub workers: Vec<Worker>,
    /// Outcomes whose statement has been given up by its client and is still on its way.
    pub late: Vec<(Claim, Outcome)>,
    pub disturbances_left: u8,
}

/// What becomes of a statement's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    Answered,
    Late,
    /// Committed, and nobody hears of it.
    Lost,
    /// Not even committed. Where that changes nothing, it is no action.
    Unsent,
}

/// The outcomes that one statement brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Batch {
    pub first: (Token, Outcome),
    pub second: Option<(Token, Outcome)>,
}

/// By `worker`: its place in `State::workers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Claim {
        worker: usize,
        position: Position,
        fate: Fate,
    },
    Start {
        worker: usize,
        token: Token,
    },
    /// Handlers have ended. Until their outcome is sent, nobody can tell them from running ones: one action for both.
    Finish {
        worker: usize,
        batch: Batch,
        appetite: Appetite,
        fate: Fate,
    },
    /// An answer arrives late.
    Receive {
        worker: usize,
        answer: usize,
    },
    /// A late answer does not arrive.
    Miss {
        worker: usize,
        answer: usize,
    },
    /// A finish is sent and given up; it stays on its way.
    Delay {
        worker: usize,
        token: Token,
        outcome: Outcome,
    },
    /// A finish arrives that its client has given up.
    Arrive {
        late: usize,
    },
    /// A claim that has not been started is taken off the buffer, as it has waited for too long.
    SetAside {
        worker: usize,
        token: Token,
    },
    /// There is no handler for the step here.
    Misplace {
        worker: usize,
        token: Token,
    },
    Return {
        worker: usize,
        token: Token,
        fate: Fate,
    },
    Heartbeat {
        worker: usize,
    },
    GiveBack {
        token: Token,
    },
    Lose {
        token: Token,
    },
    GiveUp {
        process: ProcessId,
    },
    Due {
        position: Position,
    },
    /// A process gives no sign of life for as long as it promised one.
    Silence {
        process: ProcessId,
    },
    Crash {
        worker: usize,
    },
    Drain {
        worker: usize,
    },
    /// A worker that drains ends, whether it has finished everything or not.
    Leave {
        worker: usize,
    },
    Boot {
        worker: usize,
    },
    Cancel,
    Resolve {
        position: Position,
    },
    Reset {
        position: Position,
    },
}

/// How far the protocol may rely on an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Happens by itself sooner or later.
    Course,
    /// May happen or not.
    Choice,
    /// A fault, or somebody's intervention.
    Disturbance,
}

impl Protocol {
    pub fn new(workflow: Workflow, workers: usize, disturbances: u8) -> Self {
        Self { functions: Functions { workflow, flaw: None }, workers, disturbances }
    }

    pub fn with(mut self, flaw: Flaw) -> Self {
        self.functions.flaw = Some(flaw);
        self
    }

    pub fn beginning(&self, delayed: bool) -> State {
        let mut db = Database::with_task(&self.functions.workflow, delayed);
        let workers = (0..self.workers).map(|_| Worker::new(self.functions.register_process(&mut db))).collect();
        State { db, workers, late: Vec::new(), disturbances_left: self.disturbances }
    }

    pub fn nature(&self, state: &State, action: &Action) -> Nature {
        let all_down = || state.workers.iter().all(|worker| !worker.up);
        let belongs = |process| state.workers.iter().any(|worker| worker.up && worker.process == process);
        let is_course = match action {
            Action::Claim { worker, fate, .. } => {
                let worker = &state.workers[*worker];
                *fate == Fate::Answered && worker.up && state.db.knows(worker.process)
            }
            Action::Finish { fate, .. } | Action::Return { fate, .. } => *fate == Fate::Answered,
            Action::GiveBack { token } => !state.workers.iter().any(|worker| worker.knows_of(*token)),
            Action::Lose { token } => {
                state.db.claim(*token).is_some_and(|claim| self.functions.is_abandoned(&state.db, claim))
            }
            Action::Silence { process } => !belongs(*process),
            Action::Boot { .. } if !all_down() => return Nature::Choice,
            Action::Miss { .. } => return Nature::Choice,
            Action::Start { .. }
            | Action::Receive { .. }
            | Action::Arrive { .. }
            | Action::Heartbeat { .. }
            | Action::GiveUp { .. }
            | Action::Due { .. }
            | Action::Leave { .. }
            | Action::Boot { .. } => true,
            Action::Delay { .. }
            | Action::SetAside { .. }
            | Action::Misplace { .. }
            | Action::Crash { .. }
            | Action::Drain { .. }
            | Action::Cancel
            | Action::Resolve { .. }
            | Action::Reset { .. } => false,
        };
        if is_course {
            Nature::Course
        } else {
            Nature::Disturbance
        }
    }

    /// All that may be tried; `apply` tells what is possible.
    pub fn candidates(&self, state: &State, actions: &mut Vec<Action>) {
        for number in 0..state.workers.len() {
            self.candidates_of(number, state, actions);
        }
        for position in self.functions.workflow.positions() {
            actions.extend([Action::Due { position }, Action::Resolve { position }, Action::Reset { position }]);
        }
        for claim in &state.db.claims {
            actions.extend([Action::Lose { token: claim.token }, Action::GiveBack { token: claim.token }]);
        }
        for process in &state.db.processes {
            actions.extend([Action::Silence { process: process.id }, Action::GiveUp { process: process.id }]);
        }
        actions.extend((0..state.late.len()).map(|late| Action::Arrive { late }));
        actions.push(Action::Cancel);
    }

    fn candidates_of(&self, number: usize, state: &State, actions: &mut Vec<Action>) {
        let worker = &state.workers[number];
        if !worker.up {
            actions.push(Action::Boot { worker: number });
        }
        for position in self.functions.workflow.positions().filter(|position| state.db.step(*position).ready_rows > 0) {
            let fates = [Fate::Answered, Fate::Late, Fate::Lost];
            actions.extend(fates.map(|fate| Action::Claim { worker: number, position, fate }));
        }
        if !worker.up {
            return;
        }
        for lease in &worker.leases {
            let (worker, token) = (number, lease.claim.token);
            match lease.stage {
                Stage::Buffered => actions.extend([
                    Action::Start { worker, token },
                    Action::SetAside { worker, token },
                    Action::Misplace { worker, token },
                ]),
                Stage::Returning | Stage::Unhandled => {
                    let fates = [Fate::Answered, Fate::Lost, Fate::Unsent];
                    actions.extend(fates.map(|fate| Action::Return { worker, token, fate }));
                }
                Stage::Running | Stage::Ended(_) | Stage::Stranded => {}
            }
        }
        let outcomes = worker.outcomes();
        for (number_of_first, first) in outcomes.iter().enumerate() {
            let ((token, outcome), worker) = (*first, number);
            actions.push(Action::Delay { worker, token, outcome });
            self.finishes(worker, Batch { first: *first, second: None }, state, actions);
            for second in outcomes[number_of_first + 1..].iter().filter(|second| second.0 != token) {
                self.finishes(worker, Batch { first: *first, second: Some(*second) }, state, actions);
            }
        }
        for answer in 0..worker.answers.len() {
            actions.extend([Action::Receive { worker: number, answer }, Action::Miss { worker: number, answer }]);
        }
        actions.extend([
            Action::Heartbeat { worker: number },
            Action::Crash { worker: number },
            Action::Drain { worker: number },
            Action::Leave { worker: number },
        ]);
    }

    /// A finish with every appetite that can be sated: children that may become ready, steps that are or may.
    fn finishes(&self, worker: usize, batch: Batch, state: &State, actions: &mut Vec<Action>) {
        let workflow = &self.functions.workflow;
        let completed = batch.outcomes().filter(|(_, outcome)| *outcome == Outcome::Completed);
        let positions = completed.filter_map(|(token, _)| state.workers[worker].lease(token));
        let children: Vec<_> = positions.flat_map(|lease| workflow.children(lease.claim.position)).collect();
        let can_fill = |position: &Position| state.db.step(*position).ready_rows > 0 || children.contains(position);
        let fills = || std::iter::once(None).chain(workflow.positions().filter(can_fill).map(Some));
        for fate in [Fate::Answered, Fate::Late, Fate::Lost] {
            for kept in 0..=children.len() as u8 {
                let appetites = fills().map(|filled_with| Appetite { kept, filled_with });
                actions.extend(appetites.map(|appetite| Action::Finish { worker, batch, appetite, fate }));
            }
        }
    }

    /// The state after an action; `None` when it is not possible, or changes nothing.
    pub fn apply(&self, state: &State, action: &Action) -> Option<State> {
        let disturbs = self.nature(state, action) == Nature::Disturbance;
        let disturbances_left = state.disturbances_left.checked_sub(u8::from(disturbs))?;
        let mut next = State { disturbances_left, ..state.clone() };
        self.act(&mut next, action)?;
        (next.db != state.db || next.workers != state.workers || next.late != state.late).then_some(next)
    }

    fn act(&self, State { db, workers, late, .. }: &mut State, action: &Action) -> Option<()> {
        let functions = &self.functions;
        let any_up = workers.iter().any(|worker| worker.up);
        match *action {
            Action::Claim { worker, position, fate } => {
                let worker = &mut workers[worker];
                // Of a worker that has ended a last statement may come late; nobody hears its answer.
                if worker.draining || !worker.up && fate != Fate::Lost {
                    return None;
                }
                let claim = functions.claim_steps(db, worker.process, position, true)?;
                answer(worker, Answer { delivered: Vec::new(), claims: vec![claim] }, fate);
            }
            Action::Start { worker, token } => {
                workers[worker].lease_mut(token)?.stage = Stage::Running;
                db.begin(token);
            }
            Action::Finish { worker, batch, appetite, fate } => {
                let worker = &mut workers[worker];
                if worker.draining && appetite != Appetite::NONE {
                    return None;
                }
                let ended = batch.outcomes().map(|(token, outcome)| worker.end_attempt(token, outcome));
                let outcomes: Vec<_> = ended.collect::<Option<_>>()?;
                let claims = functions.finish_steps(db, worker.process, &outcomes, appetite)?;
                let delivered = batch.outcomes().map(|(token, _)| token).collect();
                answer(worker, Answer { delivered, claims }, fate);
            }
            Action::Receive { worker, answer } => {
                let worker = &mut workers[worker];
                let answer = worker.answers.remove(answer);
                worker.receive(answer);
            }
            Action::Miss { worker, answer } => drop(workers[worker].answers.remove(answer)),
            Action::Delay { worker, token, outcome } => late.push(workers[worker].end_attempt(token, outcome)?),
            Action::Arrive { late: number } => {
                let (claim, outcome) = late.remove(number);
                functions.finish_steps(db, claim.process, &[(claim, outcome)], Appetite::NONE)?;
            }
            Action::SetAside { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Returning,
            Action::Misplace { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Unhandled,
            Action::Return { worker, token, fate } => {
                let worker = &mut workers[worker];
                let stage = worker.lease(token)?.stage;
                if fate != Fate::Unsent {
                    functions.release_steps(db, token, stage == Stage::Unhandled, Record::Omitted);
                }
                match (stage, fate) {
                    (Stage::Unhandled, Fate::Lost | Fate::Unsent) => {}
                    (_, Fate::Lost | Fate::Unsent) if functions.flaw == Some(Flaw::ReturnIsForgotten) => {
                        worker.lease_mut(token)?.stage = Stage::Stranded;
                    }
                    // Tried once: after an error no heartbeat names the claim, and so the database gives it back.
                    _ => worker.forget(token),
                }
            }
            Action::Heartbeat { worker } => {
                let worker = &mut workers[worker];
                if functions.heartbeat(db, worker.process) {
                    worker.revoke(|token| db.claim(token).is_none());
                } else {
                    worker.revoke(|_| true);
                    worker.process = functions.register_process(db);
                }
            }
            Action::GiveBack { token } => {
                let process = db.claim(token)?.process;
                workers.iter().find(|worker| worker.up && worker.process == process)?;
                functions.give_back(db, token)?;
            }
            Action::Lose { token } => any_up.then(|| functions.lose(db, token))??,
            Action::GiveUp { process } => any_up.then(|| functions.give_up(db, process))??,
            Action::Due { position } => any_up.then(|| functions.due(db, position))??,
            Action::Silence { process } => {
                db.processes.iter_mut().find(|listed| listed.id == process)?.fresh = false;
            }
            Action::Crash { worker } => workers[worker].end(),
            Action::Drain { worker } => workers[worker].drain(),
            Action::Leave { worker } => {
                let worker = workers[worker].draining.then(|| &mut workers[worker])?;
                functions.deregister_process(db, worker.process);
                worker.end();
            }
            Action::Boot { worker } => workers[worker] = Worker::new(functions.register_process(db)),
            Action::Cancel => functions.cancel_task(db)?,
            Action::Resolve { position } => functions.end_step_by_hand(db, position)?,
            Action::Reset { position } => functions.restart_step(db, position)?,
        }
        Some(())
    }

    pub fn is_possible(&self, state: &State, action: &Action) -> bool {
        self.apply(state, action).is_some()
    }

    /// Whether nothing happens any more, unless somebody intervenes.
    pub fn is_at_rest(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.candidates(state, &mut actions);
        actions.iter().all(|action| self.nature(state, action) != Nature::Course || !self.is_possible(state, action))
    }
}

fn answer(worker: &mut Worker, answer: Answer, fate: Fate) {
    match fate {
        Fate::Answered => worker.receive(answer),
        Fate::Late => worker.answers.push(answer),
        Fate::Lost | Fate::Unsent => {}
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![canonical(self.beginning(false)), canonical(self.beginning(true))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.candidates(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.apply(state, &action).map(canonical)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let invariants = invariants::ALL.iter().map(|(name, holds)| Property::always(name, *holds));
        let reached = invariants::REACHED.iter().map(|(name, holds)| Property::sometimes(name, *holds));
        invariants.chain(reached).collect()
    }
}

impl Batch {
    pub fn outcomes(self) -> impl Iterator<Item = (Token, Outcome)> {
        std::iter::once(self.first).chain(self.second)
    }
}

impl State {
    pub fn is_done(&self, position: Position) -> bool {
        self.db.step(position).state.is_done()
    }

    pub fn is_pending(&self, position: Position) -> bool {
        self.db.step(position).state == StepState::Pending
    }
}
