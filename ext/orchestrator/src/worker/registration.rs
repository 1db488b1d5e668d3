//! The registration of this worker process in the database.
//!
//! Invariant: there is one registration at a time, and it stays the same while a statement is under way. A process that
//! was taken for dead while it was paused, or that finds itself on another server or timeline, registers again; it
//! keeps the claims that the database still holds for it, and all others are revoked. Neighbours: dispatcher and
//! maintenance both detect when that is necessary.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, RwLockReadGuard};
use uuid::Uuid;

use crate::database::functions::{ClockJump, FormerRegistration, Functions, ProcessEntry, ServerIdentity};
use crate::error::Error;
use crate::measurements::{Counters, Stats, Totals};
use crate::worker::leases::Leases;

pub struct Registration {
    entry: ProcessEntry,
    current: RwLock<Current>,
    /// The id of `current`, readable without waiting.
    id: AtomicI64,
    /// When the database received the last heartbeat, by a monotonic clock.
    last_heartbeat_at: Mutex<Instant>,
    reported: Mutex<Reported>,
}

/// What the database knows of the process's totals. It keeps the totals of former registrations, so each registration
/// reports only what came after them.
#[derive(Default)]
struct Reported {
    /// The totals when the current registration began, as far as the database had received them.
    at_registration: Totals,
    last: Totals,
}

struct Current {
    id: i64,
    server: ServerIdentity,
    /// The id under which it registers again: the same one after a lost response.
    next_id: Option<i64>,
}

/// The outcome of a heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HeartbeatResult {
    /// The process has registered again.
    pub reregistered: bool,
    /// Set if the database's clock has jumped since the last heartbeat.
    pub clock_jump: Option<ClockJump>,
}

impl Registration {
    /// Registers the process under its first id.
    pub async fn register(functions: &Functions, entry: ProcessEntry) -> Result<Self, Error> {
        let id = functions.register_process(&entry, None).await?;
        let server = functions.heartbeat(id, Some(&[]), Duration::ZERO, None).await?.server;
        tracing::info!(process_id = id, name = entry.name, queues = ?entry.queues, "process registered");
        let current = RwLock::new(Current { id, server, next_id: None });
        let last_heartbeat_at = Mutex::new(Instant::now());
        Ok(Self { entry, current, id: AtomicI64::new(id), last_heartbeat_at, reported: Mutex::default() })
    }

    /// An id that no other state of the database can have assigned: 52 random bits, the most that every JSON parser
    /// reads exactly.
    fn random_id() -> i64 {
        const BITS: u64 = (1 << 52) - 1;
        let (_, low) = Uuid::new_v4().as_u64_pair();
        i64::try_from(low & BITS).expect("52 bits are less than 63")
    }

    pub fn id(&self) -> i64 {
        self.id.load(Ordering::Acquire)
    }

    /// The id, which cannot change until the guard is dropped. Hold it while a statement is under way.
    pub async fn lock_id(&self) -> RwLockReadGuard<'_, i64> {
        RwLockReadGuard::map(self.current.read().await, |current| &current.id)
    }

    pub fn queues(&self) -> &[String] {
        &self.entry.queues
    }

    /// Time since the database received the last heartbeat.
    pub fn since_last_heartbeat(&self) -> Duration {
        self.last_heartbeat_at.lock().expect("no code that holds this lock can panic").elapsed()
    }

    fn record_heartbeat(&self) {
        *self.last_heartbeat_at.lock().expect("no code that holds this lock can panic") = Instant::now();
    }

    fn reported(&self) -> MutexGuard<'_, Reported> {
        self.reported.lock().expect("no code that holds this lock can panic")
    }

    fn stats(&self, totals: &Totals, counters: &Counters, threads: usize) -> Stats {
        let broken = counters.broken.load(Ordering::Relaxed);
        Stats { threads, broken, totals: totals.since(&self.reported().at_registration) }
    }

    /// Sends a heartbeat, and registers again if necessary.
    pub async fn heartbeat(
        &self,
        functions: &Functions,
        leases: &Leases,
        counters: &Counters,
        threads: usize,
    ) -> Result<HeartbeatResult, Error> {
        let current = self.current.read().await;
        let id = current.id;
        let totals = counters.totals();
        let stats = self.stats(&totals, counters, threads);
        let age = self.since_last_heartbeat();
        let reply = match functions.heartbeat(id, Some(&leases.held()), age, Some(&stats)).await {
            Err(error) if error.kind().may_pass_with_fewer_rows() => {
                let class = error.class();
                tracing::warn!(error.class = class, error.message = %error, "a heartbeat with claims failed: it is sent alone");
                functions.heartbeat(id, None, self.since_last_heartbeat(), Some(&stats)).await?
            }
            outcome => outcome?,
        };
        let has_moved = reply.server.differs_from(&current.server);
        if reply.known && !has_moved {
            leases.revoke(&reply.revoked);
            self.record_heartbeat();
            self.reported().last = totals;
            return Ok(HeartbeatResult { reregistered: false, clock_jump: reply.clock_jump });
        }
        if has_moved {
            tracing::warn!(before = ?current.server, now = ?reply.server, "the database has failed over or was restored");
        }
        drop(current);
        self.reregister(functions, leases, id).await?;
        Ok(HeartbeatResult { reregistered: true, clock_jump: reply.clock_jump })
    }

    /// Replaces the registration `lost_id`, unless another task has done so.
    pub async fn reregister(&self, functions: &Functions, leases: &Leases, lost_id: i64) -> Result<(), Error> {
        let mut current = self.current.write().await;
        if current.id != lost_id {
            return Ok(());
        }
        let id = *current.next_id.get_or_insert_with(Self::random_id);
        let held = leases.held();
        let former = FormerRegistration { process: lost_id, system: current.server.system.as_deref(), held: &held };
        let (server, kept) = self.replace(functions, id, &former).await?;
        leases.move_to(id, &kept);
        *current = Current { id, server, next_id: None };
        let mut reported = self.reported();
        reported.at_registration = reported.last.clone();
        drop(reported);
        self.id.store(id, Ordering::Release);
        self.record_heartbeat();
        let revoked = held.len() - kept.len();
        tracing::warn!(process_id = id, lost = lost_id, kept = kept.len(), revoked, "process registered again");
        Ok(())
    }

    /// Replaces the former registration; returns the server, and the tokens that this process keeps. If any claim
    /// cannot be taken over or released, it keeps none, and sweeps end them all.
    async fn replace(
        &self,
        functions: &Functions,
        id: i64,
        former: &FormerRegistration<'_>,
    ) -> Result<(ServerIdentity, HashSet<i64>), Error> {
        let entry = ProcessEntry { id: Some(id), ..self.entry.clone() };
        let taking_over = async {
            functions.register_process(&entry, Some(former)).await?;
            functions.heartbeat(id, Some(former.held), Duration::ZERO, None).await
        };
        match taking_over.await {
            Ok(reply) => {
                let mut kept: HashSet<i64> = former.held.iter().map(|claim| claim.key.token).collect();
                for token in &reply.revoked {
                    kept.remove(token);
                }
                Ok((reply.server, kept))
            }
            Err(error) if error.kind().may_pass_with_fewer_rows() => {
                tracing::warn!(error.class = error.class(), error.message = %error, "no claim is taken over");
                functions.register_process(&entry, None).await?;
                Ok((functions.heartbeat(id, None, Duration::ZERO, None).await?.server, HashSet::new()))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the registration; the claims that it still holds are released.
    pub async fn deregister(&self, functions: &Functions, counters: &Counters, within: Duration) -> Result<(), Error> {
        let deregistering = async {
            let id = self.lock_id().await;
            let stats = self.stats(&counters.totals(), counters, 0);
            let queues = functions.deregister_process(*id, &stats).await?;
            if !queues.is_empty() {
                functions.wake_workers(&queues).await?;
            }
            Ok(())
        };
        tokio::time::timeout(within, deregistering)
            .await
            .map_err(|_| Error::TimedOut { what: "deregistering", after: within })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_52_random_bits() {
        let ids: Vec<i64> = (0..1000).map(|_| Registration::random_id()).collect();
        let (all, any) = ids.iter().fold((i64::MAX, 0), |(all, any), id| (all & id, any | id));
        assert_eq!((all, any), (0, (1 << 52) - 1), "each bit is sometimes set, and sometimes not");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }
}
