//! Notifies other processes of ready steps, debounced and off the hot path.
//!
//! Invariant: a notice is sent after the commit that made the steps ready, at most the debounce time later. Neighbours:
//! dispatcher and maintenance name the queues, `wake_workers` notifies idle workers only.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::database::functions::Functions;

/// The sending side: names queues that have something to claim.
#[derive(Clone)]
pub struct Notifier {
    queues: mpsc::UnboundedSender<Vec<String>>,
}

impl Notifier {
    /// Starts the task that collects queues and notifies; it ends when the last `Notifier` is dropped.
    pub fn start(functions: Functions, debounce: Duration) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<String>>();
        tokio::spawn(async move {
            while let Some(first) = receiver.recv().await {
                let mut queues = BTreeSet::from_iter(first);
                tokio::time::sleep(debounce).await;
                while let Ok(more) = receiver.try_recv() {
                    queues.extend(more);
                }
                let queues: Vec<String> = queues.into_iter().collect();
                if let Err(error) = functions.wake_workers(&queues).await {
                    tracing::debug!(error.class = error.class(), error.message = %error, ?queues, "no wake-up sent; other workers will find the steps by polling");
                }
            }
        });
        Self { queues: sender }
    }

    pub fn notify(&self, queues: Vec<String>) {
        if !queues.is_empty() {
            // A closed channel means that the orchestrator has stopped; other workers find the steps by polling.
            let _ = self.queues.send(queues);
        }
    }
}
