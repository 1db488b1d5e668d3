//! The functions of `db/functions` on the modelled tables. Each is one transaction.
//!
//! `None` is an error. The caller rolls back by discarding the database that it has passed.

use crate::database::{
    Claim, Database, Dispatch, Job, Process, ProcessId, Record, Sender, Sign, StepState, TaskState, Token, GONE,
};
use crate::mutation::Mutation;
use crate::worker::Outcome;
use crate::workflow::{Position, Workflow};

#[derive(Debug, Clone, Copy)]
pub struct Functions {
    pub workflow: Workflow,
    /// Maximum number of steps that are claimed by dispatchers or run as jobs.
    pub in_flight: usize,
    pub mutation: Option<Mutation>,
}

/// How a process fills its free slots when it finishes steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Demand {
    /// How many of the children that become ready are handed over to it; the others become ready for any process.
    pub handed_over: u8,
    /// The ready step that it claims as well.
    pub filled_with: Option<Position>,
}

impl Demand {
    pub const NONE: Self = Self { handed_over: 0, filled_with: None };
}

impl Functions {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Claims whose handlers may have started are recorded when they are removed, unless the mutation omits it.
    fn record_unless(&self, mutation: Mutation) -> Record {
        if self.has(mutation) {
            Record::Omitted
        } else {
            Record::Kept
        }
    }

    pub fn register_process(&self, db: &mut Database) -> ProcessId {
        let id = db.process_ids.draw();
        self.enter(db, id);
        id
    }

    fn enter(&self, db: &mut Database, id: ProcessId) {
        if !db.knows(id) {
            db.processes.push(Process { id, sign: Sign::Fresh });
        }
    }

    /// register_process with a former registration, under an id drawn for it: takes over the claims that both sides
    /// hold, and releases the others.
    pub fn register_again(&self, db: &mut Database, former: ProcessId, id: ProcessId, held: &[Claim]) {
        self.enter(db, id);
        db.processes.retain(|listed| listed.id != former);
        let taken: Vec<_> = held.iter().filter_map(|given| self.held_claim(db, former, *given)).collect();
        for claim in &mut db.claims {
            if taken.contains(claim) {
                claim.process = id;
            }
        }
        for claim in db.take_claims(Record::Kept, |claim| claim.process == former && !claim.is_enqueued()) {
            db.step_mut(claim.position).ready_rows += 1;
        }
    }

    /// held_claims, for heartbeats and registrations
    pub fn held_claim(&self, db: &Database, process: ProcessId, given: Claim) -> Option<Claim> {
        let by_token = self.has(Mutation::RegisterByToken);
        let mut claims = db.claims.iter();
        // A process that is gone has no claim (canonical.rs).
        let is_holder = |claim: &Claim| process != GONE && claim.process == process;
        let is_held = |claim: &&Claim| is_holder(claim) && claim.has_key_of(&given);
        claims.find(|claim| if by_token { claim.token == given.token } else { is_held(claim) }).copied()
    }

    pub fn deregister_process(&self, db: &mut Database, process: ProcessId) {
        db.processes.retain(|listed| listed.id != process);
        let record = self.record_unless(Mutation::LeaveRecordsNothing);
        for claim in db.take_claims(record, |claim| claim.process == process && !claim.is_enqueued()) {
            db.step_mut(claim.position).ready_rows += 1;
        }
    }

    /// With `admitted`, the process was registered when the function checked.
    pub fn claim_steps(&self, db: &mut Database, sender: Sender, position: Position, admitted: bool) -> Option<Claim> {
        if self.workflow.runs_as_job(position) {
            return None;
        }
        let step = db.step_mut(position);
        step.ready_rows = step.ready_rows.checked_sub(1)?;
        (admitted || db.knows(sender.process)).then(|| self.insert_claim(db, sender, position, None))
    }

    fn insert_claim(
        &self,
        db: &mut Database,
        Sender { process, owner }: Sender,
        position: Position,
        dispatch: Option<Dispatch>,
    ) -> Claim {
        let (token, attempt) = (db.tokens.draw(), db.step(position).attempts + 1);
        let claim = Claim { token, process, position, attempt, owner, run: (position, attempt), dispatch };
        db.claims.push(claim);
        claim
    }

    pub fn dispatch_steps(&self, db: &mut Database, sender: Sender, position: Position) -> Option<Claim> {
        let is_counted = |claim: &&Claim| match self.mutation {
            Some(Mutation::StartedJobsAreNotCounted) => claim.is_dispatchers(),
            _ => claim.dispatch.is_some(),
        };
        let has_room = db.claims.iter().filter(is_counted).count() < self.in_flight;
        let step = db.step_mut(position);
        if !self.workflow.runs_as_job(position) || !has_room {
            return None;
        }
        step.ready_rows = step.ready_rows.checked_sub(1)?;
        Some(self.insert_claim(db, sender, position, Some(Dispatch::Claimed)))
    }

    pub fn confirm_dispatch(&self, db: &mut Database, given: Claim) {
        let held = self.held_claim(db, given.process, given);
        if held.is_none() && self.has(Mutation::ConfirmRevivesClaim) {
            db.claims.push(given);
        }
        for claim in &mut db.claims {
            let is_confirmed = held == Some(*claim) && claim.dispatch == Some(Dispatch::Claimed);
            if is_confirmed {
                claim.dispatch = Some(Dispatch::Enqueued);
            }
        }
    }

    /// Gives the claim of a job to the process that runs it; `None` if the job may not start.
    pub fn adopt_claim(&self, db: &mut Database, sender: Sender, job: Job) -> Option<Claim> {
        if self.has(Mutation::JobStartsTwice) {
            let claim = db.claims.iter_mut().find(|claim| claim.job() == job)?;
            (claim.process, claim.owner) = (sender.process, sender.owner);
            claim.dispatch = Some(Dispatch::Started);
            return Some(*claim);
        }
        let by_step = self.has(Mutation::AdoptByStep);
        let is_jobs = |claim: &Claim| {
            let has_step = (claim.position, claim.attempt) == (job.position, job.attempt);
            claim.is_dispatchers() && if by_step { has_step } else { claim.job() == job }
        };
        // Nothing runs under it, so nothing is recorded.
        let dispatchers = *db.take_claims(Record::Omitted, is_jobs).first()?;
        db.history.started_under_another |= dispatchers.token != job.token;
        let dispatch = if self.has(Mutation::AdoptedStaysEnqueued) { Dispatch::Enqueued } else { Dispatch::Started };
        let process = if self.has(Mutation::AdoptedStaysDispatchers) { dispatchers.process } else { sender.process };
        Some(self.insert_claim(db, Sender { process, ..sender }, dispatchers.position, Some(dispatch)))
    }

    /// Returns the claims that the process receives in the same transaction.
    pub fn finish_steps(
        &self,
        db: &mut Database,
        sender: Sender,
        outcomes: &[(Claim, Outcome)],
        demand: Demand,
    ) -> Option<Vec<Claim>> {
        let mut ended_steps = 0;
        let mut done = Vec::new();
        for (given, outcome) in outcomes {
            let Some(claim) = self.take_claim(db, sender, *given) else {
                if self.has(Mutation::StaleOutcomeSettles) && *outcome == Outcome::Completed {
                    done.push(given.position);
                }
                continue;
            };
            db.history.ended_by_another |= (claim.token, claim.owner) != (given.token, given.owner);
            db.history.ended_with_another |= (claim.position, claim.attempt) != given.run;
            match self.end_attempt(db, claim, *outcome) {
                StepState::Pending => {}
                StepState::Complete => {
                    ended_steps += 1;
                    done.push(claim.position);
                }
                StepState::Error | StepState::Cancelled | StepState::Resolved => ended_steps += 1,
            }
        }
        self.advance_tasks(db, sender, ended_steps, &done, demand)
    }

    /// The claim is the right to finish.
    fn take_claim(&self, db: &mut Database, sender: Sender, given: Claim) -> Option<Claim> {
        let is_sweep = sender == Sender::NO_PROCESS;
        let taken = db.take_claims(Record::Kept, |claim| match self.mutation {
            Some(Mutation::FinishByStep | Mutation::FinishWithoutClaim) => claim.position == given.position,
            Some(Mutation::TokenPerAttempt) => (claim.position, claim.attempt) == (given.position, given.attempt),
            Some(Mutation::TokenPerProcess) => (claim.position, claim.process) == (given.position, given.process),
            Some(Mutation::TokenAlone) => claim.token == given.token,
            Some(Mutation::FinishForAnyProcess) => claim.has_key_of(&given),
            // A sender that is gone has no claim (canonical.rs).
            _ => {
                let is_senders = sender.process != GONE && claim.process == sender.process;
                claim.has_key_of(&given) && (is_sweep || is_senders)
            }
        });
        let without = self.has(Mutation::FinishWithoutClaim).then_some(given);
        taken.first().copied().or(without)
    }

    /// Records the attempt and decides the next state of its step.
    fn end_attempt(&self, db: &mut Database, claim: Claim, outcome: Outcome) -> StepState {
        db.history.lost_before_start |= outcome == Outcome::Lost && claim.is_dispatchers();
        let state = match outcome {
            Outcome::Completed => StepState::Complete,
            Outcome::Failed | Outcome::Lost if claim.attempt < self.workflow.max_attempts => StepState::Pending,
            Outcome::Failed | Outcome::Lost | Outcome::FailedForGood => StepState::Error,
        };
        let free = self.has(Mutation::LostAttemptIsFree) && outcome == Outcome::Lost
            || self.has(Mutation::FailedAttemptIsFree) && outcome == Outcome::Failed;
        let step = db.step_mut(claim.position);
        // Capped at one above the maximum: that already breaks the invariant, and it keeps a mutated protocol's states
        // finite.
        step.spent = (step.spent + 1).min(self.workflow.max_attempts + 1);
        step.successes += u8::from(outcome == Outcome::Completed);
        step.attempts = if free { step.attempts } else { claim.attempt };
        step.state = state;
        step.waiting_rows += u8::from(state == StepState::Pending);
        state
    }

    /// `ended_steps`: number of steps that are no longer active. `done`: steps whose children no longer wait for them.
    fn advance_tasks(
        &self,
        db: &mut Database,
        sender: Sender,
        ended_steps: i8,
        done: &[Position],
        demand: Demand,
    ) -> Option<Vec<Claim>> {
        let mut ready = Vec::new();
        for child in self.workflow.positions() {
            let met = done.iter().filter(|parent| self.workflow.parents(child).contains(parent)).count() as i8;
            let step = db.step_mut(child);
            if met > 0 && step.state == StepState::Pending {
                step.pending_parents -= met;
                if step.pending_parents == 0 || self.has(Mutation::ReadyWithAnyParent) {
                    ready.push(child);
                }
            }
        }

        let handed_over = usize::from(demand.handed_over);
        let runs_as_job = |child: &Position| self.workflow.runs_as_job(*child);
        let eligible = ready.iter().filter(|child| !runs_as_job(child)).count();
        if handed_over > eligible || handed_over > 0 && !db.knows(sender.process) {
            return None;
        }
        let mut claims = Vec::new();
        for child in &ready {
            let is_handed_over = claims.len() < handed_over && !runs_as_job(child);
            if is_handed_over {
                claims.push(self.insert_claim(db, sender, *child, None));
            }
            if !is_handed_over || self.has(Mutation::HandOverAndLeave) {
                db.step_mut(*child).ready_rows += 1;
            }
        }
        if let Some(position) = demand.filled_with {
            claims.push(self.claim_steps(db, sender, position, false)?);
        }

        if ended_steps == 0 && done.is_empty() && ready.is_empty() {
            return Some(claims);
        }
        let task = &mut db.task;
        task.active += ready.len() as i8 - ended_steps;
        task.remaining -= done.len() as i8;
        if self.has(Mutation::FailureEndsNoTask) && done.is_empty() {
            return Some(claims);
        }
        task.state = match (task.active, task.remaining) {
            (1.., _) => TaskState::Pending,
            (_, 0) => TaskState::Complete,
            _ => TaskState::Error,
        };
        Some(claims)
    }

    /// With `delayed` the step waits before it is ready again. `record` is kept if its handler may have started.
    pub fn release_steps(&self, db: &mut Database, process: ProcessId, given: Claim, delayed: bool, record: Record) {
        for claim in db.take_claims(record, |claim| claim.process == process && claim.has_key_of(&given)) {
            let step = db.step_mut(claim.position);
            *(if delayed { &mut step.waiting_rows } else { &mut step.ready_rows }) += 1;
        }
    }

    /// Returns whether the process is registered.
    pub fn heartbeat(&self, db: &mut Database, process: ProcessId) -> bool {
        let listed = db.processes.iter_mut().find(|listed| listed.id == process);
        listed.map(|listed| listed.sign = Sign::Fresh).is_some()
    }

    /// The part of a heartbeat that releases a claim which its list does not name.
    pub fn return_claims(&self, db: &mut Database, token: Token) -> Option<()> {
        let claim = db.claim(token)?;
        let stays = claim.is_enqueued() || self.has(Mutation::HeartbeatKeepsUnknownClaims);
        if stays || !self.heartbeat(db, claim.process) {
            return None;
        }
        self.release_steps(db, claim.process, claim, false, self.record_unless(Mutation::HeartbeatRecordsNothing));
        Some(())
    }

    /// Whether a sweep ends the claim because of its process, whatever its deadline.
    pub fn is_abandoned(&self, db: &Database, claim: Claim) -> bool {
        (!claim.is_enqueued() || self.has(Mutation::EnqueuedDiesWithDispatcher)) && self.is_orphan(db, claim)
    }

    fn is_orphan(&self, db: &Database, claim: Claim) -> bool {
        match db.process(claim.process) {
            Some(process) => self.seems_dead(process),
            None => !self.has(Mutation::SweepOverlooksMissingProcesses),
        }
    }

    fn seems_dead(&self, process: Process) -> bool {
        process.sign == Sign::Silent || self.has(Mutation::SweepTrustsClock) && process.sign == Sign::Jumped
    }

    /// Sweep, first part: a lease ends as a lost attempt, and a claim whose job has not started returns. After a jump of the clock, a process is not judged before it
    /// has had time for a heartbeat.
    pub fn lose(&self, db: &mut Database, token: Token) -> Option<()> {
        let claim = db.claim(token)?;
        let is_judged = |process: Process| process.sign != Sign::Jumped || self.seems_dead(process);
        if !db.process(claim.process).is_none_or(is_judged) {
            return None;
        }
        if claim.is_dispatchers() && !self.has(Mutation::ReturnSpendsAttempt) {
            return self.return_unstarted_claim(db, claim);
        }
        self.finish_steps(db, Sender::NO_PROCESS, &[(claim, Outcome::Lost)], Demand::NONE).map(drop)
    }

    fn return_unstarted_claim(&self, db: &mut Database, claim: Claim) -> Option<()> {
        if self.has(Mutation::UnstartedClaimsStay) {
            return None;
        }
        if self.has(Mutation::EnqueuedDiesWithDispatcher) && claim.is_enqueued() && self.is_orphan(db, claim) {
            db.step_mut(claim.position).ready_rows += 1;
            return Some(());
        }
        self.release_steps(db, claim.process, claim, false, Record::Kept);
        Some(())
    }

    /// Sweep, second part: a silent process is removed, unless claims depend on it.
    pub fn give_up(&self, db: &mut Database, process: ProcessId) -> Option<()> {
        let silent = db.process(process).is_some_and(|listed| self.seems_dead(listed));
        let idle = db.claims.iter().all(|claim| claim.process != process || claim.is_enqueued());
        (silent && idle).then(|| db.processes.retain(|listed| listed.id != process))
    }

    /// Sweep, third part: a waiting step becomes ready.
    pub fn due(&self, db: &mut Database, position: Position) -> Option<()> {
        let step = db.step_mut(position);
        step.waiting_rows = step.waiting_rows.checked_sub(1)?;
        step.ready_rows += 1;
        Some(())
    }

    pub fn cancel_task(&self, db: &mut Database) -> Option<()> {
        if db.task.state != TaskState::Pending {
            return None;
        }
        if !self.has(Mutation::CancelLeavesClaims) {
            db.take_claims(self.record_unless(Mutation::CancelRecordsNothing), |_| true);
        }
        for step in &mut db.steps {
            if !self.has(Mutation::CancelLeavesRows) {
                (step.ready_rows, step.waiting_rows) = (0, 0);
            }
            if step.state == StepState::Pending {
                step.state = StepState::Cancelled;
            }
        }
        db.task.state = TaskState::Cancelled;
        db.task.active = 0;
        Some(())
    }

    /// resolve_step
    pub fn override_step(&self, db: &mut Database, position: Position) -> Option<()> {
        let is_claimed = db.claims.iter().any(|claim| claim.position == position);
        let step = db.step_mut(position);
        let is_live = step.state == StepState::Pending && step.pending_parents == 0;
        if is_claimed && !self.has(Mutation::OverrideIgnoresClaims)
            || !matches!(step.state, StepState::Pending | StepState::Error)
            || !matches!(db.task.state, TaskState::Pending | TaskState::Error)
        {
            return None;
        }
        let step = db.step_mut(position);
        (step.ready_rows, step.waiting_rows) = (0, 0);
        step.state = StepState::Resolved;
        self.advance_tasks(db, Sender::NO_PROCESS, i8::from(is_live), &[position], Demand::NONE).map(drop)
    }

    /// retry_step, of a failed step
    pub fn restart_step(&self, db: &mut Database, position: Position) -> Option<()> {
        let step = db.step_mut(position);
        if step.state != StepState::Error || !matches!(db.task.state, TaskState::Pending | TaskState::Error) {
            return None;
        }
        let step = db.step_mut(position);
        step.state = StepState::Pending;
        (step.attempts, step.spent) = (0, 0);
        step.ready_rows += 1;
        db.task.active += 1;
        db.task.state = TaskState::Pending;
        Some(())
    }
}
