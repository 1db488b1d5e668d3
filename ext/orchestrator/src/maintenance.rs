//! Heartbeats and sweeps of one process.
//!
//! Invariant: both go on while the dispatcher is busy or waiting for the database. Neighbours: `process` is
//! re-entered here if the database gave it up; the dispatcher says when the next retry is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch, Notify};

use crate::configuration::Configuration;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::leases::Leases;
use crate::process::Process;
use crate::step::ReleaseReason;
use crate::waker::Waker;

pub struct Maintenance {
    pub kernel: Kernel,
    pub process: Arc<Process>,
    pub leases: Arc<Leases>,
    pub waker: Waker,
    /// Wakes this process's own dispatcher.
    pub wake: Arc<Notify>,
    /// Times until retries that this process has scheduled.
    pub due: mpsc::UnboundedReceiver<Duration>,
    /// Turns true when no further chore is to be begun.
    pub stopping: watch::Receiver<bool>,
    pub settings: Arc<Configuration>,
}

impl Maintenance {
    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        let mut next_heartbeat = Instant::now() + self.settings.leases.heartbeat_interval;
        let mut next_sweep = Instant::now();
        let mut next_look = Instant::now() + self.settings.execution.claim_ahead_wait;
        loop {
            let next = next_heartbeat.min(next_sweep).min(next_look);
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep_until(next.into()) => {}
                Some(due) = self.due.recv() => next_sweep = next_sweep.min(Instant::now() + due),
            }
            let now = Instant::now();
            if now >= next_heartbeat {
                report("heartbeat", self.heartbeat().await);
                next_heartbeat = now + self.settings.leases.heartbeat_interval;
            }
            if now >= next_look {
                report("release", self.release_what_waits().await);
                next_look = now + self.settings.execution.claim_ahead_wait;
            }
            if now >= next_sweep {
                let next_due = report("sweep", self.sweep().await).flatten();
                next_sweep = Instant::now() + self.until_sweep(next_due);
            }
        }
    }

    async fn heartbeat(&self) -> Result<(), Error> {
        let id = self.process.id();
        let pulse = self.kernel.heartbeat(id, &self.leases.tokens()).await?;
        if !pulse.known {
            return self.process.rejoin(&self.kernel, &self.leases, id).await;
        }
        self.leases.revoke(&pulse.revoked);
        Ok(())
    }

    /// Gives back what was claimed ahead and has not been started, as when handlers suddenly take long.
    async fn release_what_waits(&self) -> Result<(), Error> {
        let tokens = self.leases.take_waiting_longer_than(self.settings.execution.claim_ahead_wait);
        if tokens.is_empty() {
            return Ok(());
        }
        let queues = self.kernel.release_steps(&tokens, Duration::ZERO, ReleaseReason::Shutdown).await?;
        self.leases.forget(tokens);
        self.waker.wake(queues);
        Ok(())
    }

    /// Sweeps until nothing is left for now; answers the time until something is due.
    async fn sweep(&self) -> Result<Option<Duration>, Error> {
        let limit = self.settings.maintenance.sweep_limit;
        loop {
            let swept = self.kernel.sweep(self.process.id(), limit).await?;
            let next_due = swept.next_due();
            if swept.lost > 0 {
                tracing::warn!(attempts = swept.lost, "attempts lost: their process died or their lease ended");
            }
            if !swept.ready_queues.is_empty() || swept.lost > 0 {
                self.wake.notify_one();
                self.waker.wake(swept.ready_queues);
            }
            if (swept.due.max(swept.lost) as usize) < limit {
                return Ok(next_due);
            }
        }
    }

    fn until_sweep(&self, next_due: Option<Duration>) -> Duration {
        let jitter = self.settings.discovery.poll_jitter;
        let spread = 1.0 + jitter * (2.0 * rand::random::<f64>() - 1.0);
        let interval = self.settings.maintenance.sweep_interval.mul_f64(spread);
        next_due.map_or(interval, |due| due.min(interval))
    }
}

fn report<T>(chore: &'static str, outcome: Result<T, Error>) -> Option<T> {
    outcome.inspect_err(|error| tracing::warn!(chore, %error, "maintenance failed and is tried again")).ok()
}
