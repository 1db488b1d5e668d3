//! The transitions: every action that processes, their database and operators can take in a state.

use crate::database::{Claim, Database, Job, Owner, ProcessId, Record, Sender, Sign, Token, GONE};
use crate::functions::{Demand, Functions};
use crate::mutation::Mutation;
use crate::state::{Earlier, State};
use crate::worker::{Dispatching, Lease, Outcome, Response, Stage, Worker};
use crate::workflow::{Position, Workflow};

/// The bounds of a check.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub functions: Functions,
    pub workers: usize,
    /// Maximum number of disturbances in a run.
    pub disturbances: u8,
    /// Whether the database may return to an earlier state.
    pub returns: Option<Tokens>,
    /// Whether the database's clock may jump.
    pub clock_jumps: bool,
}

/// Whether tokens are unique across a return of the database to an earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// New tokens differ from the lost ones, thanks to their random bits.
    Differ,
    /// The worst case: the random bits agree as well, and the sequence repeats the same tokens in the same order.
    Repeat,
}

/// How the response to a statement is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    InTime,
    Late,
    /// Committed, but the response is lost.
    Lost,
    /// Not committed. If that changes nothing, it is not an action.
    Unsent,
}

/// The outcomes that one statement carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Batch {
    pub first: (Token, Outcome),
    pub second: Option<(Token, Outcome)>,
}

/// A transition. `worker` is an index into `State::workers`.
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
    /// Handlers end and their outcomes are sent: one action, as an ended handler looks like a running one until then.
    Finish {
        worker: usize,
        batch: Batch,
        demand: Demand,
        delivery: Delivery,
    },
    /// A response arrives late.
    Receive {
        worker: usize,
        response: usize,
    },
    /// A late response is lost.
    Miss {
        worker: usize,
        response: usize,
    },
    /// A finish is sent and its client gives up waiting; the statement stays under way.
    Delay {
        worker: usize,
        token: Token,
        outcome: Outcome,
    },
    /// A finish arrives whose client no longer waits for it.
    Arrive {
        late: usize,
    },
    /// A claim that has not been started is removed from the buffer, as it has waited too long.
    SetAside {
        worker: usize,
        token: Token,
    },
    /// This process has no handler for the step.
    Misplace {
        worker: usize,
        token: Token,
    },
    /// The queue ends its process and interrupts the handler of a job.
    Interrupt {
        worker: usize,
        token: Token,
    },
    Return {
        worker: usize,
        token: Token,
        delivery: Delivery,
    },
    /// A dispatcher claims a step that runs as a job.
    Dispatch {
        worker: usize,
        position: Position,
        delivery: Delivery,
    },
    Enqueue {
        worker: usize,
    },
    Confirm {
        worker: usize,
        delivery: Delivery,
    },
    /// The queue reports an error, whether or not it has the job: the dispatcher returns the step, with a delay.
    Refuse {
        worker: usize,
        delivery: Delivery,
    },
    /// The queue loses a job.
    LoseJob {
        job: usize,
    },
    /// A process runs a job. It starts the step, or finds that it may not. With `again` the queue will run the job once
    /// more, as it also does after a lost response.
    Adopt {
        worker: usize,
        job: usize,
        delivery: Delivery,
        again: bool,
    },
    /// A heartbeat, followed by a new registration if the database does not know the process or reports another
    /// timeline. Only the response to the registration may be lost.
    Heartbeat {
        worker: usize,
        delivery: Delivery,
    },
    /// A handler ends whose claim was taken away.
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
    /// A process sends no heartbeat within its timeout.
    Silence {
        process: ProcessId,
    },
    Crash {
        worker: usize,
    },
    Drain {
        worker: usize,
    },
    /// A draining worker ends, whether or not it has finished everything.
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
    /// This state is remembered for a later fail-over or restore.
    Remember,
    /// The database returns to the remembered state while the workers continue. It may show that.
    GoBack {
        shows_it: bool,
    },
    /// The database's clock jumps.
    ClockJump,
}

/// Whether the protocol may rely on an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fairness {
    /// Eventually happens by itself.
    Fair,
    /// May or may not happen.
    Optional,
    /// A fault, or an operator's intervention.
    Disturbance,
}

impl Protocol {
    pub fn new(workflow: Workflow, workers: usize, disturbances: u8) -> Self {
        let functions = Functions { workflow, in_flight: usize::MAX, mutation: None };
        Self { functions, workers, disturbances, returns: None, clock_jumps: false }
    }

    pub fn with_returns(mut self, tokens: Tokens) -> Self {
        self.returns = Some(tokens);
        self
    }

    pub fn with_clock_jumps(mut self) -> Self {
        self.clock_jumps = true;
        self
    }

    pub fn with_in_flight(mut self, in_flight: usize) -> Self {
        self.functions.in_flight = in_flight;
        self
    }

    pub fn with(mut self, mutation: Mutation) -> Self {
        self.functions.mutation = Some(mutation);
        self
    }

    pub fn initial_states(&self) -> [State; 2] {
        let task = |delayed| Database::with_task(&self.functions.workflow, delayed);
        match self.returns {
            None => [false, true].map(|delayed| self.initial_state(task(delayed), |_| Earlier::Never)),
            // Back to the state before the workers registered, or to a later one.
            Some(_) => [
                self.initial_state(task(false), |_| Earlier::Any),
                self.initial_state(task(false), |db| self.remember(db)),
            ],
        }
    }

    fn initial_state(&self, mut db: Database, earlier: impl FnOnce(&mut Database) -> Earlier) -> State {
        let earlier = earlier(&mut db);
        let workers = (0..self.workers as Owner)
            .map(|owner| Worker::new(Sender { process: self.functions.register_process(&mut db), owner }, false))
            .collect();
        let (late, jobs) = (Vec::new(), Vec::new());
        State { db, workers, late, jobs, disturbances_left: self.disturbances, earlier }
    }

    /// Remembers a state. From now on, sequences record the numbers that they draw.
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
            Action::Claim { worker, delivery, .. }
            | Action::Dispatch { worker, delivery, .. }
            | Action::Adopt { worker, delivery, .. } => {
                let worker = &state.workers[*worker];
                let is_fair = *delivery == Delivery::InTime && worker.up && state.db.knows(worker.process);
                if is_fair && may_repeat(state, action) {
                    return Fairness::Optional;
                }
                is_fair
            }
            Action::Finish { delivery, .. }
            | Action::Return { delivery, .. }
            | Action::Heartbeat { delivery, .. }
            | Action::Confirm { delivery, .. } => *delivery == Delivery::InTime,
            Action::GiveBack { token } => state.db.claim(*token).is_some_and(|claim| !is_known(state, claim)),
            Action::Lose { token } => match state.db.claim(*token) {
                Some(claim) if claim.is_dispatchers() && !self.functions.is_abandoned(&state.db, claim) => {
                    // Its deadline has passed. Where tokens repeat, any number of late jobs would have different ones.
                    match may_start(state, claim) {
                        true if self.returns != Some(Tokens::Repeat) => return Fairness::Optional,
                        may_start => !may_start,
                    }
                }
                claim => claim.is_some_and(|claim| self.functions.is_abandoned(&state.db, claim)),
            },
            Action::Silence { process } => !belongs(*process),
            Action::Boot { .. } if !all_down() => return Fairness::Optional,
            Action::Miss { .. } | Action::LoseJob { .. } | Action::Remember => return Fairness::Optional,
            Action::Start { .. }
            | Action::Enqueue { .. }
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
            | Action::Interrupt { .. }
            | Action::Refuse { .. }
            | Action::Crash { .. }
            | Action::Drain { .. }
            | Action::Cancel
            | Action::Resolve { .. }
            | Action::Reset { .. }
            | Action::GoBack { .. }
            | Action::ClockJump => false,
        };
        if is_fair {
            Fairness::Fair
        } else {
            Fairness::Disturbance
        }
    }

    /// Adds all actions worth trying; `apply` decides which are possible.
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
        actions.extend((0..state.jobs.len()).map(|job| Action::LoseJob { job }));
        actions.push(Action::Cancel);
        match state.earlier {
            Earlier::Any => actions.push(Action::Remember),
            Earlier::Remembered(_) => {
                actions.extend([true, false].map(|shows_it| Action::GoBack { shows_it }));
            }
            Earlier::Never | Earlier::Past => {}
        }
        if self.clock_jumps {
            actions.push(Action::ClockJump);
        }
    }

    fn candidates_of(&self, number: usize, state: &State, actions: &mut Vec<Action>) {
        let worker = &state.workers[number];
        if !worker.up {
            actions.push(Action::Boot { worker: number });
        }
        self.claims(number, state, actions);
        if !worker.up {
            return;
        }
        if let Some(Dispatching { is_enqueued, .. }) = worker.dispatching {
            let worker = number;
            let confirm = |delivery| Action::Confirm { worker, delivery };
            actions.push(if is_enqueued { confirm(Delivery::InTime) } else { Action::Enqueue { worker } });
            actions.extend(is_enqueued.then_some(confirm(Delivery::Unsent)));
            actions.extend([Delivery::InTime, Delivery::Unsent].map(|delivery| Action::Refuse { worker, delivery }));
        }
        for lease in &worker.leases {
            let (worker, token) = (number, lease.claim.token);
            match lease.stage {
                Stage::Buffered => actions.extend([
                    Action::Start { worker, token },
                    Action::SetAside { worker, token },
                    Action::Misplace { worker, token },
                ]),
                Stage::Returning | Stage::Unhandled | Stage::Interrupted => {
                    let deliveries = [Delivery::InTime, Delivery::Lost, Delivery::Unsent];
                    actions.extend(deliveries.map(|delivery| Action::Return { worker, token, delivery }));
                }
                Stage::Revoked => actions.push(Action::Drop { worker, token }),
                Stage::Running if lease.claim.dispatch.is_some() => actions.push(Action::Interrupt { worker, token }),
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

    /// Adds the claims of ready steps, and the adoptions of jobs.
    fn claims(&self, worker: usize, state: &State, actions: &mut Vec<Action>) {
        let workflow = &self.functions.workflow;
        for position in workflow.positions().filter(|position| state.db.step(*position).ready_rows > 0) {
            if workflow.runs_as_job(position) {
                // A late response looks like one whose job is not enqueued yet.
                let deliveries = [Delivery::InTime, Delivery::Lost];
                actions.extend(deliveries.map(|delivery| Action::Dispatch { worker, position, delivery }));
            } else {
                let deliveries = [Delivery::InTime, Delivery::Late, Delivery::Lost];
                actions.extend(deliveries.map(|delivery| Action::Claim { worker, position, delivery }));
            }
        }
        for job in 0..state.jobs.len() {
            let adopt = |delivery, again| Action::Adopt { worker, job, delivery, again };
            actions.extend([false, true].map(|again| adopt(Delivery::InTime, again)));
            actions.extend([adopt(Delivery::Late, false), adopt(Delivery::Lost, true)]);
        }
    }

    /// Adds a finish with every demand that can be met: children that may become ready, and steps that are or may be
    /// ready.
    fn finishes(&self, worker: usize, batch: Batch, state: &State, actions: &mut Vec<Action>) {
        let workflow = &self.functions.workflow;
        let completed = batch.outcomes().filter(|(_, outcome)| *outcome == Outcome::Completed);
        let positions = completed.filter_map(|(token, _)| state.workers[worker].lease(token));
        let children: Vec<_> = positions.flat_map(|lease| workflow.children(lease.claim.position)).collect();
        let can_fill = |position: &Position| state.db.step(*position).ready_rows > 0 || children.contains(position);
        let fills = || std::iter::once(None).chain(workflow.positions().filter(can_fill).map(Some));
        for delivery in [Delivery::InTime, Delivery::Late, Delivery::Lost] {
            for handed_over in 0..=children.len() as u8 {
                let demands = fills().map(|filled_with| Demand { handed_over, filled_with });
                actions.extend(demands.map(|demand| Action::Finish { worker, batch, demand, delivery }));
            }
        }
    }

    /// The state after an action; `None` if it is impossible or changes nothing.
    pub fn apply(&self, state: &State, action: &Action) -> Option<State> {
        let disturbs = self.fairness(state, action) == Fairness::Disturbance;
        let disturbances_left = state.disturbances_left.checked_sub(u8::from(disturbs))?;
        let mut next = State { disturbances_left, ..state.clone() };
        self.act(&mut next, action)?;
        let stays = next.db == state.db && next.workers == state.workers && next.late == state.late;
        (!stays || next.jobs != state.jobs || next.earlier != state.earlier).then_some(next)
    }

    fn act(&self, State { db, workers, late, jobs, earlier, .. }: &mut State, action: &Action) -> Option<()> {
        let functions = &self.functions;
        let any_up = workers.iter().any(|worker| worker.up);
        match *action {
            Action::Claim { worker, position, delivery } => self.claim(db, &mut workers[worker], position, delivery)?,
            Action::Start { worker, token } => {
                workers[worker].lease_mut(token)?.stage = Stage::Running;
                db.begin(token);
            }
            Action::Finish { worker, batch, demand, delivery } => {
                self.finish(db, &mut workers[worker], batch, demand, delivery)?;
            }
            Action::Receive { worker, response } => {
                let response = workers[worker].responses.remove(response);
                self.deliver(db, &mut workers[worker], response, Delivery::InTime);
            }
            Action::Miss { worker, response } => drop(workers[worker].responses.remove(response)),
            Action::Delay { worker, token, outcome } => late.push(workers[worker].end_attempt(token, outcome)?),
            Action::Arrive { late: number } => self.finish_late(db, late.remove(number))?,
            Action::SetAside { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Returning,
            Action::Misplace { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Unhandled,
            Action::Interrupt { worker, token } => workers[worker].lease_mut(token)?.stage = Stage::Interrupted,
            Action::Return { worker, token, delivery } => self.release(db, &mut workers[worker], token, delivery)?,
            Action::Dispatch { worker, position, delivery } => {
                self.dispatch(db, &mut workers[worker], position, delivery)?;
            }
            Action::Enqueue { worker } => enqueue(&mut workers[worker], jobs)?,
            Action::Confirm { worker, delivery } => self.confirm(db, &mut workers[worker], delivery)?,
            Action::Refuse { worker, delivery } => self.refuse(db, &mut workers[worker], delivery)?,
            Action::LoseJob { job } => drop(jobs.remove(job)),
            Action::Adopt { worker, job, delivery, again } => {
                let job = if again { jobs[job] } else { jobs.remove(job) };
                self.adopt(db, &mut workers[worker], job, delivery)?;
            }
            Action::Heartbeat { worker, delivery } => self.send_heartbeat(db, &mut workers[worker], delivery)?,
            Action::Drop { worker, token } => {
                (!workers[worker].is_delivering(token)).then(|| workers[worker].forget(token))?;
            }
            Action::GiveBack { token } => self.return_unknown_claim(db, workers, token)?,
            Action::Lose { token } => any_up.then(|| self.lose(db, workers, token))??,
            Action::GiveUp { process } => any_up.then(|| functions.give_up(db, process))??,
            Action::Due { position } => any_up.then(|| functions.due(db, position))??,
            Action::Silence { process } => {
                db.processes.iter_mut().find(|listed| listed.id == process)?.sign = Sign::Silent;
            }
            Action::Crash { worker } => workers[worker].end(),
            Action::Drain { worker } => workers[worker].drain(),
            Action::Leave { worker } => self.leave(db, &mut workers[worker])?,
            Action::Boot { worker } => self.boot(db, workers, worker)?,
            Action::Cancel => functions.cancel_task(db)?,
            Action::Resolve { position } => functions.override_step(db, position)?,
            Action::Reset { position } => functions.restart_step(db, position)?,
            Action::Remember => *earlier = self.remember(db),
            Action::GoBack { shows_it } => go_back(db, earlier, shows_it)?,
            Action::ClockJump => db.jump_clock(),
        }
        Some(())
    }

    fn claim(&self, db: &mut Database, worker: &mut Worker, position: Position, delivery: Delivery) -> Option<()> {
        // A last statement of a worker that has ended may arrive late; its response is lost.
        if worker.draining || !worker.up && delivery != Delivery::Lost {
            return None;
        }
        let claim = self.functions.claim_steps(db, worker.sender(), position, true)?;
        self.deliver(db, worker, Response { delivered: Vec::new(), claims: vec![claim] }, delivery);
        Some(())
    }

    fn dispatch(&self, db: &mut Database, worker: &mut Worker, position: Position, delivery: Delivery) -> Option<()> {
        if worker.draining || worker.dispatching.is_some() || !worker.up && delivery != Delivery::Lost {
            return None;
        }
        let claim = self.functions.dispatch_steps(db, worker.sender(), position)?;
        if delivery == Delivery::InTime {
            worker.dispatching = Some(Dispatching { claim, is_enqueued: false });
        }
        Some(())
    }

    fn confirm(&self, db: &mut Database, worker: &mut Worker, delivery: Delivery) -> Option<()> {
        let Dispatching { claim, .. } = worker.dispatching.take()?;
        if delivery == Delivery::InTime {
            self.functions.confirm_dispatch(db, claim);
        }
        Some(())
    }

    fn refuse(&self, db: &mut Database, worker: &mut Worker, delivery: Delivery) -> Option<()> {
        let Dispatching { claim, .. } = worker.dispatching.take()?;
        let held = self.functions.held_claim(db, claim.process, claim);
        if let Some(claim) = held.filter(|_| delivery == Delivery::InTime) {
            self.functions.release_steps(db, claim.process, claim, true, Record::Omitted);
        }
        Some(())
    }

    fn adopt(&self, db: &mut Database, worker: &mut Worker, job: Job, delivery: Delivery) -> Option<()> {
        if worker.draining || !worker.up && delivery != Delivery::Lost {
            return None;
        }
        let Some(claim) = self.functions.adopt_claim(db, worker.sender(), job) else {
            return (delivery == Delivery::InTime).then_some(());
        };
        self.deliver(db, worker, Response { delivered: Vec::new(), claims: vec![claim] }, delivery);
        Some(())
    }

    fn finish(
        &self,
        db: &mut Database,
        worker: &mut Worker,
        batch: Batch,
        demand: Demand,
        delivery: Delivery,
    ) -> Option<()> {
        if worker.draining && demand != Demand::NONE {
            return None;
        }
        let ended = batch.outcomes().map(|(token, outcome)| worker.end_attempt(token, outcome));
        let outcomes: Vec<_> = ended.collect::<Option<_>>()?;
        let claims = self.functions.finish_steps(db, worker.sender(), &outcomes, demand)?;
        let delivered = batch.outcomes().map(|(token, _)| token).collect();
        self.deliver(db, worker, Response { delivered, claims }, delivery);
        Some(())
    }

    fn finish_late(&self, db: &mut Database, (claim, outcome): (Claim, Outcome)) -> Option<()> {
        let sender = Sender { process: claim.process, owner: claim.owner };
        self.functions.finish_steps(db, sender, &[(claim, outcome)], Demand::NONE).map(drop)
    }

    fn deliver(&self, db: &mut Database, worker: &mut Worker, response: Response, delivery: Delivery) {
        let replaces = self.functions.mutation == Some(Mutation::LeaseIsReplaced);
        match delivery {
            Delivery::InTime => worker.receive(response, replaces).into_iter().for_each(|token| db.begin(token)),
            Delivery::Late => worker.responses.push(response),
            Delivery::Lost | Delivery::Unsent => {}
        }
    }

    fn release(&self, db: &mut Database, worker: &mut Worker, token: Token, delivery: Delivery) -> Option<()> {
        let Lease { claim, stage } = worker.lease(token)?;
        if delivery != Delivery::Unsent {
            let delayed = stage == Stage::Unhandled;
            let hides_start = self.functions.mutation == Some(Mutation::InterruptRecordsNothing);
            let has_begun = stage == Stage::Interrupted && !hides_start;
            let record = if has_begun { Record::Kept } else { Record::Omitted };
            self.functions.release_steps(db, worker.process, claim, delayed, record);
        }
        match delivery {
            Delivery::Lost | Delivery::Unsent if self.functions.mutation == Some(Mutation::ReturnIsForgotten) => {
                worker.lease_mut(token)?.stage = Stage::Stranded;
            }
            // The worker retries.
            Delivery::Lost | Delivery::Unsent => {}
            Delivery::InTime | Delivery::Late => worker.forget(token),
        }
        Some(())
    }

    /// A heartbeat of the claim's process returns the claim.
    fn return_unknown_claim(&self, db: &mut Database, workers: &[Worker], token: Token) -> Option<()> {
        let process = db.claim(token)?.process;
        workers.iter().find(|worker| worker.up && worker.process == process)?;
        self.functions.return_claims(db, token)
    }

    fn lose(&self, db: &mut Database, workers: &[Worker], token: Token) -> Option<()> {
        let claim = db.claim(token)?;
        let clock_jumped = db.process(claim.process).is_some_and(|process| process.sign == Sign::Jumped);
        self.functions.lose(db, token)?;
        let lives = workers.iter().any(|worker| worker.is_registered_as(claim.process));
        db.history.lost_to_clock |= clock_jumped && lives;
        Some(())
    }

    fn leave(&self, db: &mut Database, worker: &mut Worker) -> Option<()> {
        if !worker.draining {
            return None;
        }
        self.functions.deregister_process(db, worker.process);
        worker.end();
        Some(())
    }

    fn boot(&self, db: &mut Database, workers: &mut [Worker], number: usize) -> Option<()> {
        let process = self.functions.register_process(db);
        let owner = (0..GONE).find(|owner| workers.iter().all(|worker| worker.owner != *owner))?;
        workers[number] = Worker::new(Sender { process, owner }, db.is_on_new_timeline);
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

    /// Whether nothing more happens without a disturbance.
    pub fn is_at_rest(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.candidates(state, &mut actions);
        actions.iter().all(|action| self.fairness(state, action) != Fairness::Fair || !self.is_possible(state, action))
    }
}

fn enqueue(worker: &mut Worker, jobs: &mut Vec<Job>) -> Option<()> {
    let dispatching = worker.dispatching.as_mut()?;
    dispatching.is_enqueued = true;
    let job = dispatching.claim.job();
    if !jobs.contains(&job) {
        jobs.push(job);
    }
    Some(())
}

fn go_back(db: &mut Database, earlier: &mut Earlier, shows_it: bool) -> Option<()> {
    let Earlier::Remembered(remembered) = std::mem::replace(earlier, Earlier::Past) else { return None };
    db.return_to(*remembered, shows_it);
    Some(())
}

/// Whether an action that spends no attempt may happen any number of times: the queue runs a job again, or a silent
/// process dispatches a step, which a sweep returns until the process sends a heartbeat.
fn may_repeat(state: &State, action: &Action) -> bool {
    match *action {
        Action::Adopt { again, .. } => again,
        Action::Dispatch { worker, .. } => {
            let process = state.db.process(state.workers[worker].process);
            process.is_some_and(|process| process.sign == Sign::Silent)
        }
        _ => false,
    }
}

/// Whether the job of a dispatcher's claim is in the queue, or will be.
fn may_start(state: &State, claim: Claim) -> bool {
    let is_dispatched = |worker: &Worker| worker.dispatching.is_some_and(|own| own.claim.has_key_of(&claim));
    state.jobs.contains(&claim.job()) || state.workers.iter().any(is_dispatched)
}

/// Whether a worker under the claim's registration knows the claim.
fn is_known(state: &State, claim: Claim) -> bool {
    state.workers.iter().any(|worker| worker.process == claim.process && worker.knows_of(claim))
}

impl Batch {
    pub fn outcomes(self) -> impl Iterator<Item = (Token, Outcome)> {
        std::iter::once(self.first).chain(self.second)
    }
}
