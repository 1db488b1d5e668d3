//! The loop between database and handlers: claims steps for free slots, and sends outcomes back in batches.
//!
//! Invariant: one statement at a time. While it is under way outcomes gather, so batches grow with the load by
//! themselves. An outcome stays here until the database has answered it; a lost connection delays, never drops.
//! Neighbours: `pacing` decides, `kernel` acts, `leases` holds what is claimed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::{mpsc, Notify};

use crate::configuration::Configuration;
use crate::error::{Error, Nature};
use crate::kernel::{Finished, Kernel};
use crate::leases::{Leases, Times};
use crate::pacing::{Catch, Discovery, Pacing};
use crate::process::Process;
use crate::step::{EndedAttempt, Outcome, ReleaseReason};
use crate::waker::Waker;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An outcome as it comes from a handler's thread.
pub struct Ended {
    pub outcome: Outcome,
    pub times: Times,
}

/// Figures since the start, for `health`.
#[derive(Default)]
pub struct Counters {
    pub claimed: AtomicU64,
    pub finished: AtomicU64,
    pub stale: AtomicU64,
    pub released: AtomicU64,
    pub flushes: AtomicU64,
    pub tasks_ended: AtomicU64,
}

pub struct Dispatcher {
    pub kernel: Kernel,
    pub process: Arc<Process>,
    pub leases: Arc<Leases>,
    pub waker: Waker,
    pub wake: Arc<Notify>,
    pub draining: Arc<AtomicBool>,
    /// Notified whenever the database has answered a batch.
    pub settled: Arc<Notify>,
    pub outcomes: mpsc::Receiver<Ended>,
    /// Tells maintenance when a retry will be due.
    pub due: mpsc::UnboundedSender<Duration>,
    pub counters: Arc<Counters>,
    pub settings: Arc<Configuration>,
    pub slots: usize,
}

/// What the loop carries from turn to turn.
struct State {
    pacing: Pacing,
    discovery: Discovery,
    pending: Vec<EndedAttempt>,
    pending_since: Instant,
    releases: Vec<(i64, ReleaseReason)>,
    woken: bool,
    /// No statement is tried before this time, as the last one failed.
    paused_until: Option<Instant>,
    pause: Duration,
}

impl Dispatcher {
    /// Runs until the handlers' side has dropped its sender and everything is delivered, or until it is aborted.
    pub async fn run(mut self) {
        let now = Instant::now();
        let settings = self.settings.clone();
        let mut state = State {
            pacing: Pacing::new(self.slots, &settings.execution),
            discovery: Discovery::new(&settings.discovery, settings.database.poll_only, now),
            pending: Vec::new(),
            pending_since: now,
            releases: Vec::new(),
            woken: false,
            paused_until: None,
            pause: FIRST_PAUSE,
        };
        loop {
            if !self.wait(&mut state).await {
                return;
            }
            self.gather(&mut state);
            if state.paused_until.is_some_and(|until| until > Instant::now()) {
                continue;
            }
            let done = self.act(&mut state).await;
            self.note(&mut state, done).await;
        }
    }

    fn busy(&self) -> usize {
        let stages = self.leases.stages();
        stages.buffered + stages.running
    }

    fn appetite(&self, state: &State) -> usize {
        if self.draining.load(Ordering::Acquire) {
            return 0;
        }
        state.pacing.appetite(self.busy())
    }

    /// When there is something to do: the earliest of flush, look and end of pause.
    fn next_action(&self, state: &State) -> Option<Instant> {
        let flush = (!state.pending.is_empty()).then(|| {
            let waited = state.pending_since.elapsed();
            Instant::now() + state.pacing.flush_in(state.pending.len(), waited, self.busy())
        });
        let release = (!state.releases.is_empty()).then(Instant::now);
        let hungry = !self.draining.load(Ordering::Acquire) && state.pacing.hungry(self.busy());
        let look = hungry.then(|| state.discovery.next());
        let next = [flush, release, look].into_iter().flatten().min();
        match state.paused_until {
            Some(until) => next.map(|next| next.max(until)),
            None => next,
        }
    }

    /// Waits until there may be something to do; `false` once no outcome can come any more.
    async fn wait(&mut self, state: &mut State) -> bool {
        let next = self.next_action(state);
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = self.outcomes.recv() => match ended {
                Some(ended) => state.take(ended),
                None => return !state.pending.is_empty() || !state.releases.is_empty(),
            },
            () = self.wake.notified() => {
                state.woken = true;
                state.discovery.look_at_once(Instant::now());
            }
            () = timer => {}
        }
        true
    }

    /// Takes what has come meanwhile.
    fn gather(&mut self, state: &mut State) {
        while let Ok(ended) = self.outcomes.try_recv() {
            state.take(ended);
        }
    }

    /// One statement at most: release, flush, or claim.
    async fn act(&self, state: &mut State) -> Result<(), Error> {
        if !state.releases.is_empty() {
            return self.release(state).await;
        }
        let now = Instant::now();
        if !state.pending.is_empty() {
            let waited = now - state.pending_since;
            if state.pacing.flush_in(state.pending.len(), waited, self.busy()).is_zero() {
                return self.flush(state).await;
            }
        }
        let appetite = self.appetite(state);
        if appetite > 0 && state.pacing.hungry(self.busy()) && state.discovery.next() <= now {
            return self.claim(state, appetite).await;
        }
        Ok(())
    }

    async fn claim(&self, state: &mut State, asked: usize) -> Result<(), Error> {
        let claims = self.kernel.claim_steps(self.process.id(), self.process.queues(), asked).await?;
        self.caught(state, asked, claims.len());
        self.accept(claims).await
    }

    async fn flush(&self, state: &mut State) -> Result<(), Error> {
        let size = state.pending.len().min(state.pacing.flush_size());
        let asked = self.appetite(state);
        let batch = &state.pending[..size];
        let finished = match self.kernel.finish_steps(self.process.id(), batch, asked).await {
            Err(error) if error.nature() == Nature::Data => return self.isolate(state, size).await,
            answer => answer?,
        };
        let tokens: Vec<i64> = state.pending.drain(..size).map(|attempt| attempt.token).collect();
        state.pending_since = Instant::now();
        state.pacing.flushed(size);
        if asked > 0 {
            self.caught(state, asked, finished.claims.len());
        }
        self.settle(tokens, finished).await
    }

    /// Finds the outcomes that the database refuses: each goes alone, and a refused one ends its step as failed.
    async fn isolate(&self, state: &mut State, size: usize) -> Result<(), Error> {
        for _ in 0..size {
            let attempt = &state.pending[..1];
            let finished = match self.kernel.finish_steps(self.process.id(), attempt, 0).await {
                Err(error) if error.nature() == Nature::Data => {
                    let refused = attempt[0].clone().refused_by_database(&error.to_string());
                    self.kernel.finish_steps(self.process.id(), &[refused], 0).await?
                }
                answer => answer?,
            };
            let token = state.pending.remove(0).token;
            self.settle(vec![token], finished).await?;
        }
        Ok(())
    }

    /// Takes in what the database answered to a batch.
    async fn settle(&self, tokens: Vec<i64>, finished: Finished) -> Result<(), Error> {
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.counters.finished.fetch_add((tokens.len() - finished.stale.len()) as u64, Ordering::Relaxed);
        self.counters.tasks_ended.fetch_add(finished.ended.len() as u64, Ordering::Relaxed);
        if !finished.stale.is_empty() {
            self.counters.stale.fetch_add(finished.stale.len() as u64, Ordering::Relaxed);
            tracing::warn!(tokens = ?finished.stale, "stale outcomes were refused: their leases were gone");
        }
        self.leases.forget(tokens);
        if let Some(due) = finished.next_retry {
            // Maintenance is gone only when everything is: nobody will miss the time.
            let _ = self.due.send(due);
        }
        self.waker.wake(finished.ready_queues);
        let accepted = self.accept(finished.claims).await;
        self.settled.notify_waiters();
        accepted
    }

    /// Buffers claims, or gives them back when draining has begun meanwhile.
    async fn accept(&self, claims: Vec<crate::step::Claim>) -> Result<(), Error> {
        self.counters.claimed.fetch_add(claims.len() as u64, Ordering::Relaxed);
        let refused: Vec<i64> = self.leases.add(claims).iter().map(|claim| claim.token).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let queues = self.kernel.release_steps(&refused, Duration::ZERO, ReleaseReason::Shutdown).await?;
        self.waker.wake(queues);
        Ok(())
    }

    async fn release(&self, state: &mut State) -> Result<(), Error> {
        let (_, reason) = state.releases[0];
        let tokens: Vec<i64> =
            state.releases.iter().filter(|(_, other)| *other == reason).map(|(token, _)| *token).collect();
        let delay = match reason {
            ReleaseReason::UnknownHandler => self.settings.discovery.unknown_handler_delay,
            ReleaseReason::Shutdown => Duration::ZERO,
        };
        let queues = self.kernel.release_steps(&tokens, delay, reason).await?;
        self.counters.released.fetch_add(tokens.len() as u64, Ordering::Relaxed);
        state.releases.retain(|(_, other)| *other != reason);
        self.leases.forget(tokens);
        self.waker.wake(queues);
        if !delay.is_zero() {
            let _ = self.due.send(delay);
        }
        self.settled.notify_waiters();
        Ok(())
    }

    fn caught(&self, state: &mut State, asked: usize, got: usize) {
        let catch = Catch { asked, got, woken: std::mem::take(&mut state.woken) };
        state.discovery.caught(catch, Instant::now(), rand::rng().random());
    }

    /// After an error nothing is lost: the same outcomes are sent again, after a pause that grows.
    async fn note(&self, state: &mut State, done: Result<(), Error>) {
        let Err(error) = done else {
            state.paused_until = None;
            state.pause = FIRST_PAUSE;
            return;
        };
        if error.nature() == Nature::UnknownProcess {
            let id = self.process.id();
            if let Err(error) = self.process.rejoin(&self.kernel, &self.leases, id).await {
                tracing::warn!(%error, "could not register again; tried again");
            }
        }
        let jitter = 0.5 + rand::rng().random::<f64>();
        tracing::warn!(%error, pending = state.pending.len(), pause = ?state.pause, "statement failed and is tried again");
        state.paused_until = Some(Instant::now() + state.pause.mul_f64(jitter));
        state.pause = (state.pause * 2).min(LONGEST_PAUSE);
    }
}

impl State {
    fn take(&mut self, ended: Ended) {
        match ended.outcome {
            Outcome::Released { token, reason } => self.releases.push((token, reason)),
            outcome @ (Outcome::Completed { .. } | Outcome::Failed { .. }) => {
                if self.pending.is_empty() {
                    self.pending_since = Instant::now();
                }
                self.pacing.ran(ended.times.ran);
                self.pending.extend(EndedAttempt::new(outcome, ended.times.waited, ended.times.ran));
            }
        }
    }
}
