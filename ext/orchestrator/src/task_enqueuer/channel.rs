//! An enqueuer whose jobs another thread takes and enqueues, such as a thread of Ruby, which Rust must not call.
//!
//! Invariant: each batch gets one response. A batch that was taken but not settled, as when its thread has ended,
//! counts as failed when the next one is taken. Neighbour: the extension's `Orchestrator` takes batches for Ruby.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use tokio::sync::{mpsc, oneshot};

use crate::task_enqueuer::{EnqueueError, Enqueued, StepJob, TaskEnqueuer};

/// Jobs for the thread that enqueues, and where it reports.
struct Request {
    jobs: Vec<StepJob>,
    response: oneshot::Sender<Enqueued>,
}

/// A batch that the thread has taken.
#[derive(Debug)]
pub struct JobBatch {
    pub jobs: Vec<StepJob>,
}

/// Passes batches to a thread, one at a time.
pub struct ChannelEnqueuer {
    requests: mpsc::Sender<Request>,
    taken: tokio::sync::Mutex<mpsc::Receiver<Request>>,
    unsettled: Mutex<Option<oneshot::Sender<Enqueued>>>,
}

impl Default for ChannelEnqueuer {
    fn default() -> Self {
        let (requests, taken) = mpsc::channel(1);
        Self { requests, taken: tokio::sync::Mutex::new(taken), unsettled: Mutex::default() }
    }
}

impl ChannelEnqueuer {
    /// Waits for the next batch. Only one thread takes batches at a time.
    pub async fn next_batch(&self) -> Option<JobBatch> {
        let mut requests = self.taken.lock().await;
        drop(self.take_unsettled());
        let Request { jobs, response } = requests.recv().await?;
        *self.unsettled.lock().expect("no code that holds this lock can panic") = Some(response);
        Some(JobBatch { jobs })
    }

    /// Reports the outcome of the batch that was taken last; without one it has no effect.
    pub fn settle(&self, enqueued: Enqueued) {
        if let Some(response) = self.take_unsettled() {
            // Without a receiver the process is stopping, and its claims return.
            let _ = response.send(enqueued);
        }
    }

    fn take_unsettled(&self) -> Option<oneshot::Sender<Enqueued>> {
        self.unsettled.lock().expect("no code that holds this lock can panic").take()
    }
}

impl TaskEnqueuer for ChannelEnqueuer {
    fn enqueue(&self, jobs: Vec<StepJob>) -> Pin<Box<dyn Future<Output = Enqueued> + Send + '_>> {
        let count = jobs.len();
        let (response, enqueued) = oneshot::channel();
        Box::pin(async move {
            let lost = || {
                let message = "the thread that enqueues jobs has ended".to_owned();
                vec![Err(EnqueueError { class: "TaskerCore::StoppedError".to_owned(), message }); count]
            };
            if self.requests.send(Request { jobs, response }).await.is_err() {
                return lost();
            }
            enqueued.await.unwrap_or_else(|_| lost())
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::claim::ClaimKey;

    fn job(token: i64) -> StepJob {
        StepJob {
            claim: ClaimKey { token, task_id: 1, position: 0, attempt: 1 },
            queue: "default".to_owned(),
            priority: 0,
            task_uuid: Uuid::nil(),
            correlation_id: Uuid::nil(),
            namespace: "shop".to_owned(),
            workflow: "order".to_owned(),
            step: "charge".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_batch_is_settled_by_the_thread_that_took_it() {
        let channel = ChannelEnqueuer::default();
        let (enqueued, ()) = tokio::join!(channel.enqueue(vec![job(7), job(8)]), async {
            let batch = channel.next_batch().await.unwrap();
            assert_eq!(batch.jobs, [job(7), job(8)]);
            channel.settle(vec![Ok(()), Err(EnqueueError { class: "E".to_owned(), message: "full".to_owned() })]);
            channel.settle(vec![Ok(())]); // none is taken
        });
        assert_eq!(enqueued[0], Ok(()));
        assert_eq!(enqueued[1].as_ref().unwrap_err().message, "full");
    }

    #[tokio::test]
    async fn a_batch_that_is_not_settled_fails_when_the_next_one_is_taken() {
        let channel = ChannelEnqueuer::default();
        let (first, second) = tokio::join!(
            async {
                let first = channel.enqueue(vec![job(7)]).await;
                (first, channel.enqueue(vec![job(8)]).await)
            },
            async {
                assert_eq!(channel.next_batch().await.unwrap().jobs, [job(7)]);
                let batch = channel.next_batch().await.unwrap();
                channel.settle(vec![Ok(())]);
                batch.jobs
            }
        );
        assert!(first.0[0].as_ref().unwrap_err().message.contains("has ended"));
        assert_eq!((first.1, second), (vec![Ok(())], vec![job(8)]));
    }
}
