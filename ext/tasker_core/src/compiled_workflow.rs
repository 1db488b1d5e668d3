//! `TaskerCore::Native::CompiledWorkflow`: a checked workflow definition with its ordered graph.

use std::sync::Arc;

use magnus::{prelude::*, Error, RModule, Ruby, Value};
use tasker_orchestrator::Workflow;

use crate::configuration::Configuration;
use crate::entry::{function, method, ruby_method};
use crate::errors;

#[magnus::wrap(class = "TaskerCore::Native::CompiledWorkflow", free_immediately)]
pub struct CompiledWorkflow {
    workflow: Arc<Workflow>,
}

impl CompiledWorkflow {
    /// `compile(definition, configuration)`: the definition is JSON text.
    fn compile(definition: String, configuration: &Configuration) -> Result<Self, Error> {
        let definition = serde_json::from_str(&definition)
            .map_err(|error| errors::workflow(&format!("the definition cannot be read: {error}")))?;
        let workflow =
            Workflow::compile(&definition, configuration.settings()).map_err(|error| errors::exception(&error))?;
        Ok(Self { workflow: Arc::new(workflow) })
    }

    fn definition_json(&self) -> Result<&str, Error> {
        Ok(self.workflow.definition_json())
    }

    fn namespace(&self) -> Result<&str, Error> {
        Ok(self.workflow.namespace())
    }

    fn name(&self) -> Result<&str, Error> {
        Ok(self.workflow.name())
    }

    fn version(&self) -> Result<&str, Error> {
        Ok(self.workflow.version())
    }

    fn digest(&self) -> Result<&str, Error> {
        Ok(self.workflow.digest())
    }

    fn step_names(ruby: &Ruby, rb_self: &Self) -> Result<Value, Error> {
        let names: Vec<&str> = rb_self.workflow.steps().iter().map(|step| step.name.as_str()).collect();
        serde_magnus::serialize(ruby, &names)
    }

    /// Raises `TaskerCore::InputError` with every problem of the input.
    fn validate_input(&self, input: String) -> Result<(), Error> {
        self.workflow.validate_input(&input).map_err(|error| errors::exception(&error))
    }
}

pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("CompiledWorkflow", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("compile", function!(CompiledWorkflow::compile, 2))?;
    class.define_method("definition_json", method!(CompiledWorkflow::definition_json, 0))?;
    class.define_method("namespace", method!(CompiledWorkflow::namespace, 0))?;
    class.define_method("name", method!(CompiledWorkflow::name, 0))?;
    class.define_method("version", method!(CompiledWorkflow::version, 0))?;
    class.define_method("digest", method!(CompiledWorkflow::digest, 0))?;
    class.define_method("step_names", ruby_method!(CompiledWorkflow::step_names, 0))?;
    class.define_method("validate_input", method!(CompiledWorkflow::validate_input, 1))
}
