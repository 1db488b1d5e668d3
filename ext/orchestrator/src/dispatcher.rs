//! The loop between database and handlers: claims steps for free slots, and sends outcomes back in batches.
//!
//! Invariant: few statements at a time. While they are under way outcomes gather, so batches grow with the load by
//! themselves. An outcome stays here until the database has answered it; a lost connection delays, never drops.
//! A statement that was too much is made smaller, down to the one row at fault, which ends with an error or is set aside: it
//! never stops the others.
//! Neighbours: `pacing` decides, `kernel` acts, `leases` holds what is claimed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch, Notify};
use tokio::task::{JoinError, JoinSet};

use crate::configuration::Configuration;
use crate::definitions::SetAside;
use crate::error::{Error, Nature};
use crate::events::{tell_all, Event, EventPublisher, TaskFacts};
use crate::kernel::{Appetite, Claimed, Finished, Kernel, Unbuilt};
use crate::leases::{Leases, Times};
use crate::limit::Limit;
use crate::orchestrator::LEAVING;
use crate::pacing::{Catch, Discovery, Pacing};
use crate::process::Process;
use crate::step::{Claim, ClaimKey, EndedAttempt, Outcome, ReleaseReason};
use crate::waker::Waker;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often an outcome is sent alone, while other statements work, before its step ends without it.
const MOST_TRIES_ALONE: u32 = 5;

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
    /// Steps that the database could not read for a claim.
    pub set_aside: AtomicU64,
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
    /// Claims that others want given back.
    pub returned: mpsc::UnboundedReceiver<(ClaimKey, ReleaseReason)>,
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
    pending_bytes: usize,
    pending_since: Instant,
    /// Outcomes that the database did not take alone, each to be sent alone again.
    aside: Vec<Aside>,
    alone_under_way: bool,
    /// How many outcomes one statement carries.
    flushing: Limit,
    /// How many steps one statement claims.
    claiming_at_once: Limit,
    /// A single claim could not be built: the next one is made without payloads.
    claims_bare: bool,
    /// The last statement with outcomes failed.
    is_failing: bool,
    /// How many statements have worked.
    worked: u64,
    /// Nothing is claimed any more: the last outcomes are delivered.
    leaving: bool,
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
    Claimed {
        process: i64,
        asked: usize,
        bare: bool,
        claimed: Result<Claimed, Error>,
    },
    Delivered {
        process: i64,
        asked: usize,
        attempts: Vec<EndedAttempt>,
        finished: Result<Finished, Error>,
    },
    /// One that was sent alone.
    DeliveredAlone {
        process: i64,
        aside: Aside,
        finished: Result<Finished, Error>,
    },
    Released {
        process: i64,
        claims: Vec<ClaimKey>,
        reason: ReleaseReason,
        queues: Result<Vec<String>, Error>,
    },
}

impl Answer {
    fn process(&self) -> i64 {
        match self {
            Self::Claimed { process, .. }
            | Self::Delivered { process, .. }
            | Self::DeliveredAlone { process, .. }
            | Self::Released { process, .. } => *process,
        }
    }
}

/// An outcome that the database did not take alone.
struct Aside {
    attempt: EndedAttempt,
    /// How often it failed while other statements worked.
    tries: u32,
    /// How many statements had worked when it last failed.
    worked: u64,
    due: Instant,
}

/// Why a statement failed, and whether a pause may help.
struct Failure {
    error: Error,
    pause: bool,
}

impl Dispatcher {
    /// Runs until it is told to stop; then what was handed in is delivered and the statements under way are answered still.
    pub async fn run(mut self) {
        let mut state = State::new(self.slots, &self.settings);
        while self.wait(&mut state).await {
            self.conclude(&mut state).await;
            self.gather(&mut state);
            while self.begin(&mut state) {}
        }
        self.leave(&mut state).await;
    }

    /// Delivers the outcomes that were handed in, as far as there is time. Claims need not be given back: they are when this
    /// process is taken off the list.
    async fn leave(&mut self, state: &mut State) {
        self.gather(state);
        state.leaving = true;
        let deadline = Instant::now() + LEAVING;
        loop {
            if let Some(aside) = state.aside.pop() {
                state.put_back(vec![aside.attempt]);
            }
            while state.under_way.len() < self.settings.execution.statements && !state.pending.is_empty() {
                self.flush(state);
            }
            let answer = tokio::time::timeout_at(deadline.into(), state.under_way.join_next());
            let Ok(Some(answer)) = answer.await else { break };
            let (process, failure) = self.answered(state, answer);
            self.conclude(state).await;
            if let Some(failure) = failure.filter(|failure| failure.pause) {
                let pause = self.note(state, process, failure).await;
                tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
        }
        let left = state.pending.len() + state.aside.len();
        if left > 0 {
            tracing::warn!(outcomes = left, "outcomes could not be delivered: their steps run again");
        }
    }

    /// Steps that are running, at hand, or asked for.
    fn busy(&self, state: &State) -> usize {
        let stages = self.leases.stages();
        stages.buffered + stages.running + state.asked
    }

    fn appetite(&self, state: &State) -> usize {
        let is_held_back = || state.leaving || state.cannot_deliver() || self.leases.is_full();
        if self.draining.load(Ordering::Acquire) || is_held_back() {
            return 0;
        }
        state.pacing.appetite(self.busy(state)).min(state.claiming_at_once.now())
    }

    fn hungry(&self, state: &State) -> bool {
        !state.claiming && self.appetite(state) > 0 && state.pacing.hungry(self.busy(state))
    }

    fn flush_in(&self, state: &State) -> Option<Duration> {
        if state.pending.is_empty() {
            return None;
        }
        let waited = state.pending_since.elapsed();
        let is_full = state.pending_bytes >= self.settings.execution.flush_bytes;
        let pending = if is_full { state.pacing.flush_size() } else { state.pending.len() };
        state.pacing.flush_in(pending, waited, self.busy(state), state.under_way.len())
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
        let aside = state.aside.iter().map(|aside| aside.due).min();
        let next = [flush, release, look, aside].into_iter().flatten().min()?;
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
                match self.answered(state, answer) {
                    (process, Some(failure)) if failure.pause => {
                        let pause = self.note(state, process, failure).await;
                        state.paused_until = Some(Instant::now() + pause);
                    }
                    (_, Some(_)) => {}
                    (_, None) => {
                        state.worked += 1;
                        state.paused_until = None;
                        state.pause = FIRST_PAUSE;
                    }
                }
            }
            ended = self.outcomes.recv() => match ended {
                Some(ended) => state.add(ended),
                None => return false,
            },
            Some(returned) = self.returned.recv() => state.releases.push(returned),
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
        while let Ok(returned) = self.returned.try_recv() {
            state.releases.push(returned);
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
        if self.flush_alone(state) {
            return true;
        }
        if self.hungry(state) && state.discovery.next() <= Instant::now() {
            self.claim(state);
            return true;
        }
        false
    }

    fn claim(&self, state: &mut State) {
        let bare = state.claims_bare;
        let asked = if bare { 1 } else { self.appetite(state) };
        let inline_bytes = self.inline_bytes(asked);
        state.asked += asked;
        state.claiming = true;
        let (kernel, process) = (self.kernel.clone(), self.process.clone());
        state.under_way.spawn(async move {
            let id = process.hold_id().await;
            let claimed = if bare {
                kernel.claim_bare(*id, process.queues()).await
            } else {
                kernel.claim_steps(*id, process.queues(), asked, inline_bytes).await
            };
            Answer::Claimed { process: *id, asked, bare, claimed }
        });
    }

    /// The share of each claim in what one statement may bring.
    fn inline_bytes(&self, asked: usize) -> usize {
        self.settings.execution.claim_bytes / asked.max(1)
    }

    fn flush(&self, state: &mut State) {
        self.drop_revoked(state);
        if state.pending.is_empty() {
            return;
        }
        // Where claims had to be made smaller, they go apart from outcomes.
        let asked = if state.claiming_at_once.is_reduced() { 0 } else { self.appetite(state) };
        let attempts = state.take_pending(self.settings.execution.flush_bytes);
        state.pacing.flushed(attempts.len());
        state.asked += asked;
        let appetite = Appetite {
            steps: asked,
            hand_over: self.settings.execution.hand_over_limit,
            inline_bytes: self.inline_bytes(asked),
        };
        let (kernel, process) = (self.kernel.clone(), self.process.clone());
        state.under_way.spawn(async move {
            let id = process.hold_id().await;
            let finished = kernel.finish_steps(*id, &attempts, appetite).await;
            Answer::Delivered { process: *id, asked, attempts, finished }
        });
    }

    /// Sends one outcome alone that the database has not taken, if one is due; never two at once, so that others get through.
    fn flush_alone(&self, state: &mut State) -> bool {
        let now = Instant::now();
        let due = state.aside.iter().position(|aside| aside.due <= now).filter(|_| !state.alone_under_way);
        let Some(aside) = due.map(|due| state.aside.swap_remove(due)) else { return false };
        state.alone_under_way = true;
        let (kernel, process) = (self.kernel.clone(), self.process.clone());
        state.under_way.spawn(async move {
            let attempts = std::slice::from_ref(&aside.attempt);
            let id = process.hold_id().await;
            let finished = kernel.finish_steps(*id, attempts, Appetite::default()).await;
            Answer::DeliveredAlone { process: *id, aside, finished }
        });
        true
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
        let mut dropped: Vec<EndedAttempt> = state.pending.extract_if(.., revoked).collect();
        state.pending_bytes -= dropped.iter().map(EndedAttempt::bytes).sum::<usize>();
        let of_aside = state.aside.extract_if(.., |aside| self.leases.revoked(aside.attempt.key.token));
        dropped.extend(of_aside.map(|aside| aside.attempt));
        let tokens: Vec<i64> = dropped.iter().map(|attempt| attempt.key.token).collect();
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

    /// Answers the registration under which the statement was sent, and why it failed, if it did.
    fn answered(&self, state: &mut State, answer: Result<Answer, JoinError>) -> (i64, Option<Failure>) {
        let answer = answer.expect("a statement's task neither panics nor is aborted");
        let process = answer.process();
        let failure = self.take(state, answer);
        self.settled.notify_waiters();
        (process, failure)
    }

    /// Takes in what the database answered to one statement, or its error.
    fn take(&self, state: &mut State, answer: Answer) -> Option<Failure> {
        match answer {
            Answer::Claimed { process, asked, bare, claimed } => {
                state.asked -= asked;
                state.claiming = false;
                match claimed {
                    Ok(claimed) => {
                        state.claiming_at_once.grow();
                        state.claims_bare = false;
                        state.caught(asked, claimed.len() + claimed.set_aside.len());
                        if bare {
                            self.tell_bare(&claimed);
                        }
                        let set_aside = self.note_set_aside(&claimed);
                        self.accept(state, process, claimed).or(set_aside)
                    }
                    Err(error) => Some(self.unclaimed(state, asked, error)),
                }
            }
            Answer::Delivered { process, asked, attempts, finished } => {
                state.asked -= asked;
                match finished {
                    Ok(finished) => {
                        state.is_failing = false;
                        state.flushing.grow();
                        if asked > 0 {
                            state.caught(asked, finished.claimed.len());
                        }
                        self.settle(state, process, attempts, finished)
                    }
                    Err(error) => Some(self.undelivered(state, attempts, asked, error)),
                }
            }
            Answer::DeliveredAlone { process, aside, finished } => {
                state.alone_under_way = false;
                match finished {
                    Ok(finished) => {
                        state.is_failing = false;
                        self.settle(state, process, vec![aside.attempt], finished)
                    }
                    Err(error) => Some(self.set_aside(state, aside, error)),
                }
            }
            Answer::Released { claims, reason, queues, .. } => match queues {
                Ok(queues) => {
                    self.counters.released.fetch_add(claims.len() as u64, Ordering::Relaxed);
                    self.leases.forget(claims.iter().map(|claim| claim.token));
                    self.waker.wake(queues);
                    self.tell_due(self.delay_after(reason));
                    if reason == ReleaseReason::Limited {
                        // What more urgent steps held back may be claimed instead.
                        state.discovery.look_at_once(Instant::now());
                    }
                    None
                }
                Err(error) => {
                    state.releases.extend(claims.into_iter().map(|claim| (claim, reason)));
                    Some(Failure { error, pause: true })
                }
            },
        }
    }

    /// A claim failed: the next one asks for fewer steps, and after one alone for no payloads. What cannot be read even then
    /// is set aside by the database.
    fn unclaimed(&self, state: &mut State, asked: usize, error: Error) -> Failure {
        if !error.nature().is_of_rows() {
            return Failure { error, pause: true };
        }
        let is_alone = asked == 1;
        if is_alone {
            state.claims_bare = true;
        } else {
            state.claiming_at_once.halve(asked);
        }
        tracing::warn!(
            asked,
            error.class = error.class(),
            error.message = %error,
            "steps could not be claimed together: the next claim is smaller"
        );
        Failure { error, pause: is_alone }
    }

    fn tell_bare(&self, claimed: &Claimed) {
        for claim in &claimed.claims {
            let Claim { task_id, position, correlation_id, .. } = claim;
            tracing::warn!(
                %correlation_id,
                task_id,
                position,
                "a step was claimed without its input and results, as the database could not return them"
            );
        }
    }

    /// Logs which steps were set aside. This counts as a failure without a pause of its own: should every claim fail,
    /// the pauses grow as for any error, and few steps are set aside.
    fn note_set_aside(&self, claimed: &Claimed) -> Option<Failure> {
        self.counters.set_aside.fetch_add(claimed.set_aside.len() as u64, Ordering::Relaxed);
        for SetAside { task_id, position, error } in &claimed.set_aside {
            let (class, message, code) = (&error.class, &error.message, &error.code);
            tracing::error!(
                task_id,
                position,
                error.class = class,
                error.code = code,
                error.message = message,
                "a step cannot be claimed and is set aside: `tasker why` explains what to do"
            );
        }
        let any = !claimed.set_aside.is_empty();
        any.then_some(Failure { error: Error::Unreadable { what: "a ready step" }, pause: false })
    }

    /// Outcomes were not taken: they are sent again, fewer at once if that may help. One alone that is refused ends its step
    /// with an error that says so; one that is too much is set aside.
    fn undelivered(&self, state: &mut State, mut attempts: Vec<EndedAttempt>, asked: usize, error: Error) -> Failure {
        state.is_failing = true;
        if !error.nature().is_of_rows() {
            state.put_back(attempts);
            return Failure { error, pause: true };
        }
        let count = attempts.len();
        if asked > 0 {
            // It may be the claims that cannot be built: from here on they go apart.
            state.claiming_at_once.halve(asked);
            state.put_back(attempts);
        } else if count > 1 {
            state.flushing.halve(count);
            state.put_back(attempts);
        } else if let Some(attempt) = attempts.pop() {
            let aside = Aside { attempt, tries: 0, worked: state.worked, due: Instant::now() };
            return self.set_aside(state, aside, error);
        }
        tracing::warn!(
            outcomes = count,
            asked,
            error.class = error.class(),
            error.message = %error,
            "outcomes were not taken together: they are sent again in smaller parts"
        );
        Failure { error, pause: false }
    }

    fn set_aside(&self, state: &mut State, mut aside: Aside, error: Error) -> Failure {
        let nature = error.nature();
        if nature.is_of_rows() {
            if aside.tries == 0 || state.worked > aside.worked {
                aside.tries += 1;
            }
            aside.worked = state.worked;
            let is_refused = nature == Nature::Data || aside.tries >= MOST_TRIES_ALONE;
            let ClaimKey { token, position, .. } = aside.attempt.key;
            self.leases.log_context(token).unwrap_or_default().within(|| {
                tracing::warn!(
                    token,
                    position,
                    tries = aside.tries,
                    error.class = error.class(),
                    error.message = %error,
                    "an outcome was not taken"
                );
            });
            if is_refused && !aside.attempt.is_replaced() {
                aside.attempt = aside.attempt.unstorable(&error.to_string());
                aside.due = Instant::now();
                state.aside.push(aside);
                return Failure { error, pause: false };
            }
        }
        let pause = FIRST_PAUSE * 2_u32.pow(aside.tries.min(MOST_TRIES_ALONE + 1));
        aside.due = Instant::now() + pause.min(LONGEST_PAUSE);
        state.aside.push(aside);
        Failure { error, pause: !nature.is_of_rows() }
    }

    fn settle(
        &self,
        state: &mut State,
        process: i64,
        attempts: Vec<EndedAttempt>,
        finished: Finished,
    ) -> Option<Failure> {
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
        self.accept(state, process, finished.claimed)
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
    fn accept(&self, state: &mut State, process: i64, claimed: Claimed) -> Option<Failure> {
        let Claimed { claims, unbuilt, .. } = claimed;
        self.counters.claimed.fetch_add((claims.len() + unbuilt.len()) as u64, Ordering::Relaxed);
        if self.events.wants("step.started") {
            state.told.extend(claims.iter().filter_map(|claim| claim.facts().ok()).map(|facts| facts.started()));
        }
        state.accepted.push((process, claims));
        unbuilt.into_iter().map(|unbuilt| Self::return_unbuilt(state, &unbuilt)).last()
    }

    /// What no handler can be given ends with an error if the workflow's definition cannot be read, and else is given back.
    fn return_unbuilt(state: &mut State, unbuilt: &Unbuilt) -> Failure {
        let Unbuilt { key, error } = unbuilt;
        let ClaimKey { token, task_id, position, .. } = *key;
        tracing::error!(
            task_id,
            position,
            error.class = error.class(),
            error.message = %error,
            "the definition of a claimed step cannot be read"
        );
        if error.is_of_data() {
            let message = format!("the workflow's definition cannot be read: {error}");
            let outcome = Outcome::permanent_failure(token, "TaskerCore::DatabaseError", message);
            state.pend(EndedAttempt::new(*key, outcome, Duration::ZERO, Duration::ZERO));
        } else {
            state.releases.push((*key, ReleaseReason::Shutdown));
        }
        Failure { error: Error::Unreadable { what: "a workflow's definition" }, pause: true }
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

    /// After an error nothing is lost: the same is tried again, after a pause that grows; answers that pause.
    async fn note(&self, state: &mut State, process: i64, failure: Failure) -> Duration {
        let error = failure.error;
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
        let pause = state.pause.mul_f64(jitter);
        state.pause = (state.pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

impl State {
    fn new(slots: usize, settings: &Configuration) -> Self {
        let now = Instant::now();
        Self {
            pacing: Pacing::new(slots, &settings.execution),
            discovery: Discovery::new(&settings.discovery, settings.database.poll_only, now),
            pending: Vec::new(),
            pending_bytes: 0,
            pending_since: now,
            aside: Vec::new(),
            alone_under_way: false,
            flushing: Limit::new(settings.execution.flush_size),
            claiming_at_once: Limit::new(settings.execution.claim_batch),
            claims_bare: false,
            is_failing: false,
            worked: 0,
            leaving: false,
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
                self.pacing.ran(ended.times.ran);
                self.pend(EndedAttempt::new(ended.key, outcome, ended.times.waited, ended.times.ran));
            }
        }
    }

    fn pend(&mut self, attempt: Option<EndedAttempt>) {
        if self.pending.is_empty() {
            self.pending_since = Instant::now();
        }
        self.pending_bytes += attempt.as_ref().map_or(0, EndedAttempt::bytes);
        self.pending.extend(attempt);
    }

    /// Takes as many outcomes as one statement carries, by number and by bytes: one at least.
    fn take_pending(&mut self, most_bytes: usize) -> Vec<EndedAttempt> {
        let most = self.pacing.flush_size().min(self.flushing.now());
        let (mut count, mut bytes) = (0, 0);
        for attempt in self.pending.iter().take(most) {
            let more = bytes + attempt.bytes();
            if count > 0 && more > most_bytes {
                break;
            }
            (count, bytes) = (count + 1, more);
        }
        self.pending_bytes -= bytes;
        self.pending_since = Instant::now();
        self.pending.drain(..count).collect()
    }

    /// Puts outcomes back before the others.
    fn put_back(&mut self, attempts: Vec<EndedAttempt>) {
        self.pending_bytes += attempts.iter().map(EndedAttempt::bytes).sum::<usize>();
        self.pending.splice(..0, attempts);
    }

    /// Whether it is the database that takes no outcomes. One alone that it does not take may be at fault itself.
    fn cannot_deliver(&self) -> bool {
        let alone = self.aside.len() + usize::from(self.alone_under_way);
        self.is_failing && !(self.pending.is_empty() && alone == 1)
    }

    fn caught(&mut self, asked: usize, got: usize) {
        let catch = Catch { asked, got, woken: std::mem::take(&mut self.woken) };
        self.discovery.caught(catch, Instant::now(), rand::random());
    }
}
