//! What is committed: the tables, for one task.
//!
//! Numbers may go where the tables' constraints would not let them, so that an invariant tells what went wrong instead of
//! a statement that fails.

use crate::workflow::Workflow;

pub type Position = u8;
pub type Token = u8;
pub type ProcessId = u8;
/// A process from its start to its end, under whatever registrations. No table has it: the invariants compare it.
pub type Owner = u8;

/// What is in a place of a number when there is none, or none that anything else is compared with.
pub const GONE: u8 = u8::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    Pending,
    Complete,
    Error,
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepState {
    Pending,
    Complete,
    Error,
    Cancelled,
    Resolved,
}

impl StepState {
    pub fn is_done(self) -> bool {
        matches!(self, Self::Complete | Self::Resolved)
    }
}

/// tasker_tasks
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    pub state: TaskState,
    pub active: i8,
    pub remaining: i8,
}

/// tasker_workflow_steps, with the step's ready and waiting rows and what tasker_step_attempts says of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step {
    pub state: StepState,
    pub pending_parents: i8,
    pub attempts: u8,
    pub ready_rows: u8,
    pub waiting_rows: u8,
    /// Attempts that were recorded as completed.
    pub successes: u8,
    /// Attempts that were recorded as completed, failed or lost since the step was last reset.
    pub spent: u8,
}

/// tasker_claimed_steps
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    pub token: Token,
    pub process: ProcessId,
    pub position: Position,
    pub attempt: u8,
    /// Who got it.
    pub owner: Owner,
    /// Step and attempt that the handler was begun for, whose outcome is brought under this claim's name.
    pub run: (Position, u8),
}

impl Claim {
    /// Whether all that names a claim agrees, whichever process has it. Of one task only, positions stand for tasks as well.
    pub fn is_called(&self, other: &Self) -> bool {
        (self.token, self.position, self.attempt) == (other.token, other.position, other.attempt)
    }
}

/// The last sign of life of a process, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sign {
    /// Younger than it promised.
    Fresh,
    /// It was fresh when the clock leapt, and looks silent.
    Leapt,
    Silent,
}

/// tasker_processes
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    pub id: ProcessId,
    pub sign: Sign,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Database {
    pub task: Task,
    pub steps: Vec<Step>,
    pub claims: Vec<Claim>,
    pub processes: Vec<Process>,
    pub tokens: Numbers,
    pub process_ids: Numbers,
    /// Whether it shows another timeline than in the beginning.
    pub is_on_new_timeline: bool,
    pub history: History,
}

/// Where numbers come from. One that is random is never given again; one from a sequence is, when the database returns to an
/// earlier state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Numbers {
    pub next: u8,
    /// Of a sequence that has gone back: what it gives again, in this order.
    pub again: Vec<u8>,
    /// Of a sequence: what it has given since the state was remembered.
    pub given: Option<Vec<u8>>,
}

impl Numbers {
    pub fn draw(&mut self) -> u8 {
        let number = if self.again.is_empty() { self.next } else { self.again.remove(0) };
        self.next += u8::from(number == self.next);
        if let Some(given) = &mut self.given {
            given.push(number);
        }
        number
    }

    /// As they are after the return: the sequence gives again what it has given since.
    fn returned(self) -> Self {
        Self { next: self.next, again: self.given.unwrap_or_default(), given: None }
    }
}

/// What no column says and the invariants ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct History {
    /// An attempt has been ended by another process than the one that got its claim, or under another token.
    pub ended_by_another: bool,
    /// An attempt has been ended with the outcome of another step's or another attempt's handler.
    pub ended_with_another: bool,
    /// A process that lives, and was not silent, has lost an attempt because of a clock that leapt.
    pub lost_to_clock: bool,
    /// Claims whose handler has begun.
    pub begun: Vec<Token>,
    /// Claims that were taken away without a row in tasker_step_attempts. Whoever holds one may not begin it any more.
    pub unrecorded: Vec<Token>,
    /// A handler has begun, and no row tells of it.
    pub unexplained: bool,
}

/// Whether tasker_step_attempts gets a row when a claim goes, whatever its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    Kept,
    Omitted,
}

impl Database {
    /// As create_tasks leaves it; with `delayed`, the roots wait for their time.
    pub fn with_task(workflow: &Workflow, delayed: bool) -> Self {
        let steps: Vec<_> = workflow
            .positions()
            .map(|position| {
                let pending_parents = workflow.parents(position).len() as i8;
                let root = u8::from(pending_parents == 0);
                Step {
                    state: StepState::Pending,
                    pending_parents,
                    attempts: 0,
                    ready_rows: if delayed { 0 } else { root },
                    waiting_rows: if delayed { root } else { 0 },
                    successes: 0,
                    spent: 0,
                }
            })
            .collect();
        let active = steps.iter().filter(|step| step.pending_parents == 0).count() as i8;
        let task = Task { state: TaskState::Pending, active, remaining: steps.len() as i8 };
        Self {
            task,
            steps,
            claims: Vec::new(),
            processes: Vec::new(),
            tokens: Numbers::default(),
            process_ids: Numbers::default(),
            is_on_new_timeline: false,
            history: History::default(),
        }
    }

    pub fn step(&self, position: Position) -> &Step {
        &self.steps[usize::from(position)]
    }

    pub fn step_mut(&mut self, position: Position) -> &mut Step {
        &mut self.steps[usize::from(position)]
    }

    pub fn claim(&self, token: Token) -> Option<Claim> {
        self.claims.iter().find(|claim| claim.token == token).copied()
    }

    pub fn process(&self, id: ProcessId) -> Option<Process> {
        self.processes.iter().find(|process| process.id == id).copied()
    }

    pub fn knows(&self, id: ProcessId) -> bool {
        self.process(id).is_some()
    }

    /// Ready, claimed and waiting rows of a step.
    pub fn live_rows(&self, position: Position) -> usize {
        let step = self.step(position);
        let claims = self.claims.iter().filter(|claim| claim.position == position).count();
        usize::from(step.ready_rows + step.waiting_rows) + claims
    }

    /// Takes claims away and answers them.
    pub fn take_claims(&mut self, record: Record, taken: impl Fn(&Claim) -> bool) -> Vec<Claim> {
        let (taken, kept): (Vec<Claim>, _) = self.claims.drain(..).partition(taken);
        self.claims = kept;
        for claim in &taken {
            self.history.end(claim.token, record);
        }
        taken
    }

    /// Returns to an earlier state. What is random goes on, and what handlers have begun has begun.
    pub fn return_to(&mut self, earlier: Self, shows_it: bool) {
        let lost = std::mem::replace(self, earlier);
        self.tokens = lost.tokens.returned();
        self.process_ids = lost.process_ids.returned();
        self.is_on_new_timeline = shows_it;
        for token in lost.history.begun {
            if self.claim(token).is_some() && !self.history.begun.contains(&token) {
                self.history.begun.push(token);
            }
        }
    }

    /// No statement: a process begins the handler of a claim that it holds, or believes to hold.
    pub fn begin(&mut self, token: Token) {
        if self.claim(token).is_some() {
            self.history.begun.push(token);
        } else {
            self.history.unexplained |= self.history.unrecorded.contains(&token);
        }
    }
}

impl History {
    fn end(&mut self, token: Token, record: Record) {
        let has_begun = self.begun.contains(&token);
        self.begun.retain(|begun| *begun != token);
        if record == Record::Omitted {
            self.unexplained |= has_begun;
            self.unrecorded.push(token);
        }
    }
}
