//! What is committed: the tables, for one task.
//!
//! Numbers may go where the tables' constraints would not let them, so that an invariant tells what went wrong instead of
//! a statement that fails.

use crate::workflow::Workflow;

pub type Position = u8;
pub type Token = u8;
pub type ProcessId = u8;

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
    pub unmet: i8,
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
}

/// tasker_processes
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    pub id: ProcessId,
    /// Whether its last sign of life is younger than it promised.
    pub fresh: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Database {
    pub task: Task,
    pub steps: Vec<Step>,
    pub claims: Vec<Claim>,
    pub processes: Vec<Process>,
    pub next_token: Token,
    pub next_process: ProcessId,
    pub history: History,
}

/// What no column says and the invariants ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct History {
    /// An attempt has been ended by somebody who did not hold its claim.
    pub ended_by_another: bool,
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
                let unmet = workflow.parents(position).len() as i8;
                let root = u8::from(unmet == 0);
                Step {
                    state: StepState::Pending,
                    unmet,
                    attempts: 0,
                    ready_rows: if delayed { 0 } else { root },
                    waiting_rows: if delayed { root } else { 0 },
                    successes: 0,
                    spent: 0,
                }
            })
            .collect();
        let active = steps.iter().filter(|step| step.unmet == 0).count() as i8;
        let task = Task { state: TaskState::Pending, active, remaining: steps.len() as i8 };
        Self {
            task,
            steps,
            claims: Vec::new(),
            processes: Vec::new(),
            next_token: 0,
            next_process: 0,
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
