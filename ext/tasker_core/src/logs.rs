//! `TaskerCore::Native::Logs`: the lines that Rust has to say, for Ruby to write; and fresh correlation ids.
//!
//! Invariant: Rust never calls a logger of Ruby's. A Ruby thread asks for lines, waits without the GVL, and gets them as
//! finished text. Neighbour: `tasker_orchestrator::logs` takes them in.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use magnus::{prelude::*, Error, RArray, RModule, Ruby};
use tasker_orchestrator::correlation::{CorrelationId, LogContext};
use tasker_orchestrator::logs::buffer::Settings;
use tasker_orchestrator::logs::{self, Buffer, Buffers, Record};
use tracing::level_filters::LevelFilter;
use tracing::Level;
use tracing_subscriber::prelude::*;

use crate::entry::{function, ruby_function};
use crate::{errors, gvl, process_id, runtime};

static LINES: Buffers = Buffers::new(process_id::current);

/// Lines that are handed over at once: so many Ruby writes before it looks at its other threads.
const MAX_LINES: usize = 500;
/// How long lines are gathered: to take each by itself would cost more than to write it.
const GATHER: Duration = Duration::from_millis(20);

fn own_buffer() -> &'static Buffer {
    LINES.of(process_id::current())
}

/// `configure(settings)`: JSON text `{format:, capacity:, fields:, correlation_id:}`.
fn configure(settings: String) -> Result<(), Error> {
    let settings: Settings = serde_json::from_str(&settings)
        .map_err(|error| errors::configuration(&format!("the settings of logging: {error}")))?;
    own_buffer().configure(settings);
    Ok(())
}

/// `set_level(severity)`: as Ruby's Logger counts them.
fn set_level(severity: i64) -> Result<(), Error> {
    LINES.set_level(match severity {
        ..=0 => LevelFilter::DEBUG,
        1 => LevelFilter::INFO,
        2 => LevelFilter::WARN,
        3 => LevelFilter::ERROR,
        4.. => LevelFilter::OFF,
    });
    Ok(())
}

/// `wait(seconds)`: until there are lines to take, at most so long.
fn wait(seconds: f64) -> Result<(), Error> {
    let timeout = Duration::try_from_secs_f64(seconds)
        .map_err(|_| errors::configuration(&format!("seconds: {seconds} is no time to wait")))?;
    gvl::wait(runtime::current()?, own_buffer().wait(timeout, GATHER))
}

/// `offer(severity, message, correlation_id, task_id, workflow, step, attempt, duration_ms, fields)`: a line of Ruby's
/// own, to be written with the others if there is room; its further fields as JSON text. Each argument by itself, as this
/// is called for each step.
#[allow(clippy::too_many_arguments)]
fn offer(
    severity: i64,
    message: String,
    correlation_id: String,
    task_id: Option<i64>,
    workflow: Option<String>,
    step: Option<String>,
    attempt: Option<u32>,
    duration_ms: Option<f64>,
    fields: Option<String>,
) -> Result<bool, Error> {
    let unreadable = |error: serde_json::Error| errors::internal(&format!("the line's fields: {error}"));
    let fields = fields.map(|text| serde_json::from_str::<serde_json::Map<_, _>>(&text)).transpose();
    let own = duration_ms.map(|duration| ("duration_ms".to_owned(), duration.into()));
    let correlation_id = correlation_id
        .parse()
        .map_err(|error| errors::internal(&format!("correlation id {correlation_id}: {error}")))?;
    Ok(own_buffer().offer(&Record {
        at: SystemTime::now(),
        level: level(severity),
        message,
        context: Arc::new(LogContext { correlation_id: Some(correlation_id), task_id, workflow, step, attempt }),
        process: process_id::current(),
        fields: own.into_iter().chain(fields.map_err(unreadable)?.into_iter().flatten()).collect(),
    }))
}

fn level(severity: i64) -> Level {
    match severity {
        ..=0 => Level::DEBUG,
        1 => Level::INFO,
        2 => Level::WARN,
        3.. => Level::ERROR,
    }
}

/// `take(join)`: `[[[severity, text], …], dropped]`, at once; takes no runtime, so that it works while the process ends.
/// Joined, a text has all the lines that follow each other at one severity.
fn take(ruby: &Ruby, join: bool) -> Result<RArray, Error> {
    let batch = own_buffer().take(MAX_LINES);
    let batch = if join { batch.joined() } else { batch };
    let lines = ruby.ary_new_capa(batch.lines.len());
    for line in batch.lines {
        lines.push((severity(line.level), line.text))?;
    }
    let batch_and_dropped = ruby.ary_new_capa(2);
    batch_and_dropped.push(lines)?;
    batch_and_dropped.push(batch.dropped)?;
    Ok(batch_and_dropped)
}

fn severity(level: Level) -> u8 {
    match level {
        Level::TRACE | Level::DEBUG => 0,
        Level::INFO => 1,
        Level::WARN => 2,
        Level::ERROR => 3,
    }
}

/// `wake`: ends a wait.
fn wake() -> Result<(), Error> {
    own_buffer().wake();
    Ok(())
}

fn fresh_correlation_id() -> Result<String, Error> {
    Ok(CorrelationId::fresh().to_string())
}

pub fn init(native: RModule) -> Result<(), Error> {
    // A host that has set a subscriber keeps it, and its lines.
    let _ = tracing_subscriber::registry().with(logs::layer(Arc::new(&LINES))).try_init();
    let module = native.define_module("Logs")?;
    module.define_singleton_method("configure", function!(configure, 1))?;
    module.define_singleton_method("set_level", function!(set_level, 1))?;
    module.define_singleton_method("wait", function!(wait, 1))?;
    module.define_singleton_method("take", ruby_function!(take, 1))?;
    module.define_singleton_method("offer", function!(offer, 9))?;
    module.define_singleton_method("wake", function!(wake, 0))?;
    native.define_singleton_method("fresh_correlation_id", function!(fresh_correlation_id, 0))
}
