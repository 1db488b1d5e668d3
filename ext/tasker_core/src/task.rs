//! `TaskerCore::Native::Task`: an operator's verbs on the connections of an orchestrator.
//!
//! Invariant: it belongs to the process of its orchestrator. Neighbour: `WorkflowStep`, whose verbs are done as these are.

use magnus::{prelude::*, Error, RModule, Ruby, Value};
use tasker_orchestrator::client::operator;

use crate::action::{perform, Argument};
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

    /// `step(position)`: a step by its place in the workflow.
    fn step(&self, position: i32) -> Result<WorkflowStep, Error> {
        Ok(WorkflowStep::new(self.task.get()?.step(position)))
    }

    /// `cancel_with_reason(reason, by)`: a Hash `{state:, ready_queues:}`, as every verb answers.
    fn cancel_with_reason(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        perform(ruby, &rb_self.task, reason, by, |task, reason, by| async move {
            task.cancel_with_reason(&reason, &by).await
        })
    }

    fn reset_attempts(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        perform(
            ruby,
            &rb_self.task,
            reason,
            by,
            |task, reason, by| async move { task.reset_attempts(&reason, &by).await },
        )
    }

    fn resolve(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        perform(ruby, &rb_self.task, reason, by, |task, reason, by| async move { task.resolve(&reason, &by).await })
    }
}

pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("Task", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_method("step", method!(Task::step, 1))?;
    class.define_method("cancel_with_reason", ruby_method!(Task::cancel_with_reason, 2))?;
    class.define_method("reset_attempts", ruby_method!(Task::reset_attempts, 2))?;
    class.define_method("resolve", ruby_method!(Task::resolve, 2))
}
