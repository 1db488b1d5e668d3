//! `TaskerCore::Native::Task`: an operator's actions on the connections of an orchestrator.
//!
//! Invariant: it belongs to the process of its orchestrator. Neighbour: `WorkflowStep`, which has the actions on a
//! step.

use magnus::{prelude::*, Error, RModule, Ruby, Value};
use tasker_orchestrator::client::operator;

use crate::action::{action, Argument};
use crate::entry::{method, ruby_method};
use crate::owned::Owned;
use crate::workflow_step::WorkflowStep;

#[magnus::wrap(class = "TaskerCore::Native::Task", free_immediately)]
pub struct Task {
    task: Owned<operator::Task>,
}

impl Task {
    pub fn new(task: operator::Task) -> Self {
        Self { task: Owned::new(task, "task") }
    }

    /// `step(position)`: a step by its position in the workflow.
    fn step(&self, position: i32) -> Result<WorkflowStep, Error> {
        Ok(WorkflowStep::new(self.task.get()?.step(position)))
    }

    /// `cancel(reason, by)` returns a Hash `{state:, ready_queues:}`, like every action.
    fn cancel(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        action!(ruby, rb_self.task, cancel(), reason, by)
    }

    fn retry(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        action!(ruby, rb_self.task, retry(), reason, by)
    }

    fn resolve(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        action!(ruby, rb_self.task, resolve(), reason, by)
    }
}

pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("Task", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_method("step", method!(Task::step, 1))?;
    class.define_method("cancel", ruby_method!(Task::cancel, 2))?;
    class.define_alias("cancel_with_reason", "cancel")?;
    class.define_method("retry", ruby_method!(Task::retry, 2))?;
    class.define_alias("reset_attempts", "retry")?;
    class.define_method("resolve", ruby_method!(Task::resolve, 2))
}
