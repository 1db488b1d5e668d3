//! The state of a worker process: its claims, and the responses under way to it.

use crate::database::{Claim, Owner, ProcessId, Sender, Token, GONE};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Completed,
    Failed,
    FailedForGood,
    /// Set by a sweep, not by a handler.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Not started.
    Buffered,
    /// Its handler runs, or has ended without its outcome being sent yet.
    Running,
    /// Its outcome was sent; no response has arrived.
    Ended(Outcome),
    /// Removed from the buffer, to be released.
    Returning,
    /// This process has no handler for it; it will be released with a delay.
    Unhandled,
    /// Its claim was taken away while its handler may still run: the outcome will be dropped.
    Revoked,
    /// The queue has interrupted its handler; it will be released.
    Interrupted,
    /// Removed from the buffer and then forgotten. Only a mutation leads here.
    Stranded,
}

impl Stage {
    /// Whether its handler may have started.
    pub fn has_started(self) -> bool {
        matches!(self, Self::Running | Self::Ended(_) | Self::Unhandled | Self::Interrupted | Self::Revoked)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub claim: Claim,
    pub stage: Stage,
}

/// A step that a dispatcher has claimed, until it confirms or returns the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dispatching {
    pub claim: Claim,
    /// Whether the queue has its job.
    pub is_enqueued: bool,
}

/// The response to a committed statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Response {
    /// The tokens whose outcomes the statement carried.
    pub delivered: Vec<Token>,
    pub claims: Vec<Claim>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    pub owner: Owner,
    /// Its current or last registration.
    pub process: ProcessId,
    /// The id under which it has tried to register again.
    pub next_process: Option<ProcessId>,
    /// Whether it registered on the new timeline.
    pub is_on_new_timeline: bool,
    pub up: bool,
    pub draining: bool,
    pub leases: Vec<Lease>,
    /// A dispatcher claims the next step when it has confirmed this one. Heartbeats do not name it.
    pub dispatching: Option<Dispatching>,
    /// Responses that have not arrived yet.
    pub responses: Vec<Response>,
}

impl Worker {
    pub fn new(Sender { process, owner }: Sender, is_on_new_timeline: bool) -> Self {
        Self {
            owner,
            process,
            next_process: None,
            is_on_new_timeline,
            up: true,
            draining: false,
            leases: Vec::new(),
            dispatching: None,
            responses: Vec::new(),
        }
    }

    /// The sender of its statements.
    pub fn sender(&self) -> Sender {
        Sender { process: self.process, owner: self.owner }
    }

    /// Whether this is its registration, or will be.
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

    /// Whether a response to a statement with this token's outcome is still under way.
    pub fn is_delivering(&self, token: Token) -> bool {
        self.responses.iter().any(|response| response.delivered.contains(&token))
    }

    /// The outcomes that the next statement may carry.
    pub fn outcomes(&self) -> Vec<(Token, Outcome)> {
        let mut outcomes = Vec::new();
        for lease in self.leases.iter().filter(|lease| !self.is_delivering(lease.claim.token)) {
            let of_handler: &[Outcome] = match &lease.stage {
                Stage::Running => &[Outcome::Completed, Outcome::Failed, Outcome::FailedForGood],
                Stage::Ended(outcome) => std::slice::from_ref(outcome),
                Stage::Buffered
                | Stage::Returning
                | Stage::Unhandled
                | Stage::Interrupted
                | Stage::Revoked
                | Stage::Stranded => &[],
            };
            outcomes.extend(of_handler.iter().map(|outcome| (lease.claim.token, *outcome)));
        }
        outcomes
    }

    /// Records the outcome of an attempt, kept until a statement has delivered it.
    pub fn end_attempt(&mut self, token: Token, outcome: Outcome) -> Option<(Claim, Outcome)> {
        let lease = self.lease_mut(token)?;
        lease.stage = Stage::Ended(outcome);
        Some((lease.claim, outcome))
    }

    /// The claims that its heartbeats name.
    pub fn held(&self) -> Vec<Claim> {
        let held = self.leases.iter().filter(|lease| lease.stage != Stage::Revoked);
        held.map(|lease| lease.claim).collect()
    }

    /// Whether it holds or dispatches a claim, or a response with that claim is under way to it.
    pub fn knows_of(&self, claim: Claim) -> bool {
        let mut coming = self.responses.iter().flat_map(|response| &response.claims);
        self.held().iter().any(|held| held.has_key_of(&claim))
            || coming.any(|coming| coming.has_key_of(&claim))
            || self.dispatching.is_some_and(|dispatching| dispatching.claim.has_key_of(&claim))
    }

    pub fn forget(&mut self, token: Token) {
        self.leases.retain(|lease| lease.claim.token != token);
    }

    /// Processes a response. Drops claims of a former registration and claims whose token it already holds: the
    /// database releases what no heartbeat names. Returns the tokens of adopted claims, whose handlers start at once.
    pub fn receive(&mut self, response: Response, replaces: bool) -> Vec<Token> {
        let mut started = Vec::new();
        for token in response.delivered {
            self.forget(token);
        }
        let process = self.process;
        for claim in response.claims.into_iter().filter(|claim| claim.process == process) {
            let stage = match claim.dispatch {
                _ if self.draining => Stage::Returning,
                Some(_) => Stage::Running,
                None => Stage::Buffered,
            };
            match self.lease_mut(claim.token) {
                None => {
                    self.leases.push(Lease { claim, stage });
                    started.extend((stage == Stage::Running).then_some(claim.token));
                }
                // The handler that has started continues under the other claim's key.
                Some(lease) if replaces => lease.claim = Claim { run: lease.claim.run, ..claim },
                Some(_) => {}
            }
        }
        started
    }

    /// Stops claiming, and marks claims that have not started to be released.
    pub fn drain(&mut self) {
        self.draining = true;
        for lease in self.leases.iter_mut().filter(|lease| lease.stage == Stage::Buffered) {
            lease.stage = Stage::Returning;
        }
    }

    /// Drops revoked leases. A handler that has started continues, and its outcome will be dropped.
    pub fn revoke(&mut self, revoked: impl Fn(Claim) -> bool) {
        self.leases.retain(|lease| lease.stage.has_started() || !revoked(lease.claim));
        for lease in &mut self.leases {
            if revoked(lease.claim) {
                lease.stage = Stage::Revoked;
            }
        }
    }

    /// Continues under a new registration.
    pub fn move_to(&mut self, process: ProcessId, is_on_new_timeline: bool) {
        (self.process, self.next_process, self.is_on_new_timeline) = (process, None, is_on_new_timeline);
        for lease in &mut self.leases {
            lease.claim.process = process;
        }
    }

    /// Ends the process; only its last registration remains.
    pub fn end(&mut self) {
        *self = Self { up: false, ..Self::new(Sender { process: self.process, owner: GONE }, self.is_on_new_timeline) };
    }
}
