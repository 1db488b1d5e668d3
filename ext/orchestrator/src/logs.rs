//! Log lines with fields: converts events of `tracing` to records for a logger.
//!
//! Invariant: an event below the logger's level is not formatted, and a line always has a correlation id: that of the
//! current work, or else that of the process. Neighbours: `correlation` has the current context; `format` writes the
//! text; `buffer` holds lines until they are taken. Nothing here is global: a program installs the layer itself.

pub mod buffer;
pub mod format;
mod record;

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::correlation::{CorrelationId, LogContext};
use format::{Constants, Format};

pub use buffer::{Buffer, Buffers};
pub use record::Record;

/// Prefix of our crates' names; only warnings and errors of other crates are logged.
const OURS: &str = "tasker_";

/// Receives log records.
pub trait StructuredLogger: Send + Sync + 'static {
    /// The most detailed level; other events are neither formatted nor passed in. Call [`level_changed`] after a
    /// change.
    fn level(&self) -> LevelFilter;

    /// The id of lines outside of any work with its own id.
    fn correlation_id(&self) -> CorrelationId;

    /// The operating system's id of this process.
    fn process(&self) -> u32 {
        std::process::id()
    }

    /// Writes a record, or keeps it to be written.
    fn log(&self, record: &Record);
}

/// A logger with static lifetime.
impl<L: StructuredLogger> StructuredLogger for &'static L {
    fn level(&self) -> LevelFilter {
        (**self).level()
    }

    fn correlation_id(&self) -> CorrelationId {
        (**self).correlation_id()
    }

    fn process(&self) -> u32 {
        (**self).process()
    }

    fn log(&self, record: &Record) {
        (**self).log(record);
    }
}

/// A layer that passes events to a logger; it can be combined with others.
pub fn layer<S>(logger: Arc<impl StructuredLogger>) -> impl Layer<S>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    let gate = LevelGate { logger: logger.clone() };
    LogLayer { logger }.with_filter(gate)
}

/// Makes `tracing` re-evaluate which events are enabled.
pub fn level_changed() {
    tracing_core::callsite::rebuild_interest_cache();
}

struct LogLayer<L> {
    logger: Arc<L>,
}

impl<L: StructuredLogger, S: Subscriber> Layer<S> for LogLayer<L> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let context = LogContext::current().unwrap_or_default();
        let context = match context.correlation_id {
            Some(_) => context,
            None => Arc::new(LogContext { correlation_id: Some(self.logger.correlation_id()), ..(*context).clone() }),
        };
        self.logger.log(&Record {
            at: SystemTime::now(),
            level: *event.metadata().level(),
            message: fields.message,
            context,
            process: self.logger.process(),
            fields: fields.others,
        });
    }
}

struct LevelGate<L> {
    logger: Arc<L>,
}

impl<L: StructuredLogger> LevelGate<L> {
    fn is_enabled(&self, metadata: &Metadata<'_>) -> bool {
        let foreign = !metadata.target().starts_with(OURS);
        let level = self.logger.level();
        !metadata.is_span() && *metadata.level() <= if foreign { level.min(LevelFilter::WARN) } else { level }
    }
}

impl<L: StructuredLogger, S> Filter<S> for LevelGate<L> {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.is_enabled(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.is_enabled(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.logger.level())
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(String, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

/// Writes each line at once, for Rust programs without a logger of their own.
pub struct LineWriter<W> {
    level: LevelFilter,
    correlation_id: CorrelationId,
    format: Format,
    out: Mutex<W>,
}

impl<W: Write + Send + 'static> LineWriter<W> {
    /// A logger with the most detailed level to write; its lines outside of any work have a fresh correlation id.
    pub fn new(level: LevelFilter, format: Format, out: W) -> Self {
        Self { level, correlation_id: CorrelationId::fresh(), format, out: Mutex::new(out) }
    }
}

impl<W: Write + Send + 'static> StructuredLogger for LineWriter<W> {
    fn level(&self) -> LevelFilter {
        self.level
    }

    fn correlation_id(&self) -> CorrelationId {
        self.correlation_id
    }

    fn log(&self, record: &Record) {
        let line = format!("{}\n", self.format.stamped_line(record, &Constants::new()));
        if let Ok(mut out) = self.out.lock() {
            // There is no other place to report that a line could not be written.
            let _ = out.write_all(line.as_bytes());
        }
    }
}

/// Runs work under a logger, one at a time: `tracing` caches the interest in events for the whole process, and may mix
/// up the subscribers of several threads.
#[cfg(test)]
pub(crate) fn with_logger<R>(logger: Arc<impl StructuredLogger>, work: impl FnOnce() -> R) -> R {
    use tracing_subscriber::prelude::*;

    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(logger)), work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;
    use uuid::Uuid;

    /// Collects records.
    struct Recorder {
        level: Mutex<LevelFilter>,
        correlation_id: CorrelationId,
        records: Mutex<Vec<Record>>,
    }

    impl Recorder {
        fn at(level: LevelFilter) -> Arc<Self> {
            let (level, correlation_id) = (Mutex::new(level), CorrelationId::fresh());
            Arc::new(Self { level, correlation_id, records: Mutex::default() })
        }

        fn messages(&self) -> Vec<String> {
            self.records.lock().unwrap().iter().map(|record| record.message.clone()).collect()
        }

        fn last(&self) -> Record {
            self.records.lock().unwrap().last().unwrap().clone()
        }
    }

    impl StructuredLogger for Recorder {
        fn level(&self) -> LevelFilter {
            *self.level.lock().unwrap()
        }

        fn correlation_id(&self) -> CorrelationId {
            self.correlation_id
        }

        fn log(&self, record: &Record) {
            self.records.lock().unwrap().push(record.clone());
        }
    }

    /// Counts how often it was formatted.
    struct Costly<'a>(&'a Mutex<u32>);

    impl fmt::Display for Costly<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            *self.0.lock().unwrap() += 1;
            f.write_str("formatted")
        }
    }

    #[test]
    fn events_below_the_level_are_not_formatted() {
        let logger = Recorder::at(LevelFilter::WARN);
        let formatted = Mutex::new(0);
        with_logger(logger.clone(), || {
            let event = || tracing::info!(target: "tasker_test", cost = %Costly(&formatted), "step completed");
            event();
            assert_eq!((logger.messages().len(), *formatted.lock().unwrap()), (0, 0));
            assert!(!tracing::enabled!(target: "tasker_test", Level::INFO));
            *logger.level.lock().unwrap() = LevelFilter::INFO;
            level_changed();
            event();
            assert!(tracing::enabled!(target: "tasker_test", Level::INFO));
        });
        assert_eq!((logger.messages(), *formatted.lock().unwrap()), (vec!["step completed".to_owned()], 1));
    }

    #[test]
    fn other_crates_log_warnings_and_errors_only() {
        let logger = Recorder::at(LevelFilter::TRACE);
        with_logger(logger.clone(), || {
            tracing::debug!(target: "sqlx::query", "a statement");
            tracing::warn!(target: "sqlx::query", "a slow statement");
            tracing::trace!(target: "tasker_orchestrator::worker::dispatcher", "ours");
        });
        assert_eq!(logger.messages(), ["a slow statement", "ours"]);
    }

    #[test]
    fn a_record_has_the_fields_of_its_event_with_their_types() {
        let logger = Recorder::at(LevelFilter::INFO);
        with_logger(logger.clone(), || {
            tracing::warn!(target: "tasker_test", text = "a b", count = 3_u64, below = -1, ratio = 0.5, yes = true, debug = ?[1], "said");
        });
        let record = logger.last();
        assert_eq!((record.message.as_str(), record.level, record.process), ("said", Level::WARN, std::process::id()));
        let fields: Vec<String> = record.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(fields, [r#"text="a b""#, "count=3", "below=-1", "ratio=0.5", "yes=true", r#"debug="[1]""#]);
    }

    #[test]
    fn a_record_has_the_current_context_or_the_process_id() {
        let logger = Recorder::at(LevelFilter::INFO);
        let id: CorrelationId = Uuid::from_u128(1).into();
        with_logger(logger.clone(), || {
            tracing::info!(target: "tasker_test", "one");
            let process = Some(logger.correlation_id);
            assert_eq!(logger.last().context.correlation_id, process);
            LogContext { task_id: Some(7), ..LogContext::of(id) }
                .within(|| tracing::info!(target: "tasker_test", "two"));
            let context = logger.last().context;
            assert_eq!((context.correlation_id, context.task_id), (Some(id), Some(7)));
            LogContext { task_id: Some(8), ..LogContext::default() }
                .within(|| tracing::info!(target: "tasker_test", "three"));
            let context = logger.last().context;
            assert_eq!((context.correlation_id, context.task_id), (process, Some(8)));
        });
    }

    #[test]
    fn a_program_in_rust_writes_its_lines_itself() {
        struct Shared(Arc<Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let written = Arc::new(Mutex::new(Vec::new()));
        let logger = LineWriter::new(LevelFilter::INFO, Format::Human, Shared(written.clone()));
        with_logger(Arc::new(logger), || {
            tracing::info!(target: "tasker_test", state = "complete", "task ended");
            tracing::debug!(target: "tasker_test", "not this");
        });
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("Z INFO tasker_core: task ended correlation_id="), "{text}");
        assert!(text.ends_with(" state=complete\n"), "{text}");
    }
}
