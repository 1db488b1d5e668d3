//! The seam between Ruby and the orchestrator: it only translates. See `ext/README.md`.

mod action;
mod compiled_workflow;
mod configuration;
mod entry;
mod errors;
mod event_publisher;
mod gvl;
mod logs;
mod orchestrator;
mod owned;
mod process_id;
mod runtime;
mod task;
mod workflow_step;

use magnus::{Error, Module, Ruby};

#[magnus::init(name = "tasker_core")]
fn init(ruby: &Ruby) -> Result<(), Error> {
    let native = ruby.define_module("TaskerCore")?.define_module("Native")?;
    native.const_set("VERSION", env!("CARGO_PKG_VERSION"))?;
    process_id::init()?;
    #[cfg(debug_assertions)]
    entry::trap::init(native)?;
    logs::init(native)?;
    configuration::init(ruby, native)?;
    compiled_workflow::init(ruby, native)?;
    event_publisher::init(ruby, native)?;
    orchestrator::init(ruby, native)?;
    task::init(ruby, native)?;
    workflow_step::init(ruby, native)
}
