//! This worker process as the database knows it.
//!
//! Invariant: one registration at a time, under which every statement is sent from its beginning to its answer. A process
//! that was given up for dead while it was paused, or that finds itself on another server, or in another course of its
//! history, registers anew; what the database still holds for it goes with it, and all else that it held is revoked.
//! Neighbours: dispatcher and maintenance both may find that out.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, RwLockReadGuard};
use uuid::Uuid;

use crate::error::Error;
use crate::kernel::{Former, Kernel, Leap, ProcessEntry, ServerIdentity};
use crate::leases::Leases;

pub struct Process {
    entry: ProcessEntry,
    registration: RwLock<Registration>,
    /// That of the registration, for those who do not wait.
    id: AtomicI64,
    /// When the database took the last sign of life, by a clock that is never set.
    heard_at: Mutex<Instant>,
}

struct Registration {
    id: i64,
    server: ServerIdentity,
    /// Under which it registers anew: the same after an answer that was lost.
    next_id: Option<i64>,
}

/// What a sign of life came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Beat {
    /// The process has registered anew.
    pub rejoined: bool,
    pub leap: Option<Leap>,
}

impl Process {
    /// Enters the process under its first id.
    pub async fn join(kernel: &Kernel, entry: ProcessEntry) -> Result<Self, Error> {
        let id = kernel.register_process(&entry, None).await?;
        let server = kernel.heartbeat(id, &[], Duration::ZERO).await?.server;
        tracing::info!(process_id = id, name = entry.name, queues = ?entry.queues, "process registered");
        let registration = RwLock::new(Registration { id, server, next_id: None });
        Ok(Self { entry, registration, id: AtomicI64::new(id), heard_at: Mutex::new(Instant::now()) })
    }

    /// An id that no other state of the database can have given: 52 random bits, as many as every reader of JSON takes exactly.
    fn fresh_id() -> i64 {
        const BITS: u64 = (1 << 52) - 1;
        let (_, low) = Uuid::new_v4().as_u64_pair();
        i64::try_from(low & BITS).expect("52 bits are less than 63")
    }

    pub fn id(&self) -> i64 {
        self.id.load(Ordering::Acquire)
    }

    /// The id, which stays the process's until the guard is dropped: held while a statement is under way.
    pub async fn hold_id(&self) -> RwLockReadGuard<'_, i64> {
        RwLockReadGuard::map(self.registration.read().await, |registration| &registration.id)
    }

    pub fn queues(&self) -> &[String] {
        &self.entry.queues
    }

    /// How long ago the database took the last sign of life.
    pub fn silence(&self) -> Duration {
        self.heard_at.lock().expect("no code that holds this lock can panic").elapsed()
    }

    fn heard(&self) {
        *self.heard_at.lock().expect("no code that holds this lock can panic") = Instant::now();
    }

    /// Gives a sign of life, and registers anew if it has to.
    pub async fn beat(&self, kernel: &Kernel, leases: &Leases) -> Result<Beat, Error> {
        let registration = self.registration.read().await;
        let pulse = kernel.heartbeat(registration.id, &leases.held(), self.silence()).await?;
        let id = registration.id;
        let has_moved = pulse.server.differs_from(&registration.server);
        if pulse.known && !has_moved {
            leases.revoke(&pulse.revoked);
            self.heard();
            return Ok(Beat { rejoined: false, leap: pulse.leap });
        }
        if has_moved {
            tracing::warn!(before = ?registration.server, now = ?pulse.server, "the database has failed over or was restored");
        }
        drop(registration);
        self.rejoin(kernel, leases, id).await?;
        Ok(Beat { rejoined: true, leap: pulse.leap })
    }

    /// Registers anew in the place of `lost_id`, unless that has been done.
    pub async fn rejoin(&self, kernel: &Kernel, leases: &Leases, lost_id: i64) -> Result<(), Error> {
        let mut registration = self.registration.write().await;
        if registration.id != lost_id {
            return Ok(());
        }
        let id = *registration.next_id.get_or_insert_with(Self::fresh_id);
        let held = leases.held();
        let former = Former { process: lost_id, system: registration.server.system.as_deref(), held: &held };
        kernel.register_process(&ProcessEntry { id: Some(id), ..self.entry.clone() }, Some(&former)).await?;
        let pulse = kernel.heartbeat(id, &held, Duration::ZERO).await?;

        let mut kept: HashSet<i64> = held.iter().map(|claim| claim.key.token).collect();
        for token in &pulse.revoked {
            kept.remove(token);
        }
        leases.move_to(id, &kept);
        *registration = Registration { id, server: pulse.server, next_id: None };
        self.id.store(id, Ordering::Release);
        self.heard();
        let revoked = pulse.revoked.len();
        tracing::warn!(process_id = id, lost = lost_id, kept = kept.len(), revoked, "process registered anew");
        Ok(())
    }

    /// Takes the process off the list; what it still holds is given back.
    pub async fn leave(&self, kernel: &Kernel, within: Duration) -> Result<(), Error> {
        let leaving = async {
            let queues = kernel.deregister_process(*self.hold_id().await).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_52_random_bits() {
        let ids: Vec<i64> = (0..1000).map(|_| Process::fresh_id()).collect();
        let (all, any) = ids.iter().fold((i64::MAX, 0), |(all, any), id| (all & id, any | id));
        assert_eq!((all, any), (0, (1 << 52) - 1), "each bit is sometimes set, and sometimes not");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }
}
