//! `TaskerCore::Native::Task`: an operator's verbs on the connections of an orchestrator.
//!
//! Invariant: it belongs to the process of its orchestrator. Neighbour: `WorkflowStep`, whose verbs are done as these are.

use std::future::Future;
use std::panic::resume_unwind;

use magnus::{method, prelude::*, Error, RModule, Ruby, Value};
use tasker_orchestrator::kernel::Changed;
use tasker_orchestrator::{operator, Error as Cause};

use crate::owned::Owned;
use crate::workflow_step::WorkflowStep;
use crate::{errors, gvl, runtime};

#[magnus::wrap(class = "TaskerCore::Native::Task", free_immediately)]
pub struct Task {
    task: Owned<operator::Task>,
}

/// Why, and who, as every verb takes them; the database refuses what is missing.
pub type Word = Option<String>;

impl Task {
    pub fn new(task: operator::Task) -> Self {
        Self { task: Owned::new(task, "task") }
    }

    /// `step(position)`: a step by its place in the workflow.
    fn step(&self, position: i32) -> Result<WorkflowStep, Error> {
        Ok(WorkflowStep::new(self.task.get()?.step(position)))
    }

    /// `cancel_with_reason(reason, by)`: a Hash `{state:, ready_queues:}`, as every verb answers.
    fn cancel_with_reason(ruby: &Ruby, rb_self: &Self, reason: Word, by: Word) -> Result<Value, Error> {
        perform(ruby, &rb_self.task, reason, by, |task, reason, by| async move {
            task.cancel_with_reason(&reason, &by).await
        })
    }

    fn reset_attempts(ruby: &Ruby, rb_self: &Self, reason: Word, by: Word) -> Result<Value, Error> {
        perform(
            ruby,
            &rb_self.task,
            reason,
            by,
            |task, reason, by| async move { task.reset_attempts(&reason, &by).await },
        )
    }

    fn resolve(ruby: &Ruby, rb_self: &Self, reason: Word, by: Word) -> Result<Value, Error> {
        perform(ruby, &rb_self.task, reason, by, |task, reason, by| async move { task.resolve(&reason, &by).await })
    }
}

/// Does a verb without the GVL. Once begun it goes on whatever happens to the thread that waits: what it has committed
/// has to be told.
pub fn perform<T, F>(
    ruby: &Ruby,
    owned: &Owned<T>,
    reason: Word,
    by: Word,
    verb: impl FnOnce(T, String, String) -> F,
) -> Result<Value, Error>
where
    T: Clone,
    F: Future<Output = Result<Changed, Cause>> + Send + 'static,
{
    errors::guarded(|| {
        let doing = verb(owned.get()?.clone(), reason.unwrap_or_default(), by.unwrap_or_default());
        let changed = gvl::wait(runtime::current()?, async { tokio::spawn(doing).await })?
            .unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))
            .map_err(|error| errors::exception(&error))?;
        serde_magnus::serialize(ruby, &changed)
    })
}

pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("Task", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_method("step", method!(Task::step, 1))?;
    class.define_method("cancel_with_reason", method!(Task::cancel_with_reason, 2))?;
    class.define_method("reset_attempts", method!(Task::reset_attempts, 2))?;
    class.define_method("resolve", method!(Task::resolve, 2))
}
