//! `TaskerCore::Native::Logs`: hands log lines to Ruby, which writes them; also generates correlation ids.
//!
//! Invariant: Rust never calls a Ruby logger. A Ruby thread waits for lines without the GVL and receives finished text.
//! Neighbour: `tasker_orchestrator::logs` buffers the lines.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use magnus::{prelude::*, Error, RArray, RHash, RModule, Ruby, TryConvert, Value};
use serde_json::Map;
use tasker_orchestrator::correlation::{CorrelationId, LogContext};
use tasker_orchestrator::logs::buffer::Settings;
use tasker_orchestrator::logs::{self, Buffer, Buffers, Record};
use tracing::level_filters::LevelFilter;
use tracing::Level;
use tracing_subscriber::prelude::*;

use crate::entry::{function, ruby_function};
use crate::{errors, gvl, process_id, runtime};

static LINES: Buffers = Buffers::new(process_id::current);

/// Maximum number of lines in a batch: Ruby writes a batch without switching threads.
const MAX_LINES: usize = 500;
/// How long to gather lines: taking each one separately would cost more than writing it.
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

/// `set_level(severity)`: a severity of Ruby's Logger.
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

/// `wait(seconds)`: waits for lines to take, at most this long.
fn wait(seconds: f64) -> Result<(), Error> {
    let timeout = Duration::try_from_secs_f64(seconds)
        .map_err(|_| errors::configuration(&format!("seconds: {seconds} is not a valid duration")))?;
    gvl::wait(runtime::current()?, own_buffer().wait(timeout, GATHER))
}

/// A line of Ruby's own, read from a Hash with these keys.
struct Line {
    severity: i64,
    message: String,
    correlation_id: String,
    task_id: Option<i64>,
    workflow: Option<String>,
    step: Option<String>,
    attempt: Option<u32>,
    duration_ms: Option<f64>,
    /// Further fields, as the JSON text of an object.
    fields: Option<String>,
}

impl TryConvert for Line {
    fn try_convert(value: Value) -> Result<Self, Error> {
        let hash = RHash::try_convert(value)?;
        Ok(Self {
            severity: field(hash, "severity")?,
            message: field(hash, "message")?,
            correlation_id: field(hash, "correlation_id")?,
            task_id: field(hash, "task_id")?,
            workflow: field(hash, "workflow")?,
            step: field(hash, "step")?,
            attempt: field(hash, "attempt")?,
            duration_ms: field(hash, "duration_ms")?,
            fields: field(hash, "fields")?,
        })
    }
}

fn field<T: TryConvert>(line: RHash, name: &str) -> Result<T, Error> {
    line.lookup(Ruby::get_with(line).to_symbol(name))
}

impl Line {
    fn record(self) -> Result<Record, Error> {
        let correlation_id = self
            .correlation_id
            .parse()
            .map_err(|error| errors::internal(&format!("correlation id {}: {error}", self.correlation_id)))?;
        let Self { message, task_id, workflow, step, attempt, .. } = self;
        let mut fields: Vec<_> =
            self.duration_ms.map(|duration| ("duration_ms".to_owned(), duration.into())).into_iter().collect();
        if let Some(text) = self.fields {
            let others: Map<_, _> = serde_json::from_str(&text)
                .map_err(|error| errors::internal(&format!("the line's fields: {error}")))?;
            fields.extend(others);
        }
        Ok(Record {
            at: SystemTime::now(),
            level: level(self.severity),
            message,
            context: Arc::new(LogContext { correlation_id: Some(correlation_id), task_id, workflow, step, attempt }),
            process: process_id::current(),
            fields,
        })
    }
}

/// `offer(line)`: queues a line of Ruby's own with Rust's lines; returns whether there was room. A Hash and not JSON
/// text, as this is called for each step.
fn offer(line: Line) -> Result<bool, Error> {
    Ok(own_buffer().offer(&line.record()?))
}

fn level(severity: i64) -> Level {
    match severity {
        ..=0 => Level::DEBUG,
        1 => Level::INFO,
        2 => Level::WARN,
        3.. => Level::ERROR,
    }
}

/// `take(join)`: returns `[[[severity, text], …], dropped]` without waiting. It uses no runtime, so it works while the
/// process ends. With `join`, consecutive lines of one severity become one text.
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
    // A host program that has set its own subscriber keeps it.
    let _ = tracing_subscriber::registry().with(logs::layer(Arc::new(&LINES))).try_init();
    let module = native.define_module("Logs")?;
    module.define_singleton_method("configure", function!(configure, 1))?;
    module.define_singleton_method("set_level", function!(set_level, 1))?;
    module.define_singleton_method("wait", function!(wait, 1))?;
    module.define_singleton_method("take", ruby_function!(take, 1))?;
    module.define_singleton_method("offer", function!(offer, 1))?;
    module.define_singleton_method("wake", function!(wake, 0))?;
    native.define_singleton_method("fresh_correlation_id", function!(fresh_correlation_id, 0))
}
