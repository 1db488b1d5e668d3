//! Wake-ups: listens for notices that a queue has something to claim.
//!
//! Invariant: losing the connection loses no step. It is reconnected for as long as the process runs, every
//! (re)connection counts as a wake-up, and the poll goes on meanwhile. Neighbours: `dispatcher` is woken here;
//! `wake_workers` sends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::PgPool;
use tokio::sync::Notify;

/// The channel of `db/functions/wake_workers.sql`.
const CHANNEL: &str = "tasker_ready";
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_CAP: Duration = Duration::from_secs(5);

/// Runs until it is aborted. `wake` is notified for every notice about one of `queues`.
pub async fn run(pool: PgPool, queues: Vec<String>, wake: Arc<Notify>, listening: Arc<AtomicBool>) {
    let mut pause = RECONNECT_FIRST;
    loop {
        match listen(&pool, &queues, &wake, &listening).await {
            Ok(()) => pause = RECONNECT_FIRST,
            Err(error) => {
                tracing::warn!(%error, retry_in = ?pause, "listener lost its connection");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECONNECT_CAP);
            }
        }
        listening.store(false, Ordering::Relaxed);
    }
}

/// Listens on one connection; `Ok` when that connection had worked and was lost.
async fn listen(pool: &PgPool, queues: &[String], wake: &Notify, listening: &AtomicBool) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    listening.store(true, Ordering::Relaxed);
    wake.notify_one();
    while let Some(notice) = listener.try_recv().await? {
        if queues.iter().any(|queue| queue == "*" || queue == notice.payload()) {
            wake.notify_one();
        }
    }
    Ok(())
}
