//! What a worker process knows: its claims, and the answers that are on their way to it.

use crate::database::{Claim, ProcessId, Token};

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
    /// Off the buffer, and nobody will do anything about it. Only a flaw leads here.
    Stranded,
}

impl Stage {
    /// Whether a handler may have seen it.
    pub fn has_started(self) -> bool {
        matches!(self, Self::Running | Self::Ended(_) | Self::Unhandled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub claim: Claim,
    pub stage: Stage,
}

/// The answer to a statement that has been committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Answer {
    /// The outcomes that the statement brought.
    pub delivered: Vec<Token>,
    pub claims: Vec<Claim>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    /// Under which the database knows it, or knew it.
    pub process: ProcessId,
    pub up: bool,
    pub draining: bool,
    pub leases: Vec<Lease>,
    /// Not arrived yet.
    pub answers: Vec<Answer>,
}

impl Worker {
    pub fn new(process: ProcessId) -> Self {
        Self { process, up: true, draining: false, leases: Vec::new(), answers: Vec::new() }
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
        self.answers.iter().any(|answer| answer.delivered.contains(&token))
    }

    /// Outcomes that a next statement may bring.
    pub fn outcomes(&self) -> Vec<(Token, Outcome)> {
        let mut outcomes = Vec::new();
        for lease in self.leases.iter().filter(|lease| !self.is_delivering(lease.claim.token)) {
            let of_handler: &[Outcome] = match &lease.stage {
                Stage::Running => &[Outcome::Completed, Outcome::Failed, Outcome::FailedForGood],
                Stage::Ended(outcome) => std::slice::from_ref(outcome),
                Stage::Buffered | Stage::Returning | Stage::Unhandled | Stage::Stranded => &[],
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

    /// Whether it answers for a claim, or an answer is about to tell it.
    pub fn knows_of(&self, token: Token) -> bool {
        let coming = || self.answers.iter().any(|answer| answer.claims.iter().any(|claim| claim.token == token));
        self.lease(token).is_some() || coming()
    }

    pub fn forget(&mut self, token: Token) {
        self.leases.retain(|lease| lease.claim.token != token);
    }

    pub fn receive(&mut self, answer: Answer) {
        for token in answer.delivered {
            self.forget(token);
        }
        let stage = if self.draining { Stage::Returning } else { Stage::Buffered };
        self.leases.extend(answer.claims.into_iter().map(|claim| Lease { claim, stage }));
    }

    /// Takes nothing more, and gives back what has not been started.
    pub fn drain(&mut self) {
        self.draining = true;
        for lease in self.leases.iter_mut().filter(|lease| lease.stage == Stage::Buffered) {
            lease.stage = Stage::Returning;
        }
    }

    /// Drops leases that have been taken away; a handler that has begun goes on, and its outcome will be stale.
    pub fn revoke(&mut self, revoked: impl Fn(Token) -> bool) {
        self.leases.retain(|lease| lease.stage.has_started() || !revoked(lease.claim.token));
    }

    /// What is left when the process has ended.
    pub fn end(&mut self) {
        *self = Self { up: false, ..Self::new(self.process) };
    }
}
