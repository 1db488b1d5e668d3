//! Processes, their database, and everything that can happen next.

use stateright::{Model, Property};

use crate::canonical::canonical;
use crate::database::{Claim, Database, Owner, Position, ProcessId, Record, Sign, StepState, Token, GONE};
use crate::functions::{Demand, Functions, Sender};
use crate::invariants;
use crate::mutation::Mutation;
use crate::worker::{Lease, Outcome, Response, Stage, Worker};
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
pub enum Delivery {
    InTime,
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
        delivery: Delivery,
    },
    Start {
        worker: usize,
        token: Token,
    },
    /// Handlers have ended. Until their outcome is sent, nobody can tell them from running ones: one action for both.
    Finish {
        worker: usize,
        batch: Batch,
        demand: Demand,
        delivery: Delivery,
    },
    /// An answer arrives late.
    Receive {
        worker: usize,
        response: usize,
    },
    /// A late answer does not arrive.
    Miss {
        worker: usize,
        response: usize,
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
        delivery: Delivery,
    },
    /// A sign of life, and a new registration if the database does not know the process, or shows another timeline. Only the
    /// answer to that may be lost.
    Heartbeat {
        worker: usize,
        delivery: Delivery,
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
pub enum Fairness {
    /// Happens by itself sooner or later.
    Fair,
    /// May happen or not.
    Optional,
    /// A fault, or somebody's intervention.
    Disturbance,
}

impl Protocol {
    pub fn new(workflow: Workflow, workers: usize, disturbances: u8) -> Self {
        let functions = Functions { workflow, mutation: None };
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

    pub fn with(mut self, mutation: Mutation) -> Self {
        self.functions.mutation = Some(mutation);
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
        if self.functions.mutation == Some(Mutation::ProcessIdGivenAgain) {
            db.process_ids.given = Some(Vec::new());
        }
        Earlier::Remembered(Box::new(earlier))
    }

    pub fn fairness(&self, state: &State, action: &Action) -> Fairness {
        let all_down = || state.workers.iter().all(|worker| !worker.up);
        let belongs = |process| state.workers.iter().any(|worker| worker.is_registered_as(process));
        let is_fair = match action {
            Action::Claim { worker, delivery, .. } => {
                let worker = &state.workers[*worker];
                *delivery == Delivery::InTime && worker.up && state.db.knows(worker.process)
            }
            Action::Finish { delivery, .. } | Action::Return { delivery, .. } | Action::Heartbeat { delivery, .. } => {
                *delivery == Delivery::InTime
            }
            Action::GiveBack { token } => state.db.claim(*token).is_some_and(|claim| !is_known(state, claim)),
            Action::Lose { token } => {
                state.db.claim(*token).is_some_and(|claim| self.functions.is_abandoned(&state.db, claim))
            }
            Action::Silence { process } => !belongs(*process),
            Action::Boot { .. } if !all_down() => return Fairness::Optional,
            Action::Miss { .. } | Action::Remember => return Fairness::Optional,
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
        if is_fair {
            Fairness::Fair
        } else {
            Fairness::Disturbance
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
            let deliveries = [Delivery::InTime, Delivery::Late, Delivery::Lost];
            actions.extend(deliveries.map(|delivery| Action::Claim { worker: number, position, delivery }));
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
                    let deliveries = [Delivery::InTime, Delivery::Lost, Delivery::Unsent];
                    actions.extend(deliveries.map(|delivery| Action::Return { worker, token, delivery }));
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
        for response in 0..worker.responses.len() {
            actions.extend([Action::Receive { worker: number, response }, Action::Miss { worker: number, response }]);
        }
        actions.extend([
            Action::Heartbeat { worker: number, delivery: Delivery::InTime },
            Action::Heartbeat { worker: number, delivery: Delivery::Lost },
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
        for delivery in [Delivery::InTime, Delivery::Late, Delivery::Lost] {
            for kept in 0..=children.len() as u8 {
                let demands = fills().map(|filled_with| Demand { kept, filled_with });
                actions.extend(demands.map(|demand| Action::Finish { worker, batch, demand, delivery }));
            }
        }
    }

    /// The state after an action; `None` when it is not possible, or changes nothing.
    pub fn apply(&self, state: &State, action: &Action) -> Option<State> {
        let disturbs = self.fairness(state, action) == Fairness::Disturbance;
        let disturbances_left = state.disturbances_left.checked_sub(u8::from(disturbs))?;
        let mut next = State { disturbances_left, ..state.clone() };
        self.act(&mut next, action)?;
        let stays = next.db == state.db && next.workers == state.workers && next.late == state.late;
        (!stays || next.earlier != state.earlier).then_some(next)
    }

    fn act(&self, State { db, workers, late, earlier, .. }: &mut State, action: &Action) -> Option<()> {
        let functions = &self.functions;
        let replaces = functions.mutation == Some(Mutation::LeaseIsReplaced);
        let any_up = workers.iter().any(|worker| worker.up);
        match *action {
            Action::Claim { worker, position, delivery } => {
                let worker = &mut workers[worker];
                // Of a worker that has ended a last statement may come late; nobody hears its answer.
                if worker.draining || !worker.up && delivery != Delivery::Lost {
                    return None;
                }
                let claim = functions.claim_steps(db, worker.sender(), position, true)?;
                deliver(worker, Response { delivered: Vec::new(), claims: vec![claim] }, delivery, replaces);
            }
            Action::Start { worker, token } => {
                workers[worker].lease_mut(token)?.stage = Stage::Running;
                db.begin(token);
            }
            Action::Finish { worker, batch, demand, delivery } => {
                let worker = &mut workers[worker];
                if worker.draining && demand != Demand::NONE {
                    return None;
                }
                let ended = batch.outcomes().map(|(token, outcome)| worker.end_attempt(token, outcome));
                let outcomes: Vec<_> = ended.collect::<Option<_>>()?;
                let claims = functions.finish_steps(db, worker.sender(), &outcomes, demand)?;
                let delivered = batch.outcomes().map(|(token, _)| token).collect();
                deliver(worker, Response { delivered, claims }, delivery, replaces);
            }
            Action::Receive { worker, response } => {
                let worker = &mut workers[worker];
                let response = worker.responses.remove(response);
                worker.receive(response, replaces);
            }
            Action::Miss { worker, response } => drop(workers[worker].responses.remove(response)),
            Action::Delay { worker, token, outcome } => late.push(workers[worker].end_attempt(token, outcome)?),
            Action::Arrive { late: number } => {
                let (claim, outcome) = late.remove(number);
                let sender = Sender { process: claim.process, owner: claim.owner };
                functions.finish_steps(db, sender, &[(claim, outcome)], Demand::NONE)?;
            }
            Action::SetAside { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Returning,
            Action::Misplace { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Unhandled,
            Action::Return { worker, token, delivery } => {
                let worker = &mut workers[worker];
                let Lease { claim, stage } = worker.lease(token)?;
                if delivery != Delivery::Unsent {
                    functions.release_steps(db, worker.process, claim, stage == Stage::Unhandled, Record::Omitted);
                }
                match delivery {
                    Delivery::Lost | Delivery::Unsent if functions.mutation == Some(Mutation::ReturnIsForgotten) => {
                        worker.lease_mut(token)?.stage = Stage::Stranded;
                    }
                    // It is tried again.
                    Delivery::Lost | Delivery::Unsent => {}
                    Delivery::InTime | Delivery::Late => worker.forget(token),
                }
            }
            Action::Heartbeat { worker, delivery } => self.send_heartbeat(db, &mut workers[worker], delivery)?,
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

    fn send_heartbeat(&self, db: &mut Database, worker: &mut Worker, delivery: Delivery) -> Option<()> {
        let functions = &self.functions;
        let is_known = functions.heartbeat(db, worker.process);
        if is_known && worker.is_on_new_timeline == db.is_on_new_timeline {
            if delivery != Delivery::InTime {
                return None;
            }
            let process = worker.process;
            worker.revoke(|claim| functions.held_claim(db, process, claim).is_none());
            return Some(());
        }
        let next = worker.next_process.unwrap_or_else(|| db.process_ids.draw());
        functions.register_again(db, worker.process, next, &worker.held());
        if delivery == Delivery::InTime {
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
        actions.iter().all(|action| self.fairness(state, action) != Fairness::Fair || !self.is_possible(state, action))
    }
}

/// Whether the process that has the claim answers for it.
fn is_known(state: &State, claim: Claim) -> bool {
    state.workers.iter().any(|worker| worker.process == claim.process && worker.knows_of(claim))
}

fn deliver(worker: &mut Worker, response: Response, delivery: Delivery, replaces: bool) {
    match delivery {
        Delivery::InTime => worker.receive(response, replaces),
        Delivery::Late => worker.responses.push(response),
        Delivery::Lost | Delivery::Unsent => {}
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
