//! The seam between Ruby and the orchestrator: it translates and decides nothing. See `ext/README.md`.

mod compiled_workflow;
mod configuration;
mod errors;
mod event_publisher;
mod gvl;
mod orchestrator;
mod runtime;

use magnus::{Error, Module, Ruby};

#[magnus::init(name = "tasker_core")]
fn init(ruby: &Ruby) -> Result<(), Error> {
    // Until an application's logger takes them: warnings and errors go where the process's own errors go. A host that
    // has set a subscriber keeps it.
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    let native = ruby.define_module("TaskerCore")?.define_module("Native")?;
    configuration::init(ruby, native)?;
    compiled_workflow::init(ruby, native)?;
    event_publisher::init(ruby, native)?;
    orchestrator::init(ruby, native)
}
