//! Processes, their database, and everything that can happen next.

use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::database::{Claim, Database, Owner, Position, ProcessId, Record, Sign, StepState, Token, GONE};
use crate::flaw::Flaw;
use crate::functions::{Appetite, Functions, Sender};
use crate::invariants;
use crate::worker::{Answer, Lease, Outcome, Stage, Worker};
use crate::workflow::Workflow;

/// The bounds of a check.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub functions: Functions,
    pub workers: usize,
    /// How many disturbances a course of events has.
    pub disturbances: u8,
    /// Whether the database may return to an earlier state.
    pub returns: Option<Tokens>,
    /// Whether its clock may leap.
    pub leaps: bool,
}

/// What a token is worth when the database has returned to an earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// The random bits make it another.
    Differ,
    /// The worst case: the random bits agree as well, and the sequence gives the same tokens again, in their order.
    Repeat,
}

/// The earlier state to which the database may return, once in a course of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Earlier {
    /// It will not return.
    Never,
    /// Any state from here on may be the one.
    Any,
    Remembered(Box<Database>),
    /// It has returned.
    Past,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    pub db: Database,
    pub workers: Vec<Worker>,
    /// Outcomes whose statement has been given up by its client and is still on its way.
    pub late: Vec<(Claim, Outcome)>,
    pub disturbances_left: u8,
    pub earlier: Earlier,
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
    /// A sign of life, and a new registration if the database does not know the process, or shows another timeline. Only the
    /// answer to that may be lost.
    Heartbeat {
        worker: usize,
        fate: Fate,
    },
    /// A handler ends whose claim has been taken away.
    Drop {
        worker: usize,
        token: Token,
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
    /// From this state a fail-over or a restore will go on. Nothing happens yet.
    Remember,
    /// The database returns to the state that was remembered, below workers that live on. It may show that.
    GoBack {
        shows_it: bool,
    },
    /// The database's clock leaps.
    Leap,
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
        let functions = Functions { workflow, flaw: None };
        Self { functions, workers, disturbances, returns: None, leaps: false }
    }

    pub fn with_returns(mut self, tokens: Tokens) -> Self {
        self.returns = Some(tokens);
        self
    }

    pub fn with_leaps(mut self) -> Self {
        self.leaps = true;
        self
    }

    pub fn with(mut self, flaw: Flaw) -> Self {
        self.functions.flaw = Some(flaw);
        self
    }

    pub fn beginning(&self, delayed: bool) -> State {
        self.beginning_in(Database::with_task(&self.functions.workflow, delayed), |_| Earlier::Never)
    }

    /// As `beginning`, when the database may return: to its state before the workers came, or to a later one.
    fn beginnings_with_returns(&self) -> [State; 2] {
        let db = Database::with_task(&self.functions.workflow, false);
        [self.beginning_in(db.clone(), |_| Earlier::Any), self.beginning_in(db, |db| self.remember(db))]
    }

    fn beginning_in(&self, mut db: Database, earlier: impl FnOnce(&mut Database) -> Earlier) -> State {
        let earlier = earlier(&mut db);
        let workers = (0..self.workers as Owner)
            .map(|owner| Worker::new(Sender { process: self.functions.register_process(&mut db), owner }, false))
            .collect();
        State { db, workers, late: Vec::new(), disturbances_left: self.disturbances, earlier }
    }

    /// Remembers a state. Sequences note what they give from now on.
    fn remember(&self, db: &mut Database) -> Earlier {
        let earlier = db.clone();
        if self.returns == Some(Tokens::Repeat) {
            db.tokens.given = Some(Vec::new());
        }
        if self.functions.flaw == Some(Flaw::ProcessIdGivenAgain) {
            db.process_ids.given = Some(Vec::new());
        }
        Earlier::Remembered(Box::new(earlier))
    }

    pub fn nature(&self, state: &State, action: &Action) -> Nature {
        let all_down = || state.workers.iter().all(|worker| !worker.up);
        let belongs = |process| state.workers.iter().any(|worker| worker.is_registered_as(process));
        let is_course = match action {
            Action::Claim { worker, fate, .. } => {
                let worker = &state.workers[*worker];
                *fate == Fate::Answered && worker.up && state.db.knows(worker.process)
            }
            Action::Finish { fate, .. } | Action::Return { fate, .. } | Action::Heartbeat { fate, .. } => {
                *fate == Fate::Answered
            }
            Action::GiveBack { token } => state.db.claim(*token).is_some_and(|claim| !is_known(state, claim)),
            Action::Lose { token } => {
                state.db.claim(*token).is_some_and(|claim| self.functions.is_abandoned(&state.db, claim))
            }
            Action::Silence { process } => !belongs(*process),
            Action::Boot { .. } if !all_down() => return Nature::Choice,
            Action::Miss { .. } | Action::Remember => return Nature::Choice,
            Action::Start { .. }
            | Action::Receive { .. }
            | Action::Arrive { .. }
            | Action::Drop { .. }
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
            | Action::Reset { .. }
            | Action::GoBack { .. }
            | Action::Leap => false,
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
        match state.earlier {
            Earlier::Any => actions.push(Action::Remember),
            Earlier::Remembered(_) => {
                actions.extend([true, false].map(|shows_it| Action::GoBack { shows_it }));
            }
            Earlier::Never | Earlier::Past => {}
        }
        if self.leaps {
            actions.push(Action::Leap);
        }
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
                Stage::Revoked => actions.push(Action::Drop { worker, token }),
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
            Action::Heartbeat { worker: number, fate: Fate::Answered },
            Action::Heartbeat { worker: number, fate: Fate::Lost },
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
        let stays = next.db == state.db && next.workers == state.workers && next.late == state.late;
        (!stays || next.earlier != state.earlier).then_some(next)
    }

    fn act(&self, State { db, workers, late, earlier, .. }: &mut State, action: &Action) -> Option<()> {
        let functions = &self.functions;
        let replaces = functions.flaw == Some(Flaw::LeaseIsReplaced);
        let any_up = workers.iter().any(|worker| worker.up);
        match *action {
            Action::Claim { worker, position, fate } => {
                let worker = &mut workers[worker];
                // Of a worker that has ended a last statement may come late; nobody hears its answer.
                if worker.draining || !worker.up && fate != Fate::Lost {
                    return None;
                }
                let claim = functions.claim_steps(db, worker.sender(), position, true)?;
                answer(worker, Answer { delivered: Vec::new(), claims: vec![claim] }, fate, replaces);
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
                let claims = functions.finish_steps(db, worker.sender(), &outcomes, appetite)?;
                let delivered = batch.outcomes().map(|(token, _)| token).collect();
                answer(worker, Answer { delivered, claims }, fate, replaces);
            }
            Action::Receive { worker, answer } => {
                let worker = &mut workers[worker];
                let answer = worker.answers.remove(answer);
                worker.receive(answer, replaces);
            }
            Action::Miss { worker, answer } => drop(workers[worker].answers.remove(answer)),
            Action::Delay { worker, token, outcome } => late.push(workers[worker].end_attempt(token, outcome)?),
            Action::Arrive { late: number } => {
                let (claim, outcome) = late.remove(number);
                let sender = Sender { process: claim.process, owner: claim.owner };
                functions.finish_steps(db, sender, &[(claim, outcome)], Appetite::NONE)?;
            }
            Action::SetAside { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Returning,
            Action::Misplace { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Unhandled,
            Action::Return { worker, token, fate } => {
                let worker = &mut workers[worker];
                let Lease { claim, stage } = worker.lease(token)?;
                if fate != Fate::Unsent {
                    functions.release_steps(db, worker.process, claim, stage == Stage::Unhandled, Record::Omitted);
                }
                match fate {
                    Fate::Lost | Fate::Unsent if functions.flaw == Some(Flaw::ReturnIsForgotten) => {
                        worker.lease_mut(token)?.stage = Stage::Stranded;
                    }
                    // It is tried again.
                    Fate::Lost | Fate::Unsent => {}
                    Fate::Answered | Fate::Late => worker.forget(token),
                }
            }
            Action::Heartbeat { worker, fate } => self.beat(db, &mut workers[worker], fate)?,
            Action::Drop { worker, token } => {
                (!workers[worker].is_delivering(token)).then(|| workers[worker].forget(token))?;
            }
            Action::GiveBack { token } => {
                let process = db.claim(token)?.process;
                workers.iter().find(|worker| worker.up && worker.process == process)?;
                functions.return_claims(db, token)?;
            }
            Action::Lose { token } => {
                let claim = db.claim(token)?;
                let has_leapt = db.process(claim.process).is_some_and(|process| process.sign == Sign::Leapt);
                any_up.then(|| functions.lose(db, token))??;
                let lives = workers.iter().any(|worker| worker.is_registered_as(claim.process));
                db.history.lost_to_clock |= has_leapt && lives;
            }
            Action::GiveUp { process } => any_up.then(|| functions.give_up(db, process))??,
            Action::Due { position } => any_up.then(|| functions.due(db, position))??,
            Action::Silence { process } => {
                db.processes.iter_mut().find(|listed| listed.id == process)?.sign = Sign::Silent;
            }
            Action::Crash { worker } => workers[worker].end(),
            Action::Drain { worker } => workers[worker].drain(),
            Action::Leave { worker } => {
                let worker = workers[worker].draining.then(|| &mut workers[worker])?;
                functions.deregister_process(db, worker.process);
                worker.end();
            }
            Action::Boot { worker } => {
                let process = functions.register_process(db);
                let owner = (0..GONE).find(|owner| workers.iter().all(|worker| worker.owner != *owner))?;
                workers[worker] = Worker::new(Sender { process, owner }, db.is_on_new_timeline);
            }
            Action::Cancel => functions.cancel_task(db)?,
            Action::Resolve { position } => functions.override_step(db, position)?,
            Action::Reset { position } => functions.restart_step(db, position)?,
            Action::Remember => *earlier = self.remember(db),
            Action::GoBack { shows_it } => {
                let Earlier::Remembered(remembered) = std::mem::replace(earlier, Earlier::Past) else { return None };
                db.return_to(*remembered, shows_it);
            }
            Action::Leap => {
                for process in db.processes.iter_mut().filter(|process| process.sign == Sign::Fresh) {
                    process.sign = Sign::Leapt;
                }
            }
        }
        Some(())
    }

    fn beat(&self, db: &mut Database, worker: &mut Worker, fate: Fate) -> Option<()> {
        let functions = &self.functions;
        let is_known = functions.heartbeat(db, worker.process);
        if is_known && worker.is_on_new_timeline == db.is_on_new_timeline {
            if fate != Fate::Answered {
                return None;
            }
            let process = worker.process;
            worker.revoke(|claim| functions.held_claim(db, process, claim).is_none());
            return Some(());
        }
        let next = worker.next_process.unwrap_or_else(|| db.process_ids.draw());
        functions.register_again(db, worker.process, next, &worker.held());
        if fate == Fate::Answered {
            worker.revoke(|claim| functions.held_claim(db, next, claim).is_none());
            worker.move_to(next, db.is_on_new_timeline);
        } else {
            worker.next_process = Some(next);
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

/// Whether the process that has the claim answers for it.
fn is_known(state: &State, claim: Claim) -> bool {
    state.workers.iter().any(|worker| worker.process == claim.process && worker.knows_of(claim))
}

fn answer(worker: &mut Worker, answer: Answer, fate: Fate, replaces: bool) {
    match fate {
        Fate::Answered => worker.receive(answer, replaces),
        Fate::Late => worker.answers.push(answer),
        Fate::Lost | Fate::Unsent => {}
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let beginnings = match self.returns {
            None => [self.beginning(false), self.beginning(true)],
            Some(_) => self.beginnings_with_returns(),
        };
        beginnings.map(canonical).to_vec()
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
