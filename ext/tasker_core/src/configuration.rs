//! `TaskerCore::Native.configuration`: the gem's defaults with the application's settings over them.

use magnus::{function, Error, Object, RModule, Ruby, Value};
use tasker_orchestrator::Configuration;

use crate::errors;

pub fn load(overrides: &str) -> Result<Configuration, Error> {
    let overrides = serde_json::from_str(overrides)
        .map_err(|error| errors::configuration(&format!("the settings cannot be read: {error}")))?;
    Configuration::load(Some(&overrides)).map_err(|error| errors::exception(&error))
}

fn configuration(ruby: &Ruby, overrides: String) -> Result<Value, Error> {
    errors::guarded(|| serde_magnus::serialize(ruby, &load(&overrides)?))
}

pub fn init(_ruby: &Ruby, native: RModule) -> Result<(), Error> {
    native.define_singleton_method("configuration", function!(configuration, 1))
}
