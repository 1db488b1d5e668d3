//! The leases of this process: every claim from the moment it arrives until the database has its outcome.
//!
//! Invariant: a token is here exactly as long as this process is responsible for it, so the heartbeat can name all of
//! them. A lease is buffered (claimed ahead), running, or ended (its outcome is under way to the database). Leases
//! belong to one registration of the process; those that a new one does not take over are revoked, and their outcomes
//! are dropped. Neighbours: the dispatcher adds claims and removes ended ones; threads that run handlers take the next.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::claim::{Claim, ClaimKey, HeldClaim};
use crate::configuration::Configuration;
use crate::correlation::{CorrelationId, LogContext};
use crate::events::StepFacts;
use crate::outcome::ReleaseReason;

#[derive(Default)]
pub struct Leases {
    inner: Mutex<Inner>,
    arrived: Notify,
}

/// Limits of concurrent handlers. A limit that the number of threads already enforces is left out.
#[derive(Debug, Default)]
struct Limits {
    per_task: Option<usize>,
    per_system: HashMap<String, usize>,
}

#[derive(Default)]
struct Inner {
    /// The registration that made the claims.
    process_id: i64,
    /// Claimed ahead, oldest first.
    buffered: VecDeque<Claim>,
    held: HashMap<i64, Lease>,
    running: usize,
    most_running: usize,
    limits: Limits,
    /// Counted only where a limit applies.
    running_of_task: HashMap<i64, usize>,
    running_of_system: HashMap<String, usize>,
    /// Bytes of outcomes that the database does not have yet. No claim starts from `max_undelivered` on.
    undelivered: usize,
    max_undelivered: Option<usize>,
    /// No further claim starts.
    closed: bool,
}

struct Lease {
    key: ClaimKey,
    correlation_id: CorrelationId,
    system: Option<String>,
    /// Kept only for event payloads.
    claim: Option<Claim>,
    /// The queue of an adopted claim, whose end leaves room for another job.
    queue: Option<String>,
    claimed_at: Instant,
    started_at: Option<Instant>,
    ended: bool,
    /// Bytes of its outcome.
    bytes: usize,
    revoked: bool,
}

/// The number of leases in each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    pub buffered: usize,
    pub running: usize,
    pub held: usize,
}

/// How long an attempt waited between claim and start, and how long it ran.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub waited: Duration,
    pub ran: Duration,
}

impl Limits {
    fn new(settings: &Configuration) -> Self {
        let threads = settings.execution.threads;
        let per_task = settings.execution.parallel_steps_per_task;
        let systems = settings.systems.iter().filter(|(_, system)| system.concurrency < threads);
        Self {
            per_task: (per_task < threads).then_some(per_task),
            per_system: systems.map(|(name, system)| (name.clone(), system.concurrency)).collect(),
        }
    }
}

impl Inner {
    /// Whether too many bytes of outcomes wait for the database to start another handler.
    fn is_full(&self) -> bool {
        self.max_undelivered.is_some_and(|max| self.undelivered >= max)
    }

    /// Whether its task's and its system's limits leave room for a claim.
    fn has_room_for(&self, claim: &Claim) -> bool {
        let of_task = || self.running_of_task.get(&claim.task_id).copied().unwrap_or(0);
        let of_system = |name: &String| self.running_of_system.get(name).copied().unwrap_or(0);
        self.limits.per_task.is_none_or(|limit| of_task() < limit)
            && claim
                .system
                .as_ref()
                .is_none_or(|name| self.limits.per_system.get(name).is_none_or(|limit| of_system(name) < *limit))
    }

    fn revoke(&mut self, token: i64) {
        self.buffered.retain(|claim| claim.token != token);
        match self.held.get_mut(&token) {
            Some(lease) if lease.started_at.is_some() => lease.revoked = true,
            Some(_) => drop(self.held.remove(&token)), // not started: it has no outcome
            None => {}
        }
    }

    fn count_start(&mut self, claim: &Claim) {
        self.running += 1;
        self.most_running = self.most_running.max(self.running);
        if self.limits.per_task.is_some() {
            *self.running_of_task.entry(claim.task_id).or_default() += 1;
        }
        if let Some(system) = claim.system.as_ref().filter(|system| self.limits.per_system.contains_key(*system)) {
            *self.running_of_system.entry(system.clone()).or_default() += 1;
        }
    }

    fn count_end(&mut self, task_id: i64, system: Option<&String>) {
        self.running -= 1;
        count_down(&mut self.running_of_task, &task_id);
        if let Some(system) = system {
            count_down(&mut self.running_of_system, system);
        }
    }
}

fn count_down<Key: Hash + Eq>(counts: &mut HashMap<Key, usize>, key: &Key) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Leases {
    /// No leases, for the process's first registration.
    pub fn new(settings: &Configuration, process_id: i64) -> Self {
        let leases = Self::default();
        let mut inner = leases.lock();
        inner.limits = Limits::new(settings);
        inner.max_undelivered = Some(settings.execution.undelivered_bytes);
        inner.process_id = process_id;
        drop(inner);
        leases
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code that holds the leases' lock can panic")
    }

    /// Buffers claims that have arrived for a registration. After `close`, returns the claims so that the caller can
    /// release them. With `keep_claims`, retains them for event payloads. Claims of a former registration are dropped:
    /// the new one has released them. Claims whose token is already held are dropped too: the held one is from a state
    /// that the database has lost, and its outcome must not be sent under another claim. No heartbeat names the dropped
    /// claims, so the database releases them.
    pub fn add(&self, process_id: i64, claims: Vec<Claim>, keep_claims: bool) -> Vec<Claim> {
        let mut inner = self.lock();
        if process_id != inner.process_id && !claims.is_empty() {
            tracing::warn!(claims = claims.len(), process_id, "claims of a former registration are dropped");
            return Vec::new();
        }
        if inner.closed {
            return claims;
        }
        let claimed_at = Instant::now();
        let mut arrived = 0;
        for claim in claims {
            if inner.held.contains_key(&claim.token) {
                tracing::warn!(token = claim.token, "a claim is dropped: another one with its token is held here");
                continue;
            }
            let lease = Lease {
                key: claim.key(),
                correlation_id: claim.correlation_id,
                system: claim.system.clone(),
                claim: keep_claims.then(|| claim.clone()),
                queue: None,
                claimed_at,
                started_at: None,
                ended: false,
                bytes: 0,
                revoked: false,
            };
            inner.held.insert(claim.token, lease);
            inner.buffered.push_back(claim);
            arrived += 1;
        }
        drop(inner);
        for _ in 0..arrived {
            self.arrived.notify_one();
        }
        Vec::new()
    }

    /// Adds an adopted claim of a queue, which is running from now on, whatever the limits are. `false` after `close`,
    /// and for a claim of a former registration, or with a token that is held here already (see `add`).
    pub fn adopt(&self, process_id: i64, claim: &Claim, queue: String, keep_claim: bool) -> bool {
        let mut inner = self.lock();
        if inner.closed || process_id != inner.process_id || inner.held.contains_key(&claim.token) {
            return false;
        }
        let now = Instant::now();
        let lease = Lease {
            key: claim.key(),
            correlation_id: claim.correlation_id,
            system: claim.system.clone(),
            claim: keep_claim.then(|| claim.clone()),
            queue: Some(queue),
            claimed_at: now,
            started_at: Some(now),
            ended: false,
            bytes: 0,
            revoked: false,
        };
        inner.held.insert(claim.token, lease);
        inner.count_start(claim);
        true
    }

    /// The queues of adopted claims.
    pub fn queues(&self, tokens: &[i64]) -> Vec<String> {
        let inner = self.lock();
        tokens.iter().filter_map(|token| inner.held.get(token)?.queue.clone()).collect()
    }

    /// The next buffered claim within the limits, without waiting; its lease is running from now on. `None` while too
    /// many bytes of outcomes wait for the database.
    pub fn try_next(&self) -> Option<Claim> {
        let mut inner = self.lock();
        if inner.is_full() {
            return None;
        }
        let next = inner.buffered.iter().position(|claim| inner.has_room_for(claim))?;
        let claim = inner.buffered.remove(next)?;
        if let Some(lease) = inner.held.get_mut(&claim.token) {
            lease.started_at = Some(Instant::now());
            inner.count_start(&claim);
        }
        Some(claim)
    }

    /// Waits for the next claim; `None` once closed and empty.
    pub async fn next(&self) -> Option<Claim> {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            // Registered before the check, so that an arrival between check and wait is not missed.
            arrived.as_mut().enable();
            if let Some(claim) = self.try_next() {
                return Some(claim);
            }
            if self.lock().closed {
                return None;
            }
            arrived.await;
        }
    }

    /// Marks a running attempt as ended with an outcome of `bytes`; `None` if no attempt with this token is running.
    pub fn end(&self, token: i64, bytes: usize) -> Option<(ClaimKey, Times)> {
        let mut inner = self.lock();
        let lease = inner.held.get_mut(&token)?;
        let started_at = lease.started_at.filter(|_| !lease.ended)?;
        lease.ended = true;
        lease.bytes = bytes;
        let times = Times { waited: started_at - lease.claimed_at, ran: started_at.elapsed() };
        let (key, system) = (lease.key, lease.system.take());
        inner.undelivered += bytes;
        inner.count_end(key.task_id, system.as_ref());
        let waiting = !inner.buffered.is_empty();
        drop(inner);
        if waiting {
            // This end may make room for it.
            self.arrived.notify_one();
        }
        Some((key, times))
    }

    /// Removes leases whose outcome the database has, or which were released.
    pub fn forget(&self, tokens: impl IntoIterator<Item = i64>) {
        let mut inner = self.lock();
        let was_full = inner.is_full();
        for token in tokens {
            if let Some(lease) = inner.held.remove(&token) {
                inner.undelivered -= lease.bytes;
            }
        }
        let waiting = if was_full && !inner.is_full() { inner.buffered.len() } else { 0 };
        drop(inner);
        for _ in 0..waiting {
            self.arrived.notify_one();
        }
    }

    /// Whether no claim starts because too many bytes of outcomes wait for the database.
    pub fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    /// The most attempts that have run at the same time.
    pub fn most_running(&self) -> usize {
        self.lock().most_running
    }

    /// The event fields of a step that this process holds.
    pub fn facts(&self, token: i64) -> Option<StepFacts> {
        let claim = self.lock().held.get(&token).and_then(|lease| lease.claim.clone());
        claim.and_then(|claim| claim.facts().ok())
    }

    /// Removes buffered claims that have waited longer than `wait`, so that the caller can release them: those over a
    /// limit, and those that only wait for a thread.
    pub fn take_waiting_longer_than(&self, wait: Duration) -> [(ReleaseReason, Vec<ClaimKey>); 2] {
        let mut inner = self.lock();
        let (mut limited, mut unstarted) = (Vec::new(), Vec::new());
        while let Some(claim) = inner.buffered.front() {
            let waited = inner.held.get(&claim.token).map(|lease| lease.claimed_at.elapsed());
            if waited.is_some_and(|waited| waited <= wait) {
                break;
            }
            let taken = if inner.has_room_for(claim) { &mut unstarted } else { &mut limited };
            taken.push(claim.key());
            inner.buffered.pop_front();
        }
        [(ReleaseReason::Limited, limited), (ReleaseReason::Unstarted, unstarted)]
    }

    /// Starts no further claim; returns the buffered ones so that the caller can release them.
    pub fn close(&self) -> Vec<ClaimKey> {
        let mut inner = self.lock();
        inner.closed = true;
        let buffered = inner.buffered.drain(..).map(|claim| claim.key()).collect();
        drop(inner);
        self.arrived.notify_waiters();
        buffered
    }

    /// All claims that this process is responsible for, without revoked ones, of which it only awaits the handlers.
    pub fn held(&self) -> Vec<HeldClaim> {
        let inner = self.lock();
        let held = inner.held.values().filter(|lease| !lease.revoked);
        held.map(|lease| HeldClaim { key: lease.key, age_ms: lease.claimed_at.elapsed().as_secs_f64() * 1000.0 })
            .collect()
    }

    /// Revokes leases that the database has taken away. Buffered ones are dropped.
    pub fn revoke(&self, tokens: &[i64]) {
        let mut inner = self.lock();
        for token in tokens {
            inner.revoke(*token);
        }
    }

    /// Continues under another registration, which has taken over only the claims `kept`.
    pub fn move_to(&self, process_id: i64, kept: &HashSet<i64>) {
        let mut inner = self.lock();
        inner.process_id = process_id;
        let others: Vec<i64> = inner.held.keys().filter(|token| !kept.contains(token)).copied().collect();
        for token in others {
            inner.revoke(token);
        }
    }

    /// Whether the database has taken the lease of a running attempt away.
    pub fn revoked(&self, token: i64) -> bool {
        self.lock().held.get(&token).is_some_and(|lease| lease.revoked)
    }

    /// The key of a token's claim, unless it was revoked.
    pub fn key(&self, token: i64) -> Option<ClaimKey> {
        self.lock().held.get(&token).filter(|lease| !lease.revoked).map(|lease| lease.key)
    }

    /// The log context of the step that a token belongs to; the default one if this process does not hold it.
    pub fn log_context(&self, token: i64) -> LogContext {
        let inner = self.lock();
        inner.held.get(&token).map_or_else(LogContext::default, |lease| LogContext {
            task_id: Some(lease.key.task_id),
            ..LogContext::of(lease.correlation_id)
        })
    }

    pub fn stages(&self) -> Stages {
        let inner = self.lock();
        Stages { buffered: inner.buffered.len(), running: inner.running, held: inner.held.len() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{json, Value};
    use tokio::task::JoinHandle;

    use super::*;

    fn claim(token: i64) -> Claim {
        claim_of(token, 1, None)
    }

    fn claim_of(token: i64, task_id: i64, system: Option<&str>) -> Claim {
        let text = json!({"token": token, "task_id": task_id, "position": 0, "attempt": 1, "system": system,
            "correlation_id": CorrelationId::fresh()})
        .to_string();
        Claim::from_json(&text).unwrap()
    }

    fn limited(settings: Value) -> Leases {
        Leases::new(&Configuration::load(Some(&settings)).unwrap(), 0)
    }

    /// Waits for the next claim; returns its token.
    async fn waiting_thread(leases: &Arc<Leases>) -> JoinHandle<Option<i64>> {
        let leases = leases.clone();
        let thread = tokio::spawn(async move { leases.next().await.map(|claim| claim.token) });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert!(!thread.is_finished());
        thread
    }

    #[test]
    fn limits_bound_parallel_steps_per_task_and_per_system() {
        let task = json!({"execution": {"threads": 4, "parallel_steps_per_task": 2}});
        let system = json!({"execution": {"threads": 4},
                            "systems": {"x": {"base_url": "https://x.example", "concurrency": 2}}});
        let of_task = [(1, 7, None), (2, 7, None), (3, 7, None), (4, 8, None)];
        let of_system = [(1, 7, Some("x")), (2, 8, Some("x")), (3, 9, Some("x")), (4, 7, Some("y"))];
        for (settings, claims) in [(task, of_task), (system, of_system)] {
            let leases = limited(settings);
            leases.add(0, claims.iter().map(|(token, task, system)| claim_of(*token, *task, *system)).collect(), false);
            let started: Vec<i64> = std::iter::from_fn(|| leases.try_next()).map(|claim| claim.token).collect();
            assert_eq!(started, [1, 2, 4]);
            leases.end(4, 0);
            assert!(leases.try_next().is_none(), "another task's end makes no room");
            assert_eq!(
                leases.take_waiting_longer_than(Duration::ZERO),
                [
                    (ReleaseReason::Limited, vec![claim_of(3, claims[2].1, None).key()]),
                    (ReleaseReason::Unstarted, vec![])
                ]
            );
            leases.add(0, vec![claim_of(5, claims[2].1, claims[2].2)], false);
            leases.end(1, 0);
            assert_eq!(leases.try_next().map(|claim| claim.token), Some(5));
            leases.add(0, vec![claim_of(6, claims[3].1, None)], false);
            leases.end(2, 0);
            leases.end(5, 0);
            assert_eq!(
                leases.take_waiting_longer_than(Duration::ZERO),
                [
                    (ReleaseReason::Limited, vec![]),
                    (ReleaseReason::Unstarted, vec![claim_of(6, claims[3].1, None).key()])
                ],
                "it only waits for a thread"
            );
        }
    }

    #[tokio::test]
    async fn a_thread_waiting_for_room_wakes_when_there_is_some() {
        let leases = Arc::new(limited(json!({"execution": {"threads": 2, "parallel_steps_per_task": 1}})));
        leases.add(0, vec![claim(1), claim(2)], false);
        leases.try_next();
        let waiting = waiting_thread(&leases).await;
        leases.end(1, 0);
        assert_eq!(waiting.await.unwrap(), Some(2));
    }

    #[test]
    fn a_lease_is_held_until_the_database_has_its_outcome() {
        let leases = Leases::default();
        leases.add(0, vec![claim(1), claim(2)], false);
        assert_eq!(leases.stages(), Stages { buffered: 2, running: 0, held: 2 });
        assert_eq!(leases.try_next().unwrap().token, 1);
        assert_eq!(leases.stages(), Stages { buffered: 1, running: 1, held: 2 });
        assert!(leases.end(1, 0).is_some());
        assert!(leases.end(1, 0).is_none(), "an attempt ends once");
        assert!(leases.end(2, 0).is_none(), "an attempt that has not started cannot end");
        assert_eq!(leases.stages(), Stages { buffered: 1, running: 0, held: 2 });
        leases.forget([1]);
        let held: Vec<ClaimKey> = leases.held().iter().map(|held| held.key).collect();
        assert_eq!(held, [claim(2).key()]);
    }

    #[tokio::test]
    async fn no_claim_leaves_the_buffer_over_undelivered_bytes() {
        let leases = Arc::new(limited(json!({"execution": {"undelivered_bytes": 100}})));
        leases.add(0, (1..=4).map(claim).collect(), false);
        leases.try_next();
        leases.try_next();
        leases.end(1, 60);
        assert_eq!(leases.try_next().map(|claim| claim.token), Some(3), "there is room for more");
        leases.end(2, 40);
        assert!(leases.is_full());
        assert!(leases.try_next().is_none());
        let waiting = waiting_thread(&leases).await;
        leases.forget([2]);
        assert!(!leases.is_full());
        assert_eq!(waiting.await.unwrap(), Some(4));
    }

    #[test]
    fn closing_returns_the_buffer_and_accepts_no_more_claims() {
        let leases = Leases::default();
        leases.add(0, vec![claim(1)], false);
        assert_eq!(leases.close(), vec![claim(1).key()]);
        assert_eq!(leases.add(0, vec![claim(2)], false).len(), 1);
        assert!(leases.try_next().is_none());
    }

    #[test]
    fn a_revoked_lease_leaves_the_buffer_or_is_marked_if_running() {
        let leases = Leases::default();
        leases.add(0, vec![claim(1), claim(2)], false);
        leases.try_next();
        leases.revoke(&[1, 2]);
        assert!(leases.revoked(1));
        assert_eq!(leases.stages(), Stages { buffered: 0, running: 1, held: 1 });
        assert_eq!((leases.held(), leases.key(1)), (vec![], None), "this process no longer holds it");
    }

    #[test]
    fn a_new_registration_keeps_its_claims_and_revokes_the_rest() {
        let leases = Leases::default();
        leases.add(0, vec![claim(1), claim(2), claim(3), claim(4)], false);
        leases.try_next();
        leases.try_next();
        leases.move_to(7, &HashSet::from([1, 3]));
        assert_eq!([1, 2, 3, 4].map(|token| leases.revoked(token)), [false, true, false, false]);
        let mut kept: Vec<i64> = leases.held().iter().map(|held| held.key.token).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1, 3], "claims that had not started are dropped");
        leases.add(0, vec![claim(5)], false);
        leases.add(7, vec![claim(6)], false);
        let buffered: Vec<i64> = std::iter::from_fn(|| leases.try_next()).map(|claim| claim.token).collect();
        assert_eq!(buffered, [3, 6], "a late response to the former registration adds nothing");
    }

    #[test]
    fn a_claim_with_a_held_token_does_not_replace_the_lease() {
        let leases = Leases::default();
        let (first, second) = (claim_of(1, 7, None), claim_of(1, 8, None));
        leases.add(0, vec![first.clone()], false);
        leases.try_next();
        leases.add(0, vec![second.clone()], false);
        assert_eq!(leases.held().iter().map(|held| held.key).collect::<Vec<_>>(), [first.key()]);
        assert!(leases.try_next().is_none());
        assert_eq!(leases.end(1, 0).map(|(key, _)| key), Some(first.key()));
        leases.revoke(&[1]);
        leases.add(0, vec![second.clone()], false);
        assert!(leases.revoked(1), "its outcome must still be dropped");
        leases.forget([1]);
        leases.add(0, vec![second.clone()], false);
        assert_eq!(leases.try_next().map(|claim| claim.task_id), Some(8), "then the claim is accepted");
    }

    #[tokio::test]
    async fn every_waiting_thread_gets_a_claim_of_its_own() {
        let leases = Arc::new(Leases::default());
        let mut waiting = Vec::new();
        for _ in 0..8 {
            waiting.push(waiting_thread(&leases).await);
        }
        leases.add(0, (0..8).map(claim).collect(), false);
        let mut tokens = Vec::new();
        for thread in waiting {
            tokens.push(thread.await.unwrap().unwrap());
        }
        tokens.sort_unstable();
        assert_eq!(tokens, (0..8).collect::<Vec<_>>());
    }
}
