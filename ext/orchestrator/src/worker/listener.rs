//! Receives wake-ups: notices that a queue has steps to claim.
//!
//! Invariant: losing the connection loses no step. The listener reconnects for as long as the process runs, every
//! (re)connection counts as a wake-up, and polling continues meanwhile. A silent connection is tested with a statement:
//! a connection whose peer has vanished would stay silent forever. Neighbours: wakes `dispatcher` and
//! `queue_dispatcher`; `wake_workers` sends.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::Executor;
use tokio::time::timeout;

use crate::error::Error;
use crate::worker::context::Context;

/// The channel of `db/functions/process/wake_workers.sql`.
const CHANNEL: &str = "tasker_ready";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

pub struct Listener {
    pub context: Arc<Context>,
}

impl Listener {
    /// Runs until it is aborted.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let listened = self.listen().await;
            self.context.listening.store(false, Ordering::Relaxed);
            match listened {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    let error = Error::from(error);
                    let class = error.class();
                    tracing::warn!(error.class = class, error.message = %error, retry_in = ?pause, "listener lost its connection");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// Listens on one connection; `Ok` when that connection had worked and was lost.
    async fn listen(&self) -> Result<(), sqlx::Error> {
        let settings = &self.context.settings.database;
        let acquire_timeout = settings.pool.acquire_timeout;
        let connecting = PgListener::connect_with(self.context.functions.pool());
        let mut listener = timeout(settings.connect_timeout, connecting).await.map_err(timed_out)??;
        listener.eager_reconnect(false);
        timeout(acquire_timeout, listener.listen(CHANNEL)).await.map_err(timed_out)??;
        self.context.listening.store(true, Ordering::Relaxed);
        self.context.wake.notify_one();
        self.context.dispatch_wake.notify_one();
        loop {
            match timeout(settings.statement_timeout, listener.try_recv()).await {
                Ok(Ok(Some(notice))) => self.wake_for(notice.payload()),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    timeout(acquire_timeout, listener.execute("select 1")).await.map_err(timed_out)??;
                }
            }
        }
    }

    /// Wakes the dispatchers if this process serves a queue that became ready.
    fn wake_for(&self, ready_queue: &str) {
        if self.context.process.queues().iter().any(|queue| queue == "*" || queue == ready_queue) {
            self.context.wake.notify_one();
            self.context.dispatch_wake.notify_one();
        }
    }
}

fn timed_out(elapsed: tokio::time::error::Elapsed) -> sqlx::Error {
    sqlx::Error::Io(elapsed.into())
}
