//! `TaskerCore::Native::Configuration`: the settings in force.

use magnus::{prelude::*, Error, RModule, Ruby, Value};
use serde::Serialize;
use tasker_orchestrator::configuration::schema::{schema, Section};
use tasker_orchestrator::configuration::{Configuration as Settings, ConfigurationManager, Effective, Sources};

use crate::entry::{function, method, ruby_method};
use crate::errors;

#[magnus::wrap(class = "TaskerCore::Native::Configuration", free_immediately)]
pub struct Configuration {
    manager: ConfigurationManager,
}

/// The content of `describe`.
#[derive(Serialize)]
struct Description<'a> {
    sections: &'static [Section],
    settings: &'a [Effective],
}

impl Configuration {
    /// `load(sources)`: JSON text `{file:, environment:, environments:, variables:, overrides:}`.
    fn load(sources: String) -> Result<Self, Error> {
        let sources: Sources = serde_json::from_str(&sources)
            .map_err(|error| errors::configuration(&format!("the settings cannot be read: {error}")))?;
        let manager = ConfigurationManager::load(&sources).map_err(|error| errors::exception(&error))?;
        Ok(Self { manager })
    }

    pub fn settings(&self) -> &Settings {
        self.manager.configuration()
    }

    fn to_h(ruby: &Ruby, rb_self: &Self) -> Result<Value, Error> {
        serde_magnus::serialize(ruby, rb_self.settings())
    }

    /// Every section with its purpose, and every setting with its allowed values, reason, value as written, and source,
    /// as JSON text. Values have no passwords.
    fn describe(&self) -> Result<String, Error> {
        let description = Description { sections: &schema().sections, settings: self.manager.effective() };
        serde_json::to_string(&description).map_err(|error| errors::internal(&error.to_string()))
    }
}

pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("Configuration", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("load", function!(Configuration::load, 1))?;
    class.define_method("to_h", ruby_method!(Configuration::to_h, 0))?;
    class.define_method("describe", method!(Configuration::describe, 0))
}
