//! The committed tables, for one task.
//!
//! The model does not enforce the tables' constraints: a wrong number shows up as a broken invariant, not as a failed
//! statement.

use crate::workflow::{Position, Workflow};

pub type Token = u8;
pub type ProcessId = u8;
/// A process from its start to its end, across all its registrations. No table stores it; the invariants compare it.
pub type Owner = u8;

/// Replaces a number that does not exist, or that is never compared with another.
pub const GONE: u8 = u8::MAX;

/// Identifies the client of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    pub process: ProcessId,
    pub owner: Owner,
}

impl Sender {
    /// The sender of sweeps and of operators' statements.
    pub const NO_PROCESS: Self = Self { process: GONE - 1, owner: GONE };
}

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

/// tasker_workflow_steps, with the step's ready and waiting rows and a summary of its tasker_step_attempts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step {
    pub state: StepState,
    pub pending_parents: i8,
    pub attempts: u8,
    pub ready_rows: u8,
    pub waiting_rows: u8,
    /// Attempts recorded as completed.
    pub successes: u8,
    /// Attempts recorded as completed, failed or lost since the step was last reset.
    pub spent: u8,
}

/// How far a step is that runs as a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dispatch {
    /// A dispatcher has claimed it.
    Claimed,
    /// The dispatcher has confirmed that its job is enqueued.
    Enqueued,
    /// The process that runs the job has adopted it.
    Started,
}

/// tasker_claimed_steps
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    pub token: Token,
    pub process: ProcessId,
    pub position: Position,
    pub attempt: u8,
    /// The process that received it.
    pub owner: Owner,
    /// The step and attempt for which the handler was started whose outcome will be sent under this claim.
    pub run: (Position, u8),
    /// Absent for workers' claims.
    pub dispatch: Option<Dispatch>,
}

/// A job in the application's queue. It carries the key of its dispatcher's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Job {
    pub token: Token,
    pub position: Position,
    pub attempt: u8,
}

impl Claim {
    pub fn job(&self) -> Job {
        Job { token: self.token, position: self.position, attempt: self.attempt }
    }

    /// Whether it is a dispatcher's claim, under which nothing runs.
    pub fn is_dispatchers(&self) -> bool {
        matches!(self.dispatch, Some(Dispatch::Claimed | Dispatch::Enqueued))
    }

    /// Whether it outlives its dispatcher.
    pub fn is_enqueued(&self) -> bool {
        self.dispatch == Some(Dispatch::Enqueued)
    }

    /// Whether both have the same key, in whichever process. With one task, the position also identifies the task.
    pub fn has_key_of(&self, other: &Self) -> bool {
        (self.token, self.position, self.attempt) == (other.token, other.position, other.attempt)
    }
}

/// The age of a process's last heartbeat, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sign {
    /// Within the process's heartbeat timeout.
    Fresh,
    /// It was fresh when the clock jumped, and now appears to be silent.
    Jumped,
    /// Older than the timeout.
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
    /// Whether it reports another timeline than at the start.
    pub is_on_new_timeline: bool,
    pub history: History,
}

/// Draws numbers. A random number is never drawn again; a sequence repeats its numbers after the database has returned
/// to an earlier state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Numbers {
    pub next: u8,
    /// The numbers that a sequence will repeat after a return, in this order.
    pub again: Vec<u8>,
    /// The numbers that a sequence has drawn since the state was remembered; `None` for random numbers.
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

    /// The numbers after a return: the sequence repeats what it has drawn since.
    fn returned(self) -> Self {
        Self { next: self.next, again: self.given.unwrap_or_default(), given: None }
    }
}

/// Facts that the invariants need and no column stores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct History {
    /// An attempt was ended by a process other than the one that received its claim, or under another token.
    pub ended_by_another: bool,
    /// An attempt was ended with the outcome of another step's or another attempt's handler.
    pub ended_with_another: bool,
    /// A live process that was not silent has lost an attempt because the clock jumped.
    pub lost_to_clock: bool,
    /// An attempt was lost although no process had started its job.
    pub lost_before_start: bool,
    /// A job has started under a claim other than the one for which it was enqueued.
    pub started_under_another: bool,
    /// Claims whose handler has started.
    pub begun: Vec<Token>,
    /// Claims removed without a row in tasker_step_attempts. A holder of one must not start it any more.
    pub unrecorded: Vec<Token>,
    /// A handler has started without any row that records it.
    pub unexplained: bool,
}

/// Whether the removal of a claim adds a row to tasker_step_attempts, whatever its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    Kept,
    Omitted,
}

impl Database {
    /// The tables after create_tasks; with `delayed`, the roots wait for their start time.
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

    /// Removes claims and returns them.
    pub fn take_claims(&mut self, record: Record, taken: impl Fn(&Claim) -> bool) -> Vec<Claim> {
        let (taken, kept): (Vec<Claim>, _) = self.claims.drain(..).partition(taken);
        self.claims = kept;
        for claim in &taken {
            self.history.end(claim.token, record);
        }
        taken
    }

    /// Returns to an earlier state. Random numbers continue, and handlers that have started remain started.
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

    pub fn jump_clock(&mut self) {
        for process in self.processes.iter_mut().filter(|process| process.sign == Sign::Fresh) {
            process.sign = Sign::Jumped;
        }
    }

    /// Not a statement: a process starts the handler of a claim that it holds, or believes that it holds.
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
