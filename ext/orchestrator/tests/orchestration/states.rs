//! The states of tasks and steps, and every possible transition, as data.
//!
//! Invariant: no other transition is possible. The SQL functions make the transitions, `transitions_test` compares them with
//! these tables, and `docs/states.md` is generated from them. The product does not use them.

use std::fmt;
use std::str::FromStr;

/// The state of a step as `step_states` returns it: three follow from a live row, the others are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepState {
    /// A parent is not done.
    Pending,
    /// Can be claimed now.
    Ready,
    /// Claimed by a process.
    InProgress,
    /// Has a time before which it is not ready.
    Waiting,
    Complete,
    /// Ended without a result, permanently unless an operator acts.
    Error,
    Cancelled,
    ResolvedManually,
}

/// The state of a task as `task_execution_context` returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// No step has started.
    Pending,
    InProgress,
    Complete,
    /// Ended with a step that failed permanently, and possibly others that wait for it.
    Error,
    Cancelled,
    ResolvedManually,
}

/// A transition: from, to, the function that makes it, and when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition<State> {
    pub from: State,
    pub to: State,
    pub by: &'static str,
    pub reason: &'static str,
}

const fn step(from: StepState, to: StepState, by: &'static str, reason: &'static str) -> Transition<StepState> {
    Transition { from, to, by, reason }
}

const fn task(from: TaskState, to: TaskState, by: &'static str, reason: &'static str) -> Transition<TaskState> {
    Transition { from, to, by, reason }
}

/// Every transition of a step. A step starts as pending, ready (a root), or waiting (a root of a task with a start time).
pub const STEP_TRANSITIONS: &[Transition<StepState>] = {
    use StepState::{Cancelled, Complete, Error, InProgress, Pending, Ready, ResolvedManually, Waiting};
    &[
        step(Pending, Ready, "finish_steps", "Its last parent was completed."),
        step(
            Pending,
            InProgress,
            "finish_steps",
            "Its last parent was completed by a process that had a free slot for it.",
        ),
        step(Pending, Cancelled, "cancel_task", "An operator cancelled the task."),
        step(Ready, InProgress, "claim_steps", "A process with a free slot claimed it."),
        step(
            Ready,
            InProgress,
            "finish_steps",
            "A process that finished another step claimed it in the same statement.",
        ),
        step(Ready, Waiting, "claim_steps", "The database could not read what a claim on it needs."),
        step(Ready, Cancelled, "cancel_task", "An operator cancelled the task before a process claimed the step."),
        step(InProgress, Complete, "finish_steps", "Its handler returned a result."),
        step(InProgress, Waiting, "finish_steps", "Its handler failed and attempts are left."),
        step(InProgress, Error, "finish_steps", "Its handler failed permanently, or in the last attempt."),
        step(InProgress, Waiting, "release_steps", "The process does not have its handler, or no room for it."),
        step(InProgress, Ready, "release_steps", "The process ends, or claimed more than it could run."),
        step(InProgress, Ready, "deregister_process", "Its process left before the step had ended."),
        step(
            InProgress,
            Ready,
            "heartbeat",
            "Its process does not hold the claim, because the response to the claim was lost.",
        ),
        step(InProgress, Ready, "repair_task", "An operator repaired its task."),
        step(InProgress, Ready, "release_step", "An operator took it from its process."),
        step(InProgress, Waiting, "sweep", "Its process died or its lease ended, and attempts are left."),
        step(InProgress, Error, "sweep", "Its process died or its lease ended in the last attempt."),
        step(InProgress, Cancelled, "cancel_task", "An operator cancelled the task while the handler ran."),
        step(Waiting, Ready, "sweep", "Its time has come."),
        step(Waiting, Ready, "retry_step", "An operator ended its wait."),
        step(Waiting, Ready, "retry_task", "An operator ended the waits of all steps of the task."),
        step(Waiting, Cancelled, "cancel_task", "An operator cancelled the task while the step waited."),
        step(Pending, Ready, "resolve_step", "An operator resolved its last parent."),
        step(Pending, Ready, "complete_step", "An operator completed its last parent."),
        step(Pending, ResolvedManually, "resolve_step", "An operator resolved it."),
        step(Ready, ResolvedManually, "resolve_step", "An operator resolved it."),
        step(Waiting, ResolvedManually, "resolve_step", "An operator resolved it before its next attempt."),
        step(Error, ResolvedManually, "resolve_step", "An operator resolved its failure."),
        step(Pending, Complete, "complete_step", "An operator completed it before its parents were done."),
        step(Ready, Complete, "complete_step", "An operator completed it before a process claimed it."),
        step(Waiting, Complete, "complete_step", "An operator completed it before its next attempt."),
        step(Error, Complete, "complete_step", "An operator completed it after its failure."),
        step(Error, Ready, "retry_step", "An operator gave it all its attempts again."),
        step(Error, Ready, "retry_task", "An operator gave all failed steps of the task their attempts again."),
    ]
};

/// Every transition of a task. A task starts as pending.
pub const TASK_TRANSITIONS: &[Transition<TaskState>] = {
    use TaskState::{Cancelled, Complete, Error, InProgress, Pending, ResolvedManually};
    &[
        task(Pending, InProgress, "claim_steps", "The first step was claimed."),
        task(Pending, InProgress, "finish_steps", "The same, by a process that finished a step of another task."),
        task(Pending, Cancelled, "cancel_task", "An operator cancelled it before it started."),
        task(InProgress, Complete, "finish_steps", "The last step was completed."),
        task(InProgress, Error, "finish_steps", "A step failed permanently, and no other step could run."),
        task(InProgress, Error, "sweep", "A step was lost in its last attempt, and no other step could run."),
        task(InProgress, Cancelled, "cancel_task", "An operator cancelled it while it ran."),
        task(InProgress, Pending, "release_steps", "The first claim was released before any step had run."),
        task(InProgress, Pending, "deregister_process", "The process with the first claim left."),
        task(InProgress, Pending, "heartbeat", "The process with the first claim did not hold it."),
        task(InProgress, Pending, "repair_task", "An operator repaired it before any step had run."),
        task(InProgress, Pending, "release_step", "An operator released the first claim before any step had run."),
        task(InProgress, Pending, "retry_step", "An operator gave the only step that had started its attempts again."),
        task(
            InProgress,
            Pending,
            "retry_task",
            "An operator gave the only steps that had started their attempts again.",
        ),
        task(Pending, InProgress, "resolve_step", "An operator resolved its first step."),
        task(Pending, InProgress, "complete_step", "An operator completed its first step."),
        task(Pending, Complete, "resolve_step", "An operator resolved its only step."),
        task(Pending, Complete, "complete_step", "An operator completed its only step."),
        task(InProgress, Complete, "resolve_step", "An operator resolved the last step."),
        task(InProgress, Complete, "complete_step", "An operator completed the last step."),
        task(
            InProgress,
            Error,
            "resolve_step",
            "An operator resolved a step; another had failed, and no other step could run.",
        ),
        task(
            InProgress,
            Error,
            "complete_step",
            "An operator completed a step; another had failed, and no other step could run.",
        ),
        task(Error, InProgress, "resolve_step", "An operator resolved a failed step, and its children may run."),
        task(Error, InProgress, "complete_step", "An operator completed a failed step, and its children may run."),
        task(Error, InProgress, "retry_step", "An operator gave a failed step its attempts again."),
        task(Error, InProgress, "retry_task", "An operator gave the failed steps their attempts again."),
        task(Error, Pending, "retry_step", "The same, when no other step had started."),
        task(Error, Pending, "retry_task", "The same, when no other step had started."),
        task(Error, Complete, "resolve_step", "An operator resolved the only step that was not done."),
        task(Error, Complete, "complete_step", "An operator completed the only step that was not done."),
        task(Error, ResolvedManually, "resolve_task", "An operator resolved the failure."),
    ]
};

impl StepState {
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Ready,
        Self::InProgress,
        Self::Waiting,
        Self::Complete,
        Self::Error,
        Self::Cancelled,
        Self::ResolvedManually,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::InProgress => "in_progress",
            Self::Waiting => "waiting",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::ResolvedManually => "resolved_manually",
        }
    }

    /// Whether children that depend on it may start.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Complete | Self::ResolvedManually)
    }
}

impl TaskState {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::InProgress, Self::Complete, Self::Error, Self::Cancelled, Self::ResolvedManually];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::ResolvedManually => "resolved_manually",
        }
    }

    /// Whether no step of it can run any more, unless an operator acts.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Pending | Self::InProgress)
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not the name of a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no state")]
pub struct UnknownState(String);

impl FromStr for StepState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}

impl FromStr for TaskState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// `docs/states.md`, with both tables.
pub fn markdown() -> String {
    let steps = table(STEP_TRANSITIONS) + &cells(&StepState::ALL, STEP_TRANSITIONS);
    let tasks = table(TASK_TRANSITIONS) + &cells(&TaskState::ALL, TASK_TRANSITIONS);
    format!(
        "# States\n\n\
         Generated from `ext/orchestrator/tests/orchestration/states.rs`: `UPDATE_DOCS=1 cargo test -p tasker_orchestrator \
         --test orchestration states`.\n\n\
         No other transition is possible. The third column is the SQL function that makes the transition. A test makes each \
         transition happen, and checks that no other one does ([testing](testing.md#transitions)).\n\n\
         ## Steps\n\nA step starts as pending; a root starts as ready, or as waiting if its task has a start \
         time.\n\n{steps}\n## Tasks\n\nA task starts as pending.\n\n{tasks}"
    )
}

/// A matrix from the state of the row to that of the column, with a ✔ if a function can make the transition.
fn cells<State: fmt::Display + Copy + PartialEq>(states: &[State], transitions: &[Transition<State>]) -> String {
    let names: Vec<String> = states.iter().map(State::to_string).collect();
    let rows: String = states
        .iter()
        .map(|&from| {
            let cells: Vec<&str> = states
                .iter()
                .map(|&to| if transitions.iter().any(|it| it.from == from && it.to == to) { "✔" } else { "" })
                .collect();
            format!("| **{from}** | {} |\n", cells.join(" | "))
        })
        .collect();
    format!("\n| from \\ to | {} |\n|---{}|\n{rows}", names.join(" | "), "|---".repeat(states.len()))
}

fn table<State: fmt::Display>(transitions: &[Transition<State>]) -> String {
    let rows: String = transitions
        .iter()
        .map(|arrow| format!("| {} | {} | `{}` | {} |\n", arrow.from, arrow.to, arrow.by, arrow.reason))
        .collect();
    format!("| from | to | by | when |\n|---|---|---|---|\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_and_its_name_convert_both_ways() {
        for state in StepState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("running".parse::<StepState>().is_err());
    }

    #[test]
    fn only_an_error_is_left_again_once_something_has_ended() {
        for arrow in STEP_TRANSITIONS {
            assert!(!arrow.from.is_done() && arrow.from != StepState::Cancelled, "{arrow:?}");
        }
        for arrow in TASK_TRANSITIONS {
            assert!(!arrow.from.has_ended() || arrow.from == TaskState::Error, "{arrow:?}");
        }
    }

    #[test]
    fn every_state_is_reachable_and_can_reach_an_end() {
        fn reach<State: Copy + PartialEq>(arrows: &[Transition<State>], from: &[State]) -> Vec<State> {
            let mut reached = from.to_vec();
            while let Some(arrow) = arrows.iter().find(|it| reached.contains(&it.from) && !reached.contains(&it.to)) {
                reached.push(arrow.to);
            }
            reached
        }
        for state in StepState::ALL {
            let ends =
                reach(STEP_TRANSITIONS, &[state]).into_iter().any(|it| it.is_done() || it == StepState::Cancelled);
            assert!(ends, "{state}");
        }
        for state in TaskState::ALL {
            assert!(reach(TASK_TRANSITIONS, &[state]).into_iter().any(TaskState::has_ended), "{state}");
        }
        assert_eq!(reach(STEP_TRANSITIONS, &[StepState::Pending]).len(), StepState::ALL.len());
        assert_eq!(reach(TASK_TRANSITIONS, &[TaskState::Pending]).len(), TaskState::ALL.len());
    }

    #[test]
    fn no_arrow_stands_twice_and_each_has_its_function() {
        let functions = crate::support::files("../../db/functions", ".sql");
        for (index, arrow) in STEP_TRANSITIONS.iter().enumerate() {
            let again =
                STEP_TRANSITIONS[..index].iter().any(|o| (o.from, o.to, o.by) == (arrow.from, arrow.to, arrow.by));
            assert!(!again, "{arrow:?}");
            assert!(functions.iter().any(|path| path.file_stem().unwrap() == arrow.by), "{}", arrow.by);
        }
    }

    #[test]
    fn the_document_is_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/states.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), markdown(), "run it with UPDATE_DOCS=1");
    }
}
