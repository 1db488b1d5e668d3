//! What a worker process knows: its claims, and the answers that are on their way to it.

use crate::database::{Claim, Owner, ProcessId, Token, GONE};
use crate::functions::Sender;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Completed,
    Failed,
    FailedForGood,
    /// Told by sweep, not by a handler.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// At hand, not started.
    Buffered,
    /// Its handler runs, or has ended, and its outcome has not been sent.
    Running,
    /// Its outcome has been sent, and no answer has come.
    Ended(Outcome),
    /// Off the buffer, to be given back.
    Returning,
    /// Has no handler here, to be given back for a while.
    Unhandled,
    /// Its claim has been taken away, and its handler may run still: its outcome will be dropped.
    Revoked,
    /// Off the buffer, and nobody will do anything about it. Only a flaw leads here.
    Stranded,
}

impl Stage {
    /// Whether a handler may have seen it.
    pub fn has_started(self) -> bool {
        matches!(self, Self::Running | Self::Ended(_) | Self::Unhandled | Self::Revoked)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub claim: Claim,
    pub stage: Stage,
}

/// The answer to a statement that has been committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Response {
    /// The outcomes that the statement brought.
    pub delivered: Vec<Token>,
    pub claims: Vec<Claim>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    pub owner: Owner,
    /// Under which the database knows it, or knew it.
    pub process: ProcessId,
    /// Under which it has tried to register anew.
    pub next_process: Option<ProcessId>,
    /// Whether the timeline that it registered on is the new one.
    pub is_on_new_timeline: bool,
    pub up: bool,
    pub draining: bool,
    pub leases: Vec<Lease>,
    /// Not arrived yet.
    pub responses: Vec<Response>,
}

impl Worker {
    pub fn new(Sender { process, owner }: Sender, is_on_new_timeline: bool) -> Self {
        let (leases, responses) = (Vec::new(), Vec::new());
        Self { owner, process, next_process: None, is_on_new_timeline, up: true, draining: false, leases, responses }
    }

    /// As it signs its statements.
    pub fn sender(&self) -> Sender {
        Sender { process: self.process, owner: self.owner }
    }

    /// Whether it goes under this registration, or is about to.
    pub fn is_registered_as(&self, process: ProcessId) -> bool {
        self.up && (self.process == process || self.next_process == Some(process))
    }

    pub fn lease(&self, token: Token) -> Option<Lease> {
        self.leases.iter().find(|lease| lease.claim.token == token).copied()
    }

    pub fn lease_mut(&mut self, token: Token) -> Option<&mut Lease> {
        self.leases.iter_mut().find(|lease| lease.claim.token == token)
    }

    pub fn runs(&self, token: Token) -> bool {
        self.lease(token).is_some_and(|lease| lease.stage == Stage::Running)
    }

    /// Whether a statement with this token's outcome has not been answered.
    pub fn is_delivering(&self, token: Token) -> bool {
        self.responses.iter().any(|response| response.delivered.contains(&token))
    }

    /// Outcomes that a next statement may bring.
    pub fn outcomes(&self) -> Vec<(Token, Outcome)> {
        let mut outcomes = Vec::new();
        for lease in self.leases.iter().filter(|lease| !self.is_delivering(lease.claim.token)) {
            let of_handler: &[Outcome] = match &lease.stage {
                Stage::Running => &[Outcome::Completed, Outcome::Failed, Outcome::FailedForGood],
                Stage::Ended(outcome) => std::slice::from_ref(outcome),
                Stage::Buffered | Stage::Returning | Stage::Unhandled | Stage::Revoked | Stage::Stranded => &[],
            };
            outcomes.extend(of_handler.iter().map(|outcome| (lease.claim.token, *outcome)));
        }
        outcomes
    }

    /// Notes the outcome of an attempt, which it keeps until a statement has delivered it.
    pub fn end_attempt(&mut self, token: Token, outcome: Outcome) -> Option<(Claim, Outcome)> {
        let lease = self.lease_mut(token)?;
        lease.stage = Stage::Ended(outcome);
        Some((lease.claim, outcome))
    }

    /// What its heartbeats name.
    pub fn held(&self) -> Vec<Claim> {
        let held = self.leases.iter().filter(|lease| lease.stage != Stage::Revoked);
        held.map(|lease| lease.claim).collect()
    }

    /// Whether it answers for a claim, or an answer is about to tell it.
    pub fn knows_of(&self, claim: Claim) -> bool {
        let mut coming = self.responses.iter().flat_map(|response| &response.claims);
        self.held().iter().any(|held| held.is_called(&claim)) || coming.any(|coming| coming.is_called(&claim))
    }

    pub fn forget(&mut self, token: Token) {
        self.leases.retain(|lease| lease.claim.token != token);
    }

    /// Takes an answer in. Claims of a former registration are dropped, and those whose token it has already: the database
    /// gives back what no heartbeat names.
    pub fn receive(&mut self, response: Response, replaces: bool) {
        for token in response.delivered {
            self.forget(token);
        }
        let stage = if self.draining { Stage::Returning } else { Stage::Buffered };
        let process = self.process;
        for claim in response.claims.into_iter().filter(|claim| claim.process == process) {
            match self.lease_mut(claim.token) {
                None => self.leases.push(Lease { claim, stage }),
                // The handler that has begun goes on under the other claim's name.
                Some(lease) if replaces => lease.claim = Claim { run: lease.claim.run, ..claim },
                Some(_) => {}
            }
        }
    }

    /// Takes nothing more, and gives back what has not been started.
    pub fn drain(&mut self) {
        self.draining = true;
        for lease in self.leases.iter_mut().filter(|lease| lease.stage == Stage::Buffered) {
            lease.stage = Stage::Returning;
        }
    }

    /// Drops leases that have been taken away; a handler that has begun goes on, and its outcome will be dropped.
    pub fn revoke(&mut self, revoked: impl Fn(Claim) -> bool) {
        self.leases.retain(|lease| lease.stage.has_started() || !revoked(lease.claim));
        for lease in &mut self.leases {
            if revoked(lease.claim) {
                lease.stage = Stage::Revoked;
            }
        }
    }

    /// Goes on under a new registration.
    pub fn move_to(&mut self, process: ProcessId, is_on_new_timeline: bool) {
        (self.process, self.next_process, self.is_on_new_timeline) = (process, None, is_on_new_timeline);
        for lease in &mut self.leases {
            lease.claim.process = process;
        }
    }

    /// What is left when the process has ended.
    pub fn end(&mut self) {
        *self = Self { up: false, ..Self::new(Sender { process: self.process, owner: GONE }, self.is_on_new_timeline) };
    }
}
