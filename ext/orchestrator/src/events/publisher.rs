//! The buffer between publishers of events and the consumer of batches.
//!
//! Invariant: first in, first out; never more than the capacity, except for events that the consumer itself publishes,
//! as it cannot wait for itself. Dropped events are counted.

use std::collections::{HashSet, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::event::Event;
use super::registry::Registry;
use crate::configuration::{Events as Settings, Overflow};
use crate::error::Error;

/// Numbers of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EventStats {
    pub published: u64,
    /// Taken by the consumer, which calls the listeners.
    pub delivered: u64,
    pub dropped: u64,
    pub waiting: usize,
}

/// Buffers the process's events for its listeners. Clones share the buffer.
#[derive(Clone)]
pub struct EventPublisher {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    registry: Registry,
    /// Names of events with a listener.
    interests: RwLock<HashSet<String>>,
    inner: Mutex<Inner>,
    arrived: Notify,
    room: Notify,
}

#[derive(Default)]
struct Inner {
    buffer: VecDeque<Event>,
    /// When the next batch began to fill: the arrival of its first event, or the end of the previous batch.
    since: Option<Instant>,
    closed: bool,
    published: u64,
    delivered: u64,
    dropped: u64,
}

impl EventPublisher {
    pub fn new(settings: Settings) -> Self {
        let shared = Shared {
            settings,
            registry: Registry::default(),
            interests: RwLock::default(),
            inner: Mutex::default(),
            arrived: Notify::new(),
            room: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().expect("no code that holds the buffer's lock can panic")
    }

    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Replaces the patterns of names with a listener.
    ///
    /// # Errors
    /// `Error::Event` if a pattern matches no known name.
    pub fn set_interests(&self, patterns: &[String]) -> Result<(), Error> {
        let mut interests = HashSet::new();
        for pattern in patterns {
            interests.extend(self.shared.registry.resolve(pattern)?);
        }
        *self.shared.interests.write().expect("no code that holds this lock can panic") = interests;
        Ok(())
    }

    /// Whether an event has a listener. Other events need not be built.
    pub fn is_interested(&self, name: &str) -> bool {
        self.shared.interests.read().expect("no code that holds this lock can panic").contains(name)
    }

    /// Whether any event whose name begins with `prefix` has a listener.
    pub fn is_interested_in_any(&self, prefix: &str) -> bool {
        self.shared
            .interests
            .read()
            .expect("no code that holds this lock can panic")
            .iter()
            .any(|name| name.starts_with(prefix))
    }

    /// Adds an event to the buffer; waits for room with `Overflow::Block`. After `close` it is dropped and counted.
    ///
    /// # Errors
    /// `Error::Event` if its name is unknown.
    pub async fn publish(&self, event: Event) -> Result<(), Error> {
        self.shared.registry.verify(&event.name)?;
        let mut event = Some(event);
        loop {
            let mut room = pin!(self.shared.room.notified());
            // Registered before the check, so that room made between check and wait is not missed.
            room.as_mut().enable();
            event = event.and_then(|event| self.push(event, false));
            if event.is_none() {
                return Ok(());
            }
            room.await;
        }
    }

    /// Like `publish`, but never waits for room: for the consumer of the batches.
    pub fn publish_at_once(&self, event: Event) -> Result<(), Error> {
        self.shared.registry.verify(&event.name)?;
        self.push(event, true);
        Ok(())
    }

    /// Returns the event if it has to wait.
    fn push(&self, event: Event, at_once: bool) -> Option<Event> {
        if !self.is_interested(&event.name) {
            return None;
        }
        let mut inner = self.lock();
        if inner.closed {
            inner.dropped += 1;
            return None;
        }
        if inner.buffer.len() >= self.shared.settings.buffer_capacity && !at_once {
            match self.shared.settings.overflow {
                Overflow::Block => return Some(event),
                Overflow::DropOldest => {
                    inner.buffer.pop_front();
                    inner.dropped += 1;
                }
            }
        }
        inner.buffer.push_back(event);
        inner.published += 1;
        inner.since.get_or_insert_with(Instant::now);
        drop(inner);
        self.shared.arrived.notify_one();
        None
    }

    /// Waits for a full batch, or for the flush interval; `None` once closed and empty.
    pub async fn next_batch(&self) -> Option<Vec<Event>> {
        loop {
            let mut arrived = pin!(self.shared.arrived.notified());
            arrived.as_mut().enable();
            let due = {
                let mut inner = self.lock();
                if let Some(batch) = self.take(&mut inner) {
                    return Some(batch);
                }
                if inner.closed {
                    return None;
                }
                inner.since.map(|since| since + self.shared.settings.flush_interval)
            };
            match due {
                // The next turn checks the buffer in either case.
                Some(due) => drop(timeout_at(due.into(), arrived).await),
                None => arrived.await,
            }
        }
    }

    fn take(&self, inner: &mut Inner) -> Option<Vec<Event>> {
        let settings = &self.shared.settings;
        let is_full = inner.buffer.len() >= settings.batch_size;
        let is_due = inner.since.is_some_and(|since| since.elapsed() >= settings.flush_interval);
        if inner.buffer.is_empty() || !(is_full || is_due || inner.closed) {
            return None;
        }
        let size = inner.buffer.len().min(settings.batch_size);
        let batch: Vec<Event> = inner.buffer.drain(..size).collect();
        inner.delivered += batch.len() as u64;
        inner.since = (!inner.buffer.is_empty()).then(Instant::now);
        self.shared.room.notify_waiters();
        Some(batch)
    }

    /// Accepts no more events; the buffer can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.shared.arrived.notify_waiters();
        self.shared.room.notify_waiters();
    }

    pub fn stats(&self) -> EventStats {
        let inner = self.lock();
        let Inner { published, delivered, dropped, .. } = *inner;
        EventStats { published, delivered, dropped, waiting: inner.buffer.len() }
    }
}

/// Publishes events of a committed change. Errors are only logged, as the change is committed.
pub async fn publish_all(publisher: &EventPublisher, events: impl Iterator<Item = Event>) {
    for event in events {
        if let Err(error) = publisher.publish(event).await {
            tracing::error!(%error, "an event was not published");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Map;

    use super::*;

    fn publisher(capacity: usize, batch: usize, overflow: Overflow) -> EventPublisher {
        let flush_interval = Duration::from_millis(20);
        let settings =
            Settings { buffer_capacity: capacity, batch_size: batch, flush_interval, overflow, notifications: false };
        let publisher = EventPublisher::new(settings);
        publisher.registry().register("a.b", false).unwrap();
        publisher.registry().register("a.c", false).unwrap();
        publisher.set_interests(&["a.*".to_owned()]).unwrap();
        publisher
    }

    fn event(number: u64) -> Event {
        Event::new("a.b", None, Map::from_iter([("number".to_owned(), number.into())]))
    }

    fn numbers(batch: &[Event]) -> Vec<u64> {
        batch.iter().map(|event| event.payload["number"].as_u64().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_full_batch_leaves_at_once_and_the_rest_after_the_interval() {
        let publisher = publisher(100, 3, Overflow::Block);
        let began = Instant::now();
        for number in 0..4 {
            publisher.publish(event(number)).await.unwrap();
        }
        assert_eq!(numbers(&publisher.next_batch().await.unwrap()), [0, 1, 2]);
        assert_eq!(numbers(&publisher.next_batch().await.unwrap()), [3]);
        assert!(began.elapsed() >= Duration::from_millis(20));
        let expected = EventStats { published: 4, delivered: 4, dropped: 0, waiting: 0 };
        assert_eq!(publisher.stats(), expected);
    }

    #[tokio::test]
    async fn the_oldest_makes_room_and_is_counted() {
        let publisher = publisher(2, 10, Overflow::DropOldest);
        for number in 0..5 {
            publisher.publish(event(number)).await.unwrap();
        }
        publisher.close();
        assert_eq!(numbers(&publisher.next_batch().await.unwrap()), [3, 4]);
        assert!(publisher.next_batch().await.is_none());
        assert_eq!(publisher.stats().dropped, 3);
    }

    #[tokio::test]
    async fn publishing_waits_for_room_except_for_the_consumer() {
        let publisher = publisher(2, 10, Overflow::Block);
        publisher.publish(event(0)).await.unwrap();
        publisher.publish(event(1)).await.unwrap();
        let waiting = tokio::spawn({
            let publisher = publisher.clone();
            async move { publisher.publish(event(2)).await }
        });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        publisher.publish_at_once(event(9)).unwrap();
        assert_eq!(numbers(&publisher.next_batch().await.unwrap()), [0, 1, 9]);
        waiting.await.unwrap().unwrap();
        assert_eq!(numbers(&publisher.next_batch().await.unwrap()), [2]);
        assert_eq!(publisher.stats().dropped, 0);
    }

    #[tokio::test]
    async fn a_closed_publisher_drains_its_buffer_and_drops_new_events() {
        let publisher = publisher(10, 10, Overflow::Block);
        publisher.publish(event(0)).await.unwrap();
        publisher.close();
        publisher.publish(event(1)).await.unwrap();
        assert_eq!(numbers(&publisher.next_batch().await.unwrap()), [0]);
        assert!(publisher.next_batch().await.is_none());
        assert_eq!(publisher.stats(), EventStats { published: 1, delivered: 1, dropped: 1, waiting: 0 });
    }

    #[tokio::test]
    async fn unwanted_events_are_dropped_and_unknown_names_fail() {
        let publisher = publisher(10, 10, Overflow::Block);
        publisher.set_interests(&["a.c".to_owned()]).unwrap();
        assert!(!publisher.is_interested("a.b") && publisher.is_interested("a.c"));
        publisher.publish(event(0)).await.unwrap();
        assert_eq!(publisher.stats().published, 0);
        let unknown = Event::new("a.bb", None, Map::new());
        assert!(publisher.publish(unknown.clone()).await.unwrap_err().to_string().contains("did you mean `a.b`?"));
        assert!(publisher.publish_at_once(unknown).is_err());
        assert!(publisher.set_interests(&["a.d".to_owned()]).is_err());
        assert!(publisher.is_interested("a.c"), "a rejected pattern changes nothing");
    }

    #[tokio::test]
    async fn the_order_of_each_publisher_is_kept_among_others() {
        let publisher = publisher(50, 7, Overflow::Block);
        let many: Vec<_> = (0..4)
            .map(|start| {
                let publisher = publisher.clone();
                tokio::spawn(async move {
                    for number in 0..200 {
                        publisher.publish(event(start * 1000 + number)).await.unwrap();
                    }
                })
            })
            .collect();
        let mut taken = Vec::new();
        while taken.len() < 800 {
            taken.extend(numbers(&publisher.next_batch().await.unwrap()));
        }
        for one in many {
            one.await.unwrap();
        }
        for start in 0..4 {
            let own: Vec<u64> = taken.iter().copied().filter(|number| number / 1000 == start).collect();
            assert_eq!(own, (0..200).map(|number| start * 1000 + number).collect::<Vec<_>>());
        }
    }
}
