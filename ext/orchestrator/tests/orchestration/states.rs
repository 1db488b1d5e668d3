//! The states of tasks and steps, and every possible transition, as data.
//!
//! Invariant: no other transition is possible. The SQL functions make the transitions, `transitions_test` compares them
//! with these tables, and `docs/states.md` is generated from them. The product does not use them.

use std::fmt;

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

const fn arrow<State: Copy>(from: State, to: State, by: &'static str, reason: &'static str) -> Transition<State> {
    Transition { from, to, by, reason }
}

/// Every transition of a step. A step starts as pending, ready (a root), or waiting (a root of a task with a start
/// time).
pub const STEP_TRANSITIONS: &[Transition<StepState>] = {
    use StepState::{Cancelled, Complete, Error, InProgress, Pending, Ready, ResolvedManually, Waiting};
    &[
        arrow(Pending, Ready, "finish_steps", "Its last parent was completed."),
        arrow(
            Pending,
            InProgress,
            "finish_steps",
            "Its last parent was completed by a process that had a free slot for it.",
        ),
        arrow(Pending, Cancelled, "cancel_task", "An operator cancelled the task."),
        arrow(Ready, InProgress, "claim_steps", "A process with a free slot claimed it."),
        arrow(
            Ready,
            InProgress,
            "finish_steps",
            "A process that finished another step claimed it in the same statement.",
        ),
        arrow(Ready, Waiting, "claim_steps", "The database could not read data needed to claim it."),
        arrow(Ready, Cancelled, "cancel_task", "An operator cancelled the task before a process claimed the step."),
        arrow(InProgress, Complete, "finish_steps", "Its handler returned a result."),
        arrow(InProgress, Waiting, "finish_steps", "Its handler failed and attempts are left."),
        arrow(InProgress, Error, "finish_steps", "Its handler failed permanently, or in the last attempt."),
        arrow(InProgress, Waiting, "release_steps", "The process does not have its handler, or no room for it."),
        arrow(InProgress, Ready, "release_steps", "The process ends, or claimed more than it could run."),
        arrow(InProgress, Ready, "deregister_process", "Its process left before the step had ended."),
        arrow(
            InProgress,
            Ready,
            "heartbeat",
            "Its process does not hold the claim, because the response to the claim was lost.",
        ),
        arrow(InProgress, Ready, "repair_task", "An operator repaired its task."),
        arrow(InProgress, Ready, "release_step", "An operator took it from its process."),
        arrow(InProgress, Waiting, "sweep", "Its process died or its lease expired, and attempts are left."),
        arrow(InProgress, Error, "sweep", "Its process died or its lease expired in the last attempt."),
        arrow(InProgress, Cancelled, "cancel_task", "An operator cancelled the task while the handler ran."),
        arrow(Waiting, Ready, "sweep", "Its time has come."),
        arrow(Waiting, Ready, "retry_step", "An operator ended its wait."),
        arrow(Waiting, Ready, "retry_task", "An operator ended the waits of all steps of the task."),
        arrow(Waiting, Cancelled, "cancel_task", "An operator cancelled the task while the step waited."),
        arrow(Pending, Ready, "resolve_step", "An operator resolved its last parent."),
        arrow(Pending, Ready, "complete_step", "An operator completed its last parent."),
        arrow(Pending, ResolvedManually, "resolve_step", "An operator resolved it."),
        arrow(Ready, ResolvedManually, "resolve_step", "An operator resolved it."),
        arrow(Waiting, ResolvedManually, "resolve_step", "An operator resolved it before its next attempt."),
        arrow(Error, ResolvedManually, "resolve_step", "An operator resolved its failure."),
        arrow(Pending, Complete, "complete_step", "An operator completed it before its parents were done."),
        arrow(Ready, Complete, "complete_step", "An operator completed it before a process claimed it."),
        arrow(Waiting, Complete, "complete_step", "An operator completed it before its next attempt."),
        arrow(Error, Complete, "complete_step", "An operator completed it after its failure."),
        arrow(Error, Ready, "retry_step", "An operator retried it."),
        arrow(Error, Ready, "retry_task", "An operator retried all failed steps of the task."),
    ]
};

/// Every transition of a task. A task starts as pending.
pub const TASK_TRANSITIONS: &[Transition<TaskState>] = {
    use TaskState::{Cancelled, Complete, Error, InProgress, Pending, ResolvedManually};
    &[
        arrow(Pending, InProgress, "claim_steps", "The first step was claimed."),
        arrow(Pending, InProgress, "finish_steps", "The same, by a process that finished a step of another task."),
        arrow(Pending, Cancelled, "cancel_task", "An operator cancelled it before it started."),
        arrow(InProgress, Complete, "finish_steps", "The last step was completed."),
        arrow(InProgress, Error, "finish_steps", "A step failed permanently, and no other step could run."),
        arrow(InProgress, Error, "sweep", "A step was lost in its last attempt, and no other step could run."),
        arrow(InProgress, Cancelled, "cancel_task", "An operator cancelled it while it ran."),
        arrow(InProgress, Pending, "release_steps", "The first claim was released before any step had run."),
        arrow(InProgress, Pending, "deregister_process", "The process with the first claim left."),
        arrow(InProgress, Pending, "heartbeat", "The process with the first claim did not hold it."),
        arrow(InProgress, Pending, "repair_task", "An operator repaired it before any step had run."),
        arrow(InProgress, Pending, "release_step", "An operator released the first claim before any step had run."),
        arrow(InProgress, Pending, "retry_step", "An operator retried the only step that had started."),
        arrow(InProgress, Pending, "retry_task", "An operator retried the only steps that had started."),
        arrow(Pending, InProgress, "resolve_step", "An operator resolved its first step."),
        arrow(Pending, InProgress, "complete_step", "An operator completed its first step."),
        arrow(Pending, Complete, "resolve_step", "An operator resolved its only step."),
        arrow(Pending, Complete, "complete_step", "An operator completed its only step."),
        arrow(InProgress, Complete, "resolve_step", "An operator resolved the last step."),
        arrow(InProgress, Complete, "complete_step", "An operator completed the last step."),
        arrow(
            InProgress,
            Error,
            "resolve_step",
            "An operator resolved a step; another had failed, and no other step could run.",
        ),
        arrow(
            InProgress,
            Error,
            "complete_step",
            "An operator completed a step; another had failed, and no other step could run.",
        ),
        arrow(Error, InProgress, "resolve_step", "An operator resolved a failed step, and its children may run."),
        arrow(Error, InProgress, "complete_step", "An operator completed a failed step, and its children may run."),
        arrow(Error, InProgress, "retry_step", "An operator retried a failed step."),
        arrow(Error, InProgress, "retry_task", "An operator retried the failed steps."),
        arrow(Error, Pending, "retry_step", "The same, when no other step had started."),
        arrow(Error, Pending, "retry_task", "The same, when no other step had started."),
        arrow(Error, Complete, "resolve_step", "An operator resolved the only step that was not done."),
        arrow(Error, Complete, "complete_step", "An operator completed the only step that was not done."),
        arrow(Error, ResolvedManually, "resolve_task", "An operator resolved the failure."),
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

    /// Whether children that depend on it may start.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Complete | Self::ResolvedManually)
    }
}

impl TaskState {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::InProgress, Self::Complete, Self::Error, Self::Cancelled, Self::ResolvedManually];

    /// Whether no step of it can run any more, unless an operator acts.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Pending | Self::InProgress)
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::InProgress => "in_progress",
            Self::Waiting => "waiting",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::ResolvedManually => "resolved_manually",
        })
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::ResolvedManually => "resolved_manually",
        })
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
    fn only_error_can_be_left_after_the_end() {
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
    fn each_transition_is_listed_once_with_its_function() {
        fn check<State: Copy + PartialEq + fmt::Debug>(arrows: &[Transition<State>]) {
            let functions = crate::support::files("../../db/functions", ".sql");
            for (index, arrow) in arrows.iter().enumerate() {
                let same =
                    |other: &Transition<State>| (other.from, other.to, other.by) == (arrow.from, arrow.to, arrow.by);
                assert!(!arrows[..index].iter().any(same), "{arrow:?}");
                assert!(functions.iter().any(|path| path.file_stem().unwrap() == arrow.by), "{}", arrow.by);
            }
        }
        check(STEP_TRANSITIONS);
        check(TASK_TRANSITIONS);
    }

    #[test]
    fn docs_states_md_shows_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/states.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), markdown(), "run it with UPDATE_DOCS=1");
    }
}
