//! The correlation id that follows a task through every process and log line, and the other fields of a log line's
//! context.
//!
//! Invariant: a context is current in one thread or one asynchronous task only. Both share one storage: blocks and
//! tasks nest, and the innermost context applies. Neighbours: `logs` adds it to lines; `handler` sets it around each
//! attempt; `task_initializer` passes it to new tasks.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A UUID; a fresh one has version 7, so that ids sort by creation time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CorrelationId(Uuid);

impl CorrelationId {
    /// A new id, of the current time.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for CorrelationId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for CorrelationId {
    type Err = uuid::Error;

    /// Parses only the form with hyphens, in letters of either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hyphenated: uuid::fmt::Hyphenated = text.parse()?;
        Ok(Self(hyphenated.into_uuid()))
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The current work, added to every line that is logged meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogContext {
    pub correlation_id: Option<CorrelationId>,
    pub task_id: Option<i64>,
    pub workflow: Option<String>,
    pub step: Option<String>,
    pub attempt: Option<u32>,
}

impl LogContext {
    /// A context with this id and no other field.
    pub fn of(correlation_id: CorrelationId) -> Self {
        Self { correlation_id: Some(correlation_id), ..Self::default() }
    }

    /// The current context, if any.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs `work` on this thread with this context.
    pub fn within<R>(self, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(Arc::new(self), work)
    }

    /// The future with this context, wherever it is polled.
    pub fn around<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Arc::new(self), future)
    }
}

/// The current correlation id.
pub fn current() -> Option<CorrelationId> {
    LogContext::current().and_then(|context| context.correlation_id)
}

/// The future with the caller's context, which a spawned task would not have.
pub fn carried<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let context = LogContext::current().unwrap_or_default();
    CURRENT.scope(context, future)
}

tokio::task_local! {
    static CURRENT: Arc<LogContext>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> CorrelationId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn fresh_ids_are_of_version_7_and_sort_by_their_time() {
        let ids: Vec<_> = (0..100).map(|_| CorrelationId::fresh()).collect();
        assert!(ids.iter().all(|id| id.as_uuid().get_version_num() == 7));
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn only_hyphenated_uuids_parse_and_print_in_lower_case() {
        let text = "01A2079A-97AA-7CA3-8336-D6DF7D466282";
        assert_eq!(text.parse::<CorrelationId>().unwrap().to_string(), text.to_lowercase());
        for text in ["", "order-42", "01a2079a97aa7ca38336d6df7d466282", "{01a2079a-97aa-7ca3-8336-d6df7d466282}"] {
            assert!(text.parse::<CorrelationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_thread_has_the_innermost_context_and_then_the_outer_one() {
        assert_eq!(current(), None);
        LogContext::of(id(1)).within(|| {
            assert_eq!(current(), Some(id(1)));
            let caught = std::panic::catch_unwind(|| LogContext::of(id(2)).within(|| panic!("{}", current().unwrap())));
            assert!(caught.unwrap_err().downcast_ref::<String>().unwrap().ends_with("0002"));
            assert_eq!(current(), Some(id(1)), "after a panic too");
            assert_eq!(std::thread::spawn(current).join().unwrap(), None, "another thread has its own");
        });
        assert_eq!(current(), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tasks_keep_their_contexts_across_threads() {
        let tasks: Vec<_> = (1..=50)
            .map(|number| {
                tokio::spawn(LogContext::of(id(number)).around(async move {
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                        assert_eq!(current(), Some(id(number)));
                    }
                }))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(current(), None);
    }

    #[tokio::test]
    async fn a_spawned_task_inherits_the_context_only_if_carried() {
        let outer = LogContext { task_id: Some(7), ..LogContext::of(id(1)) };
        outer
            .around(async {
                LogContext::of(id(2)).within(|| assert_eq!(current(), Some(id(2))));
                assert_eq!(tokio::spawn(async { current() }).await.unwrap(), None);
                let carried = tokio::spawn(carried(async { LogContext::current().unwrap() })).await.unwrap();
                assert_eq!((carried.correlation_id, carried.task_id), (Some(id(1)), Some(7)));
            })
            .await;
    }
}
