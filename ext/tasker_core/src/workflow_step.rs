//! `TaskerCore::Native::WorkflowStep`: an operator's actions on a step, on the connections of an orchestrator.
//!
//! Invariant: it belongs to the process of its orchestrator. Neighbour: `Task`, which creates it.

use magnus::{prelude::*, Error, RModule, Ruby, Value};
use serde_json::value::RawValue;
use tasker_orchestrator::client::operator;

use crate::action::{action, Argument};
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
        action!(ruby, rb_self.step, retry(), reason, by)
    }

    fn release(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        action!(ruby, rb_self.step, release(), reason, by)
    }

    fn resolve(ruby: &Ruby, rb_self: &Self, reason: Argument, by: Argument) -> Result<Value, Error> {
        action!(ruby, rb_self.step, resolve(), reason, by)
    }

    /// `complete(result, reason, by)`: the result is the JSON text of an object.
    fn complete(ruby: &Ruby, rb_self: &Self, result: String, reason: Argument, by: Argument) -> Result<Value, Error> {
        let result = json(result)?;
        action!(ruby, rb_self.step, complete(&result), reason, by)
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
        action!(ruby, rb_self.step, update_result(&result), reason, by)
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
