//! Wake-ups: listens for notices that a queue has something to claim.
//!
//! Invariant: losing the connection loses no step. It is reconnected for as long as the process runs, every
//! (re)connection counts as a wake-up, and the poll goes on meanwhile. A connection that has been silent is asked
//! whether it still works: one whose other side vanished would be silent for ever. Neighbours: `dispatcher` is woken
//! here; `wake_workers` sends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{Executor, PgPool};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::configuration::Database as Settings;
use crate::error::Error;

/// The channel of `db/functions/process/wake_workers.sql`.
const CHANNEL: &str = "tasker_ready";
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_CAP: Duration = Duration::from_secs(5);

pub struct Listener {
    pub pool: PgPool,
    pub queues: Vec<String>,
    /// Notified for every notice about one of the queues.
    pub wake: Arc<Notify>,
    pub listening: Arc<AtomicBool>,
    pub settings: Settings,
}

impl Listener {
    /// Runs until it is aborted.
    pub async fn run(self) {
        let mut pause = RECONNECT_FIRST;
        loop {
            let listened = self.listen().await;
            self.listening.store(false, Ordering::Relaxed);
            match listened {
                Ok(()) => pause = RECONNECT_FIRST,
                Err(error) => {
                    let error = Error::from(error);
                    let class = error.class();
                    tracing::warn!(error.class = class, error.message = %error, retry_in = ?pause, "listener lost its connection");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RECONNECT_CAP);
                }
            }
        }
    }

    /// Listens on one connection; `Ok` when that connection had worked and was lost.
    async fn listen(&self) -> Result<(), sqlx::Error> {
        let acquire_timeout = self.settings.pool.acquire_timeout;
        let connecting = PgListener::connect_with(&self.pool);
        let mut listener = timeout(self.settings.connect_timeout, connecting).await.map_err(timed_out)??;
        listener.eager_reconnect(false);
        timeout(acquire_timeout, listener.listen(CHANNEL)).await.map_err(timed_out)??;
        self.listening.store(true, Ordering::Relaxed);
        self.wake.notify_one();
        loop {
            match timeout(self.settings.statement_timeout, listener.try_recv()).await {
                Ok(Ok(Some(notice))) => self.notice(notice.payload()),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    timeout(acquire_timeout, listener.execute("select 1")).await.map_err(timed_out)??;
                }
            }
        }
    }

    fn notice(&self, about: &str) {
        if self.queues.iter().any(|queue| queue == "*" || queue == about) {
            self.wake.notify_one();
        }
    }
}

fn timed_out(elapsed: tokio::time::error::Elapsed) -> sqlx::Error {
    sqlx::Error::Io(elapsed.into())
}
