//! A bounded buffer of log lines, one for each process.
//!
//! Invariant: logging never waits for the consumer. A full buffer rejects lines before they are formatted, and counts
//! them. A forked child has its own buffer: its parent's lines stay with the parent, and its parent's locks, which
//! another thread may have held at the fork, are never touched. Neighbour: the extension passes the lines to Ruby.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Notify;
use tracing::level_filters::LevelFilter;
use tracing::Level;

use super::format::{Constants, Format};
use super::record::Record;
use super::StructuredLogger;
use crate::correlation::CorrelationId;

/// The format of lines, and the capacity of the buffer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub format: Format,
    pub capacity: usize,
    /// Added to every line.
    pub fields: Constants,
    /// The id of lines that belong to no task.
    pub correlation_id: CorrelationId,
}

impl Settings {
    /// The settings before `configure`: the first lines of a process must not be lost.
    fn initial() -> Self {
        let (fields, correlation_id) = (Constants::new(), CorrelationId::fresh());
        Self { format: Format::Human, capacity: 1_000, fields, correlation_id }
    }
}

/// A line in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

/// Lines taken together.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Oldest first.
    pub lines: Vec<Line>,
    /// Number of lines rejected since the last batch.
    pub dropped: u64,
}

/// The lines of one process.
pub struct Buffer {
    settings: Mutex<Arc<Settings>>,
    lines: Mutex<VecDeque<Line>>,
    dropped: AtomicU64,
    arrived: Notify,
}

impl Batch {
    /// Joins consecutive lines of the same level to one text.
    pub fn joined(self) -> Self {
        let mut joined: Vec<Line> = Vec::new();
        for line in self.lines {
            match joined.last_mut().filter(|last| last.level == line.level) {
                Some(last) => last.text.extend(["\n", &line.text]),
                None => joined.push(line),
            }
        }
        Self { lines: joined, dropped: self.dropped }
    }
}

impl Buffer {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Mutex::new(Arc::new(settings)),
            lines: Mutex::default(),
            dropped: AtomicU64::new(0),
            arrived: Notify::new(),
        }
    }

    /// Replaces the settings; lines in the buffer stay unchanged.
    pub fn configure(&self, settings: Settings) {
        *self.settings.lock().expect(UNPOISONED) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.lock().expect(UNPOISONED).clone()
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().expect(UNPOISONED)
    }

    /// Adds a record without waiting; returns whether there was room.
    pub fn offer(&self, record: &Record) -> bool {
        let settings = self.settings();
        let added = self.lines().len() < settings.capacity && {
            let line = Line { level: record.level, text: settings.format.line(record, &settings.fields) };
            let mut lines = self.lines();
            let room = lines.len() < settings.capacity;
            if room {
                lines.push_back(line);
            }
            room
        };
        if added {
            self.arrived.notify_one();
        }
        added
    }

    /// Like `offer`, but counts a rejected record.
    fn add(&self, record: &Record) {
        if !self.offer(record) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes at most `max` lines without waiting.
    pub fn take(&self, max: usize) -> Batch {
        let mut lines = self.lines();
        let count = lines.len().min(max);
        Batch { lines: lines.drain(..count).collect(), dropped: self.dropped.swap(0, Ordering::Relaxed) }
    }

    /// Waits until there are lines, and then for `gather`, so that they are taken in fewer batches.
    pub async fn wait(&self, timeout: Duration, gather: Duration) {
        let waiting = async {
            if self.lines().is_empty() {
                self.arrived.notified().await;
            }
            if !self.lines().is_empty() {
                tokio::time::sleep(gather).await;
            }
        };
        // A timeout is not an error.
        let _ = tokio::time::timeout(timeout, waiting).await;
    }

    /// Ends every wait, or the next one if none is in progress.
    pub fn wake(&self) {
        self.arrived.notify_waiters();
        self.arrived.notify_one();
    }
}

const UNPOISONED: &str = "no code that holds a lock of the buffer can panic";

/// The buffers of a process and of the processes that it was forked from, found by process id.
pub struct Buffers {
    level: AtomicUsize,
    process: fn() -> u32,
    first: OnceLock<Box<Node>>,
}

struct Node {
    pid: u32,
    buffer: Buffer,
    /// The buffer of a forked child.
    next: OnceLock<Box<Node>>,
}

const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

impl Buffers {
    /// Logs warnings and errors until `set_level`; `process` returns this process's id.
    pub const fn new(process: fn() -> u32) -> Self {
        Self { level: AtomicUsize::new(2), process, first: OnceLock::new() }
    }

    /// The buffer of a process; a child's is created at its first use.
    pub fn of(&self, pid: u32) -> &Buffer {
        let mut place = &self.first;
        loop {
            let node = place.get_or_init(|| {
                Box::new(Node { pid, buffer: Buffer::new(Settings::initial()), next: OnceLock::new() })
            });
            if node.pid == pid {
                return &node.buffer;
            }
            place = &node.next;
        }
    }

    pub fn set_level(&self, level: LevelFilter) {
        let number = LEVELS.iter().position(|known| *known == level).expect("there are no other levels");
        if self.level.swap(number, Ordering::Relaxed) != number {
            super::level_changed();
        }
    }
}

impl StructuredLogger for Buffers {
    fn level(&self) -> LevelFilter {
        LEVELS[self.level.load(Ordering::Relaxed)]
    }

    fn correlation_id(&self) -> CorrelationId {
        self.of(self.process()).settings().correlation_id
    }

    fn process(&self) -> u32 {
        (self.process)()
    }

    fn log(&self, record: &Record) {
        self.of(record.process).add(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::LogContext;
    use serde_json::{json, Value};
    use std::time::{Instant, SystemTime};

    fn record(process: u32, message: &str) -> Record {
        Record {
            at: SystemTime::now(),
            level: Level::INFO,
            message: message.to_owned(),
            context: Arc::new(LogContext::of(CorrelationId::fresh())),
            process,
            fields: Vec::new(),
        }
    }

    fn settings(changes: Value) -> Settings {
        let mut settings = json!({"format": "json", "capacity": 10, "fields": {},
            "correlation_id": "01a2079a-97aa-7ca3-8336-d6df7d466282"});
        settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(settings).unwrap()
    }

    fn messages(batch: &Batch) -> Vec<String> {
        let message =
            |line: &Line| serde_json::from_str::<Value>(&line.text).unwrap()["message"].as_str().unwrap().to_owned();
        batch.lines.iter().map(message).collect()
    }

    #[test]
    fn lines_are_taken_oldest_first_and_once() {
        let buffer = Buffer::new(settings(json!({})));
        for message in ["a", "b", "c"] {
            buffer.add(&record(1, message));
        }
        assert_eq!(messages(&buffer.take(2)), ["a", "b"]);
        assert_eq!(messages(&buffer.take(2)), ["c"]);
        assert_eq!(buffer.take(2), Batch { lines: vec![], dropped: 0 });
    }

    #[test]
    fn consecutive_lines_of_one_level_can_be_joined() {
        let buffer = Buffer::new(settings(json!({"capacity": 4})));
        let lines =
            [(Level::INFO, "a"), (Level::INFO, "b"), (Level::WARN, "c"), (Level::INFO, "d"), (Level::INFO, "no room")];
        for (level, message) in lines {
            buffer.add(&Record { level, ..record(1, message) });
        }
        let joined = buffer.take(10).joined();
        let counts: Vec<_> = joined.lines.iter().map(|line| (line.level, line.text.lines().count())).collect();
        assert_eq!((counts, joined.dropped), (vec![(Level::INFO, 2), (Level::WARN, 1), (Level::INFO, 1)], 1));
        let second = joined.lines[0].text.lines().nth(1).unwrap();
        assert!(second.contains(r#""message":"b""#), "{second}");
    }

    #[test]
    fn a_full_buffer_rejects_lines_and_counts_them() {
        let buffer = Buffer::new(settings(json!({"capacity": 2})));
        for message in ["a", "b", "c", "d", "e"] {
            buffer.add(&record(1, message));
        }
        let batch = buffer.take(10);
        assert_eq!((messages(&batch), batch.dropped), (vec!["a".to_owned(), "b".to_owned()], 3));
        buffer.add(&record(1, "f"));
        let batch = buffer.take(10);
        assert_eq!(
            (messages(&batch), batch.dropped),
            (vec!["f".to_owned()], 0),
            "there is room, and the count restarts"
        );
    }

    #[test]
    fn no_line_is_lost_or_duplicated_among_threads() {
        let buffer = Arc::new(Buffer::new(settings(json!({"capacity": 500}))));
        let taken = std::thread::scope(|scope| {
            for writer in 0..4 {
                let buffer = buffer.clone();
                scope.spawn(move || (0..1000).for_each(|number| buffer.add(&record(1, &format!("{writer}-{number}")))));
            }
            let (mut seen, mut dropped) = (Vec::new(), 0);
            while seen.len() + dropped < 4000 {
                let batch = buffer.take(100);
                seen.extend(messages(&batch));
                dropped += usize::try_from(batch.dropped).unwrap();
            }
            (seen, dropped)
        });
        let different: std::collections::HashSet<_> = taken.0.iter().collect();
        assert_eq!((different.len(), taken.0.len() + taken.1), (taken.0.len(), 4000));
    }

    #[test]
    fn a_fork_has_its_own_buffer_even_while_the_parents_is_locked() {
        let buffers = Buffers::new(std::process::id);
        buffers.log(&record(1, "the parent's"));
        let _another_thread_holds_it = buffers.of(1).lines();
        buffers.log(&record(2, "the child's"));
        buffers.log(&record(3, "the grandchild's"));
        buffers.of(2).configure(settings(json!({})));
        buffers.log(&record(2, "the child's second"));
        let texts: Vec<String> = buffers.of(2).take(10).lines.into_iter().map(|line| line.text).collect();
        assert_eq!(texts.len(), 2);
        assert!(
            texts[0].starts_with("tasker_core: the child's ") && texts[1].contains(r#""message":"the child's second""#)
        );
        assert_eq!(buffers.of(3).take(10).lines.len(), 1);
    }

    #[test]
    fn new_settings_apply_to_later_lines_only() {
        let buffer = Buffer::new(settings(json!({})));
        buffer.add(&record(1, "a"));
        buffer.configure(settings(json!({"format": "human", "fields": {"service": "shop"}})));
        buffer.add(&record(1, "b"));
        let lines = buffer.take(10).lines;
        assert!(lines[0].text.starts_with('{') && !lines[0].text.contains("service"), "{}", lines[0].text);
        assert!(
            lines[1].text.starts_with("tasker_core: b ") && lines[1].text.ends_with(" service=shop"),
            "{}",
            lines[1].text
        );
    }

    #[test]
    fn events_reach_this_processs_buffer_at_its_level_with_its_id() {
        static BUFFERS: Buffers = Buffers::new(std::process::id);
        let buffer = BUFFERS.of(std::process::id());
        buffer.configure(settings(json!({})));
        let logger: Arc<&'static Buffers> = Arc::new(&BUFFERS);
        super::super::with_logger(logger, || {
            let both = || {
                tracing::info!(target: "tasker_test", "informed");
                tracing::warn!(target: "tasker_test", "warned");
            };
            both();
            BUFFERS.set_level(LevelFilter::INFO);
            both();
            BUFFERS.set_level(LevelFilter::OFF);
            both();
        });
        let batch = buffer.take(10);
        assert_eq!(messages(&batch), ["warned", "informed", "warned"]);
        assert!(batch.lines.iter().all(|line| line.text.contains("01a2079a-97aa-7ca3-8336-d6df7d466282")));
    }

    #[tokio::test]
    async fn a_wait_ends_with_lines_or_on_wake_or_on_timeout() {
        let buffer = Arc::new(Buffer::new(settings(json!({}))));
        let far = Duration::from_secs(60);
        let waiting = |timeout, gather| {
            let buffer = buffer.clone();
            tokio::spawn(async move {
                buffer.wait(timeout, gather).await;
                buffer.take(10)
            })
        };
        let gathering = waiting(far, Duration::from_millis(50));
        tokio::task::yield_now().await;
        buffer.add(&record(1, "a"));
        tokio::task::yield_now().await;
        buffer.add(&record(1, "b"));
        assert_eq!(messages(&gathering.await.unwrap()), ["a", "b"], "the second arrived while lines were gathered");
        let woken = waiting(far, far);
        tokio::task::yield_now().await;
        buffer.wake();
        // Two lines arrived, and one notification was consumed: the other may end a wait early, but never late.
        woken.await.unwrap();
        let began = Instant::now();
        waiting(Duration::from_millis(10), far).await.unwrap();
        assert!(began.elapsed() < far);
    }
}
