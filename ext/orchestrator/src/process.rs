//! This worker process as the database knows it.
//!
//! Invariant: one id at a time. A process that was given up for dead while it was paused gets another one, and
//! everything it held before is revoked. Neighbours: dispatcher and maintenance both may find that out.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::error::Error;
use crate::kernel::{Kernel, ProcessEntry};
use crate::leases::Leases;

pub struct Process {
    entry: ProcessEntry,
    id: AtomicI64,
    joining: Mutex<()>,
}

impl Process {
    /// Enters the process under its first id.
    pub async fn join(kernel: &Kernel, entry: ProcessEntry) -> Result<Self, Error> {
        let id = kernel.register_process(&entry).await?;
        tracing::info!(process_id = id, name = entry.name, queues = ?entry.queues, "process registered");
        Ok(Self { entry, id: AtomicI64::new(id), joining: Mutex::new(()) })
    }

    pub fn id(&self) -> i64 {
        self.id.load(Ordering::Acquire)
    }

    pub fn queues(&self) -> &[String] {
        &self.entry.queues
    }

    /// Enters the process again after the database did not know `lost_id`, unless that has been done.
    pub async fn rejoin(&self, kernel: &Kernel, leases: &Leases, lost_id: i64) -> Result<(), Error> {
        let _joining = self.joining.lock().await;
        if self.id() != lost_id {
            return Ok(());
        }
        leases.revoke(&leases.tokens());
        let id = kernel.register_process(&self.entry).await?;
        self.id.store(id, Ordering::Release);
        tracing::warn!(process_id = id, lost = lost_id, "process was given up for dead and registered again");
        Ok(())
    }

    /// Takes the process off the list; what it still holds is given back.
    pub async fn leave(&self, kernel: &Kernel, within: Duration) -> Result<(), Error> {
        let leaving = async {
            let queues = kernel.deregister_process(self.id()).await?;
            if !queues.is_empty() {
                kernel.wake_workers(&queues).await?;
            }
            Ok(())
        };
        tokio::time::timeout(within, leaving)
            .await
            .map_err(|_| Error::TimedOut { what: "deregistering", after: within })?
    }
}
