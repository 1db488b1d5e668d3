//! The loop between database and handlers: claims steps for free slots, and sends outcomes back in batches.
//!
//! Invariant: few statements at a time. While they are under way outcomes gather, so batches grow with the load by
//! themselves. An outcome stays here until the database has answered it; a lost connection delays, never drops.
//! Neighbours: `pacing` decides, `kernel` acts, `leases` holds what is claimed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch, Notify};
use tokio::task::{JoinError, JoinSet};

use crate::configuration::Configuration;
use crate::error::{Error, Nature};
use crate::events::{tell_all, Event, EventPublisher, TaskFacts};
use crate::kernel::{Finished, Kernel};
use crate::leases::{Leases, Times};
use crate::pacing::{Catch, Discovery, Pacing};
use crate::process::Process;
use crate::step::{Claim, ClaimKey, EndedAttempt, Outcome, ReleaseReason};
use crate::waker::Waker;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An outcome as it comes from a handler's thread.
pub struct Ended {
    pub key: ClaimKey,
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
    /// Turns true when no further statement is to be begun.
    pub stopping: watch::Receiver<bool>,
    /// Notified whenever the database has answered a batch.
    pub settled: Arc<Notify>,
    pub outcomes: mpsc::Receiver<Ended>,
    /// Tells maintenance when a retry will be due.
    pub due: mpsc::UnboundedSender<Duration>,
    pub counters: Arc<Counters>,
    pub events: EventPublisher,
    pub settings: Arc<Configuration>,
    pub slots: usize,
}

/// What the loop carries from turn to turn.
struct State {
    pacing: Pacing,
    discovery: Discovery,
    /// Outcomes that no statement carries yet, oldest first.
    pending: Vec<EndedAttempt>,
    pending_since: Instant,
    releases: Vec<(ClaimKey, ReleaseReason)>,
    under_way: JoinSet<Answer>,
    /// Steps that the statements under way may still bring.
    asked: usize,
    claiming: bool,
    woken: bool,
    /// What the database's answers have told, in their order.
    told: Vec<Event>,
    /// Claims that they brought, with the registration that they are for, until that has been told.
    accepted: Vec<(i64, Vec<Claim>)>,
    /// No statement is begun before this time, as the last one failed.
    paused_until: Option<Instant>,
    pause: Duration,
}

/// What a statement came to, and under which registration it was sent.
enum Answer {
    Claimed { process: i64, asked: usize, claims: Result<Vec<Claim>, Error> },
    Delivered { process: i64, asked: usize, delivery: Delivery },
    Released { process: i64, claims: Vec<ClaimKey>, reason: ReleaseReason, queues: Result<Vec<String>, Error> },
}

impl Answer {
    fn process(&self) -> i64 {
        match self {
            Self::Claimed { process, .. } | Self::Delivered { process, .. } | Self::Released { process, .. } => {
                *process
            }
        }
    }
}

/// A statement that failed, and the registration under which it was sent.
struct Failure {
    process: i64,
    error: Error,
}

/// What a batch of outcomes came to: what the database has answered, and what has to be sent again.
struct Delivery {
    settled: Vec<(Vec<EndedAttempt>, Finished)>,
    left: Vec<EndedAttempt>,
    error: Option<Error>,
}

impl Dispatcher {
    /// Runs until it is told to stop; then the statements under way are answered still.
    pub async fn run(mut self) {
        let mut state = State::new(self.slots, &self.settings);
        while self.wait(&mut state).await {
            self.conclude(&mut state).await;
            self.gather(&mut state);
            while self.begin(&mut state) {}
        }
        while let Some(answer) = state.under_way.join_next().await {
            self.answered(&mut state, answer);
            self.conclude(&mut state).await;
        }
    }

    /// Steps that are running, at hand, or asked for.
    fn busy(&self, state: &State) -> usize {
        let stages = self.leases.stages();
        stages.buffered + stages.running + state.asked
    }

    fn appetite(&self, state: &State) -> usize {
        if self.draining.load(Ordering::Acquire) {
            return 0;
        }
        state.pacing.appetite(self.busy(state))
    }

    fn hungry(&self, state: &State) -> bool {
        !state.claiming && self.appetite(state) > 0 && state.pacing.hungry(self.busy(state))
    }

    fn flush_in(&self, state: &State) -> Option<Duration> {
        if state.pending.is_empty() {
            return None;
        }
        let waited = state.pending_since.elapsed();
        state.pacing.flush_in(state.pending.len(), waited, self.busy(state), state.under_way.len())
    }

    /// When a statement is to be begun; `None` while only an event can bring one.
    fn next_action(&self, state: &State) -> Option<Instant> {
        if state.under_way.len() >= self.settings.execution.statements {
            return None;
        }
        let now = Instant::now();
        let flush = self.flush_in(state).map(|delay| now + delay);
        let release = (!state.releases.is_empty()).then_some(now);
        let look = self.hungry(state).then(|| state.discovery.next());
        let next = [flush, release, look].into_iter().flatten().min()?;
        Some(state.paused_until.map_or(next, |until| next.max(until)))
    }

    /// Waits until something has happened or is to be begun; `false` when it is time to stop.
    async fn wait(&mut self, state: &mut State) -> bool {
        let next = self.next_action(state);
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let stopping = async { drop(self.stopping.wait_for(|stopping| *stopping).await) };
        tokio::select! {
            biased;
            () = stopping => return false,
            Some(answer) = state.under_way.join_next() => {
                let error = self.answered(state, answer);
                self.note(state, error).await;
            }
            ended = self.outcomes.recv() => match ended {
                Some(ended) => state.add(ended),
                None => return false,
            },
            () = self.wake.notified() => {
                state.woken = true;
                state.discovery.look_at_once(Instant::now());
            }
            () = timer => {}
        }
        true
    }

    /// Takes what has been handed in meanwhile.
    fn gather(&mut self, state: &mut State) {
        while let Ok(ended) = self.outcomes.try_recv() {
            state.add(ended);
        }
    }

    /// Begins one statement if one is due: release, flush, or claim.
    fn begin(&self, state: &mut State) -> bool {
        let paused = state.paused_until.is_some_and(|until| until > Instant::now());
        if paused || state.under_way.len() >= self.settings.execution.statements {
            return false;
        }
        if !state.releases.is_empty() {
            self.release(state);
            return true;
        }
        if self.flush_in(state) == Some(Duration::ZERO) {
            self.flush(state);
            return true;
        }
        if self.hungry(state) && state.discovery.next() <= Instant::now() {
            self.claim(state);
            return true;
        }
        false
    }

    fn claim(&self, state: &mut State) {
        let asked = self.appetite(state);
        state.asked += asked;
        state.claiming = true;
        let (kernel, process) = (self.kernel.clone(), self.process.clone());
        state.under_way.spawn(async move {
            let id = process.hold_id().await;
            let claims = kernel.claim_steps(*id, process.queues(), asked).await;
            Answer::Claimed { process: *id, asked, claims }
        });
    }

    fn flush(&self, state: &mut State) {
        self.drop_revoked(state);
        if state.pending.is_empty() {
            return;
        }
        let asked = self.appetite(state);
        let size = state.pending.len().min(state.pacing.flush_size());
        let attempts: Vec<EndedAttempt> = state.pending.drain(..size).collect();
        state.pending_since = Instant::now();
        state.pacing.flushed(size);
        state.asked += asked;
        let (kernel, process) = (self.kernel.clone(), self.process.clone());
        let hand_over = self.settings.execution.hand_over_limit;
        state.under_way.spawn(async move {
            let id = process.hold_id().await;
            let delivery = deliver(&kernel, *id, attempts, asked, hand_over).await;
            Answer::Delivered { process: *id, asked, delivery }
        });
    }

    fn release(&self, state: &mut State) {
        let (_, reason) = state.releases[0];
        let (these, others): (Vec<_>, Vec<_>) = state.releases.drain(..).partition(|(_, other)| *other == reason);
        state.releases = others;
        let claims: Vec<ClaimKey> = these.into_iter().map(|(key, _)| key).collect();
        let delay = self.delay_after(reason);
        let (kernel, process) = (self.kernel.clone(), self.process.clone());
        state.under_way.spawn(async move {
            let id = process.hold_id().await;
            let queues = kernel.release_steps(*id, &claims, delay, reason).await;
            Answer::Released { process: *id, claims, reason, queues }
        });
    }

    /// The outcomes of leases that were taken away are refused here: the database knows nothing of them, or something else.
    fn drop_revoked(&self, state: &mut State) {
        let revoked = |attempt: &mut EndedAttempt| self.leases.revoked(attempt.key.token);
        let tokens: Vec<i64> = state.pending.extract_if(.., revoked).map(|attempt| attempt.key.token).collect();
        if tokens.is_empty() {
            return;
        }
        self.count_stale(&tokens);
        self.leases.forget(tokens);
        self.settled.notify_waiters();
    }

    fn count_stale(&self, tokens: &[i64]) {
        self.counters.stale.fetch_add(tokens.len() as u64, Ordering::Relaxed);
        for token in tokens {
            self.leases
                .log_context(*token)
                .unwrap_or_default()
                .within(|| tracing::warn!(token, "a stale outcome was refused: its lease was gone"));
        }
    }

    fn delay_after(&self, reason: ReleaseReason) -> Duration {
        match reason {
            ReleaseReason::UnknownHandler | ReleaseReason::NotLoaded => self.settings.discovery.unknown_handler_delay,
            ReleaseReason::Limited => self.settings.execution.claim_ahead_wait,
            ReleaseReason::Shutdown => Duration::ZERO,
        }
    }

    fn answered(&self, state: &mut State, answer: Result<Answer, JoinError>) -> Option<Failure> {
        let answer = answer.expect("a statement's task neither panics nor is aborted");
        let process = answer.process();
        let error = self.take(state, answer);
        self.settled.notify_waiters();
        error.map(|error| Failure { process, error })
    }

    /// Takes in what the database answered to one statement, or its error.
    fn take(&self, state: &mut State, answer: Answer) -> Option<Error> {
        match answer {
            Answer::Claimed { process, asked, claims } => {
                state.asked -= asked;
                state.claiming = false;
                let claims = match claims {
                    Ok(claims) => claims,
                    Err(error) => return Some(error),
                };
                state.caught(asked, claims.len());
                self.accept(state, process, claims);
                None
            }
            Answer::Delivered { process, asked, delivery } => {
                state.asked -= asked;
                state.pending.splice(..0, delivery.left);
                let got = delivery.settled.iter().map(|(_, finished)| finished.claims.len()).sum();
                if asked > 0 && delivery.error.is_none() {
                    state.caught(asked, got);
                }
                for (attempts, finished) in delivery.settled {
                    self.settle(state, process, attempts, finished);
                }
                delivery.error
            }
            Answer::Released { claims, reason, queues, .. } => match queues {
                Ok(queues) => {
                    self.counters.released.fetch_add(claims.len() as u64, Ordering::Relaxed);
                    self.leases.forget(claims.iter().map(|claim| claim.token));
                    self.waker.wake(queues);
                    self.tell_due(self.delay_after(reason));
                    None
                }
                Err(error) => {
                    state.releases.extend(claims.into_iter().map(|claim| (claim, reason)));
                    Some(error)
                }
            },
        }
    }

    fn settle(&self, state: &mut State, process: i64, attempts: Vec<EndedAttempt>, finished: Finished) {
        self.note_ends(state, &attempts, &finished);
        let tokens: Vec<i64> = attempts.into_iter().map(|attempt| attempt.key.token).collect();
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.counters.finished.fetch_add((tokens.len() - finished.stale.len()) as u64, Ordering::Relaxed);
        self.counters.tasks_ended.fetch_add(finished.ended.len() as u64, Ordering::Relaxed);
        self.count_stale(&finished.stale);
        Self::tell_ended(&finished.ended);
        self.leases.forget(tokens);
        if let Some(due) = finished.next_retry {
            self.tell_due(due);
        }
        self.waker.wake(finished.ready_queues);
        self.accept(state, process, finished.claims);
    }

    /// What became of attempts and tasks, for those who listen.
    fn note_ends(&self, state: &mut State, attempts: &[EndedAttempt], finished: &Finished) {
        for attempt in attempts.iter().filter(|attempt| !finished.stale.contains(&attempt.key.token)) {
            let delay = finished.retries.get(&attempt.key.token).copied();
            if self.events.wants(attempt.told_as(delay)) {
                let facts = self.leases.facts(attempt.key.token);
                state.told.extend(facts.map(|facts| attempt.told(facts, delay).event()));
            }
        }
        let ended = finished.ended.iter().filter(|task| self.events.wants(&task.name));
        state.told.extend(ended.map(TaskFacts::event));
    }

    fn tell_ended(ended: &[TaskFacts]) {
        if ended.is_empty() || !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        for TaskFacts { task_id, state, workflow, correlation_id, .. } in ended {
            tracing::info!(%correlation_id, task_id, workflow, state, "task ended");
        }
    }

    /// Takes claims in; they are given out once it has been told that they were claimed.
    fn accept(&self, state: &mut State, process: i64, claims: Vec<Claim>) {
        self.counters.claimed.fetch_add(claims.len() as u64, Ordering::Relaxed);
        if self.events.wants("step.start_requested") {
            state.told.extend(claims.iter().filter_map(|claim| claim.facts().ok()).map(|facts| facts.started()));
        }
        state.accepted.push((process, claims));
    }

    /// Tells what the answers said, in their order, and waits for slow listeners if that is the policy. Then buffers the
    /// claims that they brought, or gives them back when draining has begun meanwhile: nothing that a handler publishes comes
    /// before its start.
    async fn conclude(&self, state: &mut State) {
        tell_all(&self.events, state.told.drain(..)).await;
        for (process, claims) in std::mem::take(&mut state.accepted) {
            let refused = self.leases.add(process, claims, self.events.wants_any("step."));
            state.releases.extend(refused.iter().map(|claim| (claim.key(), ReleaseReason::Shutdown)));
        }
    }

    fn tell_due(&self, delay: Duration) {
        // Maintenance is gone only when everything is: nobody will miss the time.
        let _ = self.due.send(delay);
    }

    /// After an error nothing is lost: the same outcomes are sent again, after a pause that grows.
    async fn note(&self, state: &mut State, failure: Option<Failure>) {
        let Some(Failure { process, error }) = failure else {
            state.paused_until = None;
            state.pause = FIRST_PAUSE;
            return;
        };
        if error.nature() == Nature::UnknownProcess {
            if let Err(error) = self.process.rejoin(&self.kernel, &self.leases, process).await {
                tracing::warn!(error.class = error.class(), error.message = %error, "could not register again; tried again");
            }
        }
        let jitter = 0.5 + rand::random::<f64>();
        tracing::warn!(
            error.class = error.class(),
            error.message = %error,
            pending = state.pending.len(),
            pause = ?state.pause,
            "statement failed and is tried again"
        );
        state.paused_until = Some(Instant::now() + state.pause.mul_f64(jitter));
        state.pause = (state.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Sends a batch of outcomes. If the database refuses something in it, each goes alone, and a refused one ends its
/// step as failed.
async fn deliver(
    kernel: &Kernel,
    process: i64,
    attempts: Vec<EndedAttempt>,
    asked: usize,
    hand_over: usize,
) -> Delivery {
    let mut delivery = Delivery { settled: Vec::new(), left: attempts, error: None };
    match kernel.finish_steps(process, &delivery.left, asked, hand_over).await {
        Ok(finished) => delivery.settle(usize::MAX, finished),
        Err(error) if error.nature() == Nature::Data => isolate(kernel, process, &mut delivery).await,
        Err(error) => delivery.error = Some(error),
    }
    delivery
}

async fn isolate(kernel: &Kernel, process: i64, delivery: &mut Delivery) {
    while let Some(attempt) = delivery.left.first() {
        let finished = match kernel.finish_steps(process, std::slice::from_ref(attempt), 0, 0).await {
            Err(error) if error.nature() == Nature::Data => {
                let refused = attempt.clone().refused_by_database(&error.to_string());
                kernel.finish_steps(process, &[refused], 0, 0).await
            }
            answer => answer,
        };
        match finished {
            Ok(finished) => delivery.settle(1, finished),
            Err(error) => {
                delivery.error = Some(error);
                return;
            }
        }
    }
}

impl Delivery {
    /// Notes the answer to the first `count` of what was left.
    fn settle(&mut self, count: usize, finished: Finished) {
        let count = count.min(self.left.len());
        let attempts = self.left.drain(..count).collect();
        self.settled.push((attempts, finished));
    }
}

impl State {
    fn new(slots: usize, settings: &Configuration) -> Self {
        let now = Instant::now();
        Self {
            pacing: Pacing::new(slots, &settings.execution),
            discovery: Discovery::new(&settings.discovery, settings.database.poll_only, now),
            pending: Vec::new(),
            pending_since: now,
            releases: Vec::new(),
            under_way: JoinSet::new(),
            asked: 0,
            claiming: false,
            woken: false,
            told: Vec::new(),
            accepted: Vec::new(),
            paused_until: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Takes an outcome that was handed in.
    fn add(&mut self, ended: Ended) {
        match ended.outcome {
            Outcome::Released { reason, .. } => self.releases.push((ended.key, reason)),
            outcome @ (Outcome::Completed { .. } | Outcome::Failed { .. }) => {
                if self.pending.is_empty() {
                    self.pending_since = Instant::now();
                }
                self.pacing.ran(ended.times.ran);
                self.pending.extend(EndedAttempt::new(ended.key, outcome, ended.times.waited, ended.times.ran));
            }
        }
    }

    fn caught(&mut self, asked: usize, got: usize) {
        let catch = Catch { asked, got, woken: std::mem::take(&mut self.woken) };
        self.discovery.caught(catch, Instant::now(), rand::random());
    }
}
