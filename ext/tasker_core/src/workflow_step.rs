//! `TaskerCore::Native::WorkflowStep`: an operator's actions on a step, on the connections of an orchestrator.
//!
//! Invariant: it belongs to the process of its orchestrator. Neighbour: `Task`, which creates it.

use magnus::{prelude::*, Error, RModule, Ruby, Value};
use serde_json::value::RawValue;
use tasker_orchestrator::client::operator;

use crate::action::{perform, Argument};
use crate::entry::ruby_method;
use crate::errors;
use crate::owned::Owned;

#[magnus::wrap(class = "TaskerCore::Native::WorkflowStep", free_immediately)]
pub struct WorkflowStep {
    step: Owned<operator::WorkflowStep>,
}

impl WorkflowStep {
    pub fn new(step: operator::WorkflowStep) -> Self {
        Self { step: Owned::new(step, "step") }
    }

    /// `retry(reason, by)` returns a Hash `{state:, ready_queues:}`, like every action.
    fn retry(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        perform(ruby, &rb_self.step, reason, by, |step, reason, by| async move { step.retry(&reason, &by).await })
    }

    fn release(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        perform(ruby, &rb_self.step, reason, by, |step, reason, by| async move { step.release(&reason, &by).await })
    }

    fn resolve(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        perform(ruby, &rb_self.step, reason, by, |step, reason, by| async move { step.resolve(&reason, &by).await })
    }

    /// `complete(result, reason, by)`: the result is the JSON text of an object.
    fn complete(ruby: &Ruby, rb_self: &Self, result: String, reason: Argument, by: Argument) -> Result<Value, Error> {
        let result = json(result)?;
        perform(ruby, &rb_self.step, reason, by, |step, reason, by| async move {
            step.complete(&result, &reason, &by).await
        })
    }

    /// `update_result(result, reason, by)`: the result is the JSON text of an object.
    fn update_result(
        ruby: &Ruby,
        rb_self: &Self,
        result: String,
        reason: Argument,
        by: Argument,
    ) -> Result<Value, Error> {
        let result = json(result)?;
        perform(ruby, &rb_self.step, reason, by, |step, reason, by| async move {
            step.update_result(&result, &reason, &by).await
        })
    }
}

fn json(result: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(result).map_err(|error| errors::input(&format!("result: cannot be read as JSON: {error}")))
}

pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("WorkflowStep", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_method("retry", ruby_method!(WorkflowStep::retry, 2))?;
    class.define_method("release", ruby_method!(WorkflowStep::release, 2))?;
    class.define_method("resolve", ruby_method!(WorkflowStep::resolve, 2))?;
    class.define_alias("mark_resolved", "resolve")?;
    class.define_method("complete", ruby_method!(WorkflowStep::complete, 3))?;
    class.define_method("update_result", ruby_method!(WorkflowStep::update_result, 3))
}
