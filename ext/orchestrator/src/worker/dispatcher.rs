//! The loop between database and handlers: claims steps for free slots, and sends outcomes back in batches.
//!
//! Invariant: few statements run at a time; outcomes accumulate meanwhile, so batches grow with load. An outcome stays
//! here until the database has stored it; a lost connection delays outcomes but never drops them. A statement that was
//! too large is split until only the row that causes the error remains, and that row never blocks the others. An
//! outcome is replaced by an error; if that cannot be stored either, it is retried, with pauses, until its lease
//! expires and a sweep ends the attempt or sets the step aside. A step that cannot be claimed is set aside. A claim
//! that cannot be released is retried. Neighbours: `pacing` decides, `functions` runs the statements, `leases` holds
//! the claims.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use crate::claim::{Claim, ClaimKey};
use crate::configuration::Configuration;
use crate::database::functions::{ClaimBatch, Demand, FinishResult, UnbuiltClaim};
use crate::error::{Error, ErrorKind};
use crate::events::{publish_all, Event, TaskFacts};
use crate::outcome::{EndedAttempt, Outcome, ReleaseReason};
use crate::worker::context::Context;
use crate::worker::leases::Times;
use crate::worker::limit::Limit;
use crate::worker::pacing::{ClaimResult, Discovery, Pacing};
use crate::worker::STOP_TIMEOUT;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How many times an outcome may fail alone, while other statements succeed, before it is replaced by an error.
const MAX_ISOLATED_TRIES: u32 = 5;

/// An outcome submitted by a handler's thread.
pub struct HandlerOutcome {
    pub key: ClaimKey,
    pub outcome: Outcome,
    pub times: Times,
}

pub struct Dispatcher {
    pub context: Arc<Context>,
    /// Becomes true when the process stops: only statements that deliver the remaining outcomes follow.
    pub stopping: watch::Receiver<bool>,
    pub outcomes: mpsc::Receiver<HandlerOutcome>,
    /// Claims that maintenance and the stopping process want released, and why.
    pub release_requests: mpsc::UnboundedReceiver<(ClaimKey, ReleaseReason)>,
    /// Sends maintenance the delay until a retry is due.
    pub retry_delays: mpsc::UnboundedSender<Duration>,
}

/// The state of the loop.
struct State {
    pacing: Pacing,
    discovery: Discovery,
    /// Outcomes that are not sent yet, oldest first.
    pending: Vec<EndedAttempt>,
    pending_bytes: usize,
    pending_since: Instant,
    /// Outcomes that failed when sent alone; each is sent alone again.
    isolated: Vec<IsolatedOutcome>,
    isolated_in_flight: bool,
    /// Maximum outcomes in one statement.
    flush_limit: Limit,
    /// Maximum steps that one statement claims.
    claim_limit: Limit,
    /// A single claim failed: the next one is requested without payloads.
    claim_without_payloads: bool,
    /// The last batch of outcomes failed, and none has been stored since. A failing isolated outcome changes nothing.
    is_failing: bool,
    /// Number of statements that have succeeded.
    succeeded_statements: u64,
    /// `stopping` was seen: the process claims nothing and delivers the last outcomes.
    is_stopping: bool,
    /// Claims to be released by a later statement.
    releases: Vec<Release>,
    /// Maximum claims that one statement releases.
    release_limit: Limit,
    in_flight: JoinSet<StatementResult>,
    /// Steps requested by statements in flight.
    requested_in_flight: usize,
    /// A statement that only claims is in flight.
    claiming: bool,
    /// A wake-up has arrived since the last claim.
    woken: bool,
    /// Events from database responses, in order, awaiting publication.
    events: Vec<Event>,
    /// Claims from these responses, with their registration; buffered once the events are published.
    accepted: Vec<(i64, Vec<Claim>)>,
    /// No statement starts before this time, as the last one failed.
    paused_until: Option<Instant>,
    pause: Duration,
}

/// The result of a statement, and the registration under which it was sent.
enum StatementResult {
    Claim {
        process_id: i64,
        requested: usize,
        without_payloads: bool,
        claimed: Result<ClaimBatch, Error>,
    },
    Finish {
        process_id: i64,
        requested: usize,
        attempts: Vec<EndedAttempt>,
        finished: Result<FinishResult, Error>,
    },
    /// A single outcome that was sent alone.
    FinishIsolated {
        process_id: i64,
        isolated: IsolatedOutcome,
        finished: Result<FinishResult, Error>,
    },
    Release {
        process_id: i64,
        releases: Vec<Release>,
        reason: ReleaseReason,
        queues: Result<Vec<String>, Error>,
    },
}

impl StatementResult {
    fn process_id(&self) -> i64 {
        match self {
            Self::Claim { process_id, .. }
            | Self::Finish { process_id, .. }
            | Self::FinishIsolated { process_id, .. }
            | Self::Release { process_id, .. } => *process_id,
        }
    }
}

/// An outcome that failed when it was sent alone.
struct IsolatedOutcome {
    attempt: EndedAttempt,
    /// How often it failed while other statements succeeded.
    tries: u32,
    /// `State::succeeded_statements` when it last failed.
    succeeded_before: u64,
    due: Instant,
}

/// A claim to be released.
struct Release {
    key: ClaimKey,
    reason: ReleaseReason,
    /// How often it failed alone.
    tries: u32,
    due: Instant,
}

impl Release {
    fn new((key, reason): (ClaimKey, ReleaseReason)) -> Self {
        Self { key, reason, tries: 0, due: Instant::now() }
    }
}

/// Why a statement failed, and whether a pause may help.
struct Failure {
    error: Error,
    pause: bool,
}

impl Dispatcher {
    /// Runs until `stopping` is set; then delivers the submitted outcomes and awaits the statements under way.
    pub async fn run(mut self) {
        let mut state = State::new(&self.context.settings);
        while self.wait(&mut state).await {
            self.publish_and_buffer(&mut state).await;
            self.receive_pending(&mut state);
            while self.start_next(&mut state) {}
        }
        self.deliver_remaining(&mut state).await;
    }

    /// Delivers the submitted outcomes within the time limit. Claims need no release: deregistering this process
    /// releases them.
    async fn deliver_remaining(&mut self, state: &mut State) {
        self.receive_pending(state);
        state.is_stopping = true;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            // Isolated outcomes are sent again with the others, before they are due: there is no later time.
            if let Some(isolated) = state.isolated.pop() {
                state.requeue(vec![isolated.attempt]);
            }
            while state.in_flight.len() < self.context.settings.execution.statements && !state.pending.is_empty() {
                self.flush(state);
            }
            let result = tokio::time::timeout_at(deadline.into(), state.in_flight.join_next());
            let Ok(Some(result)) = result.await else { break };
            let (process_id, failure) = self.complete(state, result);
            self.publish_and_buffer(state).await;
            if let Some(failure) = failure.filter(|failure| failure.pause) {
                let pause = self.back_off(state, process_id, failure).await;
                tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
        }
        let left = state.pending.len() + state.isolated.len();
        if left > 0 {
            tracing::warn!(outcomes = left, "outcomes could not be delivered: their steps run again");
        }
    }

    /// Number of steps that are running, buffered, or requested.
    fn busy(&self, state: &State) -> usize {
        let stages = self.context.leases.stages();
        stages.buffered + stages.running + state.requested_in_flight
    }

    fn demand(&self, state: &State) -> usize {
        let is_held_back = || state.is_stopping || state.cannot_deliver() || self.context.leases.is_full();
        if self.context.runs_jobs || self.context.draining.load(Ordering::Acquire) || is_held_back() {
            return 0;
        }
        state.pacing.demand(self.busy(state)).min(state.claim_limit.current())
    }

    fn should_claim(&self, state: &State) -> bool {
        !state.claiming && self.demand(state) > 0 && state.pacing.should_claim(self.busy(state))
    }

    /// How much longer to wait before the pending outcomes are sent; `None` without any, or while that depends on an
    /// event.
    fn flush_delay(&self, state: &State) -> Option<Duration> {
        if state.pending.is_empty() {
            return None;
        }
        let waited = state.pending_since.elapsed();
        // Enough bytes for a statement count as a full batch.
        let is_full = state.pending_bytes >= self.context.settings.execution.flush_bytes;
        let pending = if is_full { state.pacing.flush_size() } else { state.pending.len() };
        state.pacing.flush_in(pending, waited, self.busy(state), state.in_flight.len())
    }

    /// The earliest time at which `start_next` may start a statement; `None` until the next event.
    fn next_action(&self, state: &State) -> Option<Instant> {
        if state.in_flight.len() >= self.context.settings.execution.statements {
            return None;
        }
        let now = Instant::now();
        let flush = self.flush_delay(state).map(|delay| now + delay);
        let release = state.releases.iter().map(|release| release.due).min();
        let poll = self.should_claim(state).then(|| state.discovery.next());
        let next = [flush, release, poll, state.next_isolated_at()].into_iter().flatten().min()?;
        Some(state.paused_until.map_or(next, |until| next.max(until)))
    }

    /// Waits for an event or for the time of the next statement; `false` means stop.
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
            Some(result) = state.in_flight.join_next() => {
                match self.complete(state, result) {
                    (process_id, Some(failure)) if failure.pause => {
                        let pause = self.back_off(state, process_id, failure).await;
                        state.paused_until = Some(Instant::now() + pause);
                    }
                    (_, Some(_)) => {}
                    (_, None) => {
                        state.succeeded_statements += 1;
                        state.paused_until = None;
                        state.pause = FIRST_PAUSE;
                    }
                }
            }
            submitted = self.outcomes.recv() => match submitted {
                Some(submitted) => state.accept_outcome(submitted),
                None => return false,
            },
            Some(request) = self.release_requests.recv() => state.releases.push(Release::new(request)),
            () = self.context.wake.notified() => {
                state.woken = true;
                state.discovery.poll_now(Instant::now());
            }
            () = timer => {}
        }
        true
    }

    /// Receives the outcomes and releases that have been submitted meanwhile.
    fn receive_pending(&mut self, state: &mut State) {
        while let Ok(submitted) = self.outcomes.try_recv() {
            state.accept_outcome(submitted);
        }
        while let Ok(request) = self.release_requests.try_recv() {
            state.releases.push(Release::new(request));
        }
    }

    /// Starts the first statement that is due: a release, a batch of outcomes, an isolated outcome, or a claim.
    fn start_next(&self, state: &mut State) -> bool {
        let paused = state.paused_until.is_some_and(|until| until > Instant::now());
        if paused || state.in_flight.len() >= self.context.settings.execution.statements {
            return false;
        }
        if self.release(state) {
            return true;
        }
        if self.flush_delay(state) == Some(Duration::ZERO) {
            self.flush(state);
            return true;
        }
        if self.flush_isolated(state) {
            return true;
        }
        if self.should_claim(state) && state.discovery.next() <= Instant::now() {
            self.claim(state);
            return true;
        }
        false
    }

    fn claim(&self, state: &mut State) {
        let without_payloads = state.claim_without_payloads;
        let requested = if without_payloads { 1 } else { self.demand(state) };
        let inline_bytes = self.inline_bytes(requested);
        state.requested_in_flight += requested;
        state.claiming = true;
        let context = self.context.clone();
        state.in_flight.spawn(async move {
            let process_id = context.process.lock_id().await;
            let began = Instant::now();
            let claimed = if without_payloads {
                context.functions.claim_bare(*process_id, context.process.queues()).await
            } else {
                context.functions.claim_steps(*process_id, context.process.queues(), requested, inline_bytes).await
            };
            context.counters.claim_time.record(began.elapsed());
            StatementResult::Claim { process_id: *process_id, requested, without_payloads, claimed }
        });
    }

    /// Maximum bytes of payloads for each claim of one statement.
    fn inline_bytes(&self, requested: usize) -> usize {
        self.context.settings.execution.claim_bytes / requested.max(1)
    }

    fn flush(&self, state: &mut State) {
        self.drop_revoked(state);
        if state.pending.is_empty() {
            return;
        }
        // Once claims had to be made smaller, they are sent separately from outcomes.
        let requested = if state.claim_limit.is_reduced() { 0 } else { self.demand(state) };
        let attempts = state.take_pending(self.context.settings.execution.flush_bytes);
        state.pacing.record_flush(attempts.len());
        state.requested_in_flight += requested;
        let demand = Demand {
            steps: requested,
            hand_over_limit: self.context.settings.execution.hand_over_limit,
            inline_bytes: self.inline_bytes(requested),
        };
        let context = self.context.clone();
        state.in_flight.spawn(async move {
            let process_id = context.process.lock_id().await;
            let began = Instant::now();
            let finished = context.functions.finish_steps(*process_id, &attempts, demand).await;
            context.counters.finish_time.record(began.elapsed());
            StatementResult::Finish { process_id: *process_id, requested, attempts, finished }
        });
    }

    /// Sends one isolated outcome alone, if one is due; never two at the same time, so that other outcomes get through.
    fn flush_isolated(&self, state: &mut State) -> bool {
        let Some(isolated) = state.take_isolated(Instant::now()) else { return false };
        state.isolated_in_flight = true;
        let context = self.context.clone();
        state.in_flight.spawn(async move {
            let attempts = std::slice::from_ref(&isolated.attempt);
            let process_id = context.process.lock_id().await;
            let finished = context.functions.finish_steps(*process_id, attempts, Demand::default()).await;
            StatementResult::FinishIsolated { process_id: *process_id, isolated, finished }
        });
        true
    }

    /// Releases some claims, if any are due.
    fn release(&self, state: &mut State) -> bool {
        let releases = state.take_releases(Instant::now());
        let Some(&Release { reason, .. }) = releases.first() else { return false };
        let delay = self.delay_after(reason);
        let context = self.context.clone();
        state.in_flight.spawn(async move {
            let claims: Vec<ClaimKey> = releases.iter().map(|release| release.key).collect();
            let process_id = context.process.lock_id().await;
            let queues = context.functions.release_steps(*process_id, &claims, delay, reason).await;
            StatementResult::Release { process_id: *process_id, releases, reason, queues }
        });
        true
    }

    /// Rejects the outcomes of revoked leases: the database no longer has the claim, or has a newer one.
    fn drop_revoked(&self, state: &mut State) {
        let revoked = |attempt: &mut EndedAttempt| self.context.leases.revoked(attempt.key.token);
        let mut dropped: Vec<EndedAttempt> = state.pending.extract_if(.., revoked).collect();
        state.pending_bytes -= dropped.iter().map(EndedAttempt::bytes).sum::<usize>();
        let of_isolated =
            state.isolated.extract_if(.., |isolated| self.context.leases.revoked(isolated.attempt.key.token));
        dropped.extend(of_isolated.map(|isolated| isolated.attempt));
        let tokens: Vec<i64> = dropped.iter().map(|attempt| attempt.key.token).collect();
        if tokens.is_empty() {
            return;
        }
        self.count_stale(&tokens);
        self.context.leases.forget(tokens);
        self.context.settled.notify_waiters();
    }

    fn count_stale(&self, tokens: &[i64]) {
        self.context.counters.stale.fetch_add(tokens.len() as u64, Ordering::Relaxed);
        for token in tokens {
            self.context
                .leases
                .log_context(*token)
                .within(|| tracing::warn!(token, "a stale outcome was rejected: its lease had ended"));
        }
    }

    fn delay_after(&self, reason: ReleaseReason) -> Duration {
        match reason {
            ReleaseReason::UnknownHandler | ReleaseReason::NotLoaded => {
                self.context.settings.discovery.unknown_handler_delay
            }
            ReleaseReason::Limited => self.context.settings.execution.claim_ahead_wait,
            ReleaseReason::Unstarted | ReleaseReason::Shutdown | ReleaseReason::Interrupted => Duration::ZERO,
        }
    }

    /// Processes a statement's result; returns the registration under which it was sent, and its failure, if any.
    fn complete(&self, state: &mut State, result: Result<StatementResult, JoinError>) -> (i64, Option<Failure>) {
        let result = result.expect("a statement's task neither panics nor is aborted");
        let process_id = result.process_id();
        let failure = self.apply(state, result);
        self.context.settled.notify_waiters();
        (process_id, failure)
    }

    /// Applies the response to a statement, or its error.
    fn apply(&self, state: &mut State, result: StatementResult) -> Option<Failure> {
        match result {
            StatementResult::Claim { process_id, requested, without_payloads, claimed } => {
                state.requested_in_flight -= requested;
                state.claiming = false;
                match claimed {
                    Ok(claimed) => self.apply_claim(state, process_id, requested, without_payloads, claimed),
                    Err(error) => Some(self.claim_failed(state, requested, error)),
                }
            }
            StatementResult::Finish { process_id, requested, attempts, finished } => {
                state.requested_in_flight -= requested;
                match finished {
                    Ok(finished) => {
                        state.flush_limit.grow();
                        if requested > 0 {
                            state.record_claims(requested, finished.claimed.len());
                        }
                        self.apply_finish(state, process_id, attempts, finished)
                    }
                    Err(error) => Some(self.delivery_failed(state, attempts, requested, error)),
                }
            }
            StatementResult::FinishIsolated { process_id, isolated, finished } => {
                state.isolated_in_flight = false;
                match finished {
                    Ok(finished) => self.apply_finish(state, process_id, vec![isolated.attempt], finished),
                    Err(error) => Some(self.isolate(state, isolated, error)),
                }
            }
            StatementResult::Release { releases, reason, queues, .. } => match queues {
                Ok(queues) => {
                    self.apply_release(state, &releases, reason, queues);
                    None
                }
                Err(error) => Some(self.requeue_releases(state, releases, error)),
            },
        }
    }

    fn apply_claim(
        &self,
        state: &mut State,
        process_id: i64,
        requested: usize,
        without_payloads: bool,
        claimed: ClaimBatch,
    ) -> Option<Failure> {
        state.claim_limit.grow();
        state.claim_without_payloads = false;
        state.record_claims(requested, claimed.len() + claimed.set_aside.len());
        if without_payloads {
            Self::log_claims_without_payloads(&claimed);
        }
        let set_aside = self.record_set_aside(&claimed);
        self.accept(state, process_id, claimed).or(set_aside)
    }

    fn apply_release(&self, state: &mut State, releases: &[Release], reason: ReleaseReason, queues: Vec<String>) {
        state.release_limit.grow();
        self.context.counters.released.fetch_add(releases.len() as u64, Ordering::Relaxed);
        self.context.leases.forget(releases.iter().map(|release| release.key.token));
        self.context.notifier.notify(queues);
        self.schedule_sweep(self.delay_after(reason));
        if reason == ReleaseReason::Limited {
            // Steps that were behind more urgent ones may be claimed instead.
            state.discovery.poll_now(Instant::now());
        }
    }

    /// Reduces the next claim after a failed one: to half as many steps, or, if a single step was requested, to one
    /// step without payloads. The database sets aside a step that cannot be claimed even then.
    fn claim_failed(&self, state: &mut State, requested: usize, error: Error) -> Failure {
        if !error.kind().may_pass_with_fewer_rows() {
            return Failure { error, pause: true };
        }
        let is_single = requested == 1;
        if is_single {
            state.claim_without_payloads = true;
        } else {
            state.claim_limit.halve(requested);
        }
        tracing::warn!(
            requested,
            error.class = error.class(),
            error.message = %error,
            "a claim failed: the next one requests fewer steps or no payloads"
        );
        Failure { error, pause: is_single }
    }

    fn log_claims_without_payloads(claimed: &ClaimBatch) {
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

    /// Records the steps that were set aside. Returned as a failure without a pause, so that it does not reset the
    /// back-off: if every claim fails, pauses keep growing and few steps are set aside.
    fn record_set_aside(&self, claimed: &ClaimBatch) -> Option<Failure> {
        self.context.record_set_aside(&claimed.set_aside, "a step cannot be claimed and is set aside");
        let any = !claimed.set_aside.is_empty();
        any.then_some(Failure { error: Error::Unreadable { what: "a ready step" }, pause: false })
    }

    /// Requeues outcomes that were not stored, to be sent in smaller parts if that may help. A single outcome is
    /// isolated.
    fn delivery_failed(
        &self,
        state: &mut State,
        mut attempts: Vec<EndedAttempt>,
        requested: usize,
        error: Error,
    ) -> Failure {
        state.is_failing = true;
        if !error.kind().may_pass_with_fewer_rows() {
            state.requeue(attempts);
            return Failure { error, pause: true };
        }
        let count = attempts.len();
        if requested > 0 {
            // The claims may have caused the error: from now on they are requested in statements of their own.
            state.claim_limit.halve(requested);
            state.requeue(attempts);
        } else if count > 1 {
            state.flush_limit.halve(count);
            state.requeue(attempts);
        } else if let Some(attempt) = attempts.pop() {
            let (succeeded_before, due) = (state.succeeded_statements, Instant::now());
            let isolated = IsolatedOutcome { attempt, tries: 0, succeeded_before, due };
            return self.isolate(state, isolated, error);
        }
        tracing::warn!(
            outcomes = count,
            requested,
            error.class = error.class(),
            error.message = %error,
            "outcomes were not stored: they are sent again in smaller parts"
        );
        Failure { error, pause: false }
    }

    /// Schedules the next try of an outcome that failed alone; replaces it by an error if the database cannot store it.
    fn isolate(&self, state: &mut State, mut isolated: IsolatedOutcome, error: Error) -> Failure {
        let kind = error.kind();
        if kind.may_pass_with_fewer_rows() {
            if isolated.tries == 0 || state.succeeded_statements > isolated.succeeded_before {
                isolated.tries += 1;
            }
            isolated.succeeded_before = state.succeeded_statements;
            let is_unstorable = kind == ErrorKind::Data || isolated.tries >= MAX_ISOLATED_TRIES;
            self.log_failed_alone(isolated.attempt.key, isolated.tries, &error, "an outcome was not stored");
            if is_unstorable && !isolated.attempt.is_replaced() {
                isolated.attempt = isolated.attempt.replaced_by_error(&error.to_string());
                isolated.due = Instant::now();
                state.isolated.push(isolated);
                return Failure { error, pause: false };
            }
        }
        isolated.due = Instant::now() + pause_after(isolated.tries);
        state.isolated.push(isolated);
        Failure { error, pause: !kind.may_pass_with_fewer_rows() }
    }

    /// Requeues claims that were not released, to be sent in smaller parts if that may help. Then they pause before
    /// the next try, so that a claim that always fails does not delay other statements.
    fn requeue_releases(&self, state: &mut State, mut releases: Vec<Release>, error: Error) -> Failure {
        let is_of_rows = error.kind().may_pass_with_fewer_rows();
        if is_of_rows {
            match releases.as_mut_slice() {
                [Release { key, tries, .. }] => {
                    *tries += 1;
                    self.log_failed_alone(*key, *tries, &error, "a claim could not be released and is tried again");
                }
                several => {
                    state.release_limit.halve(several.len());
                    tracing::warn!(
                        claims = several.len(),
                        error.class = error.class(),
                        error.message = %error,
                        "claims could not be released together: they are sent again in smaller parts"
                    );
                }
            }
            for release in &mut releases {
                release.due = Instant::now() + pause_after(release.tries);
            }
        }
        state.releases.extend(releases);
        Failure { error, pause: !is_of_rows }
    }

    /// Logs that a statement with this claim alone has failed.
    fn log_failed_alone(
        &self,
        ClaimKey { token, position, .. }: ClaimKey,
        tries: u32,
        error: &Error,
        message: &'static str,
    ) {
        self.context.leases.log_context(token).within(|| {
            tracing::warn!(token, position, tries, error.class = error.class(), error.message = %error, "{message}");
        });
    }

    fn apply_finish(
        &self,
        state: &mut State,
        process_id: i64,
        attempts: Vec<EndedAttempt>,
        finished: FinishResult,
    ) -> Option<Failure> {
        state.is_failing = false;
        self.collect_end_events(state, &attempts, &finished);
        for attempt in &attempts {
            self.context.counters.run_time.record(attempt.ran());
        }
        let tokens: Vec<i64> = attempts.into_iter().map(|attempt| attempt.key.token).collect();
        self.context.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.context.counters.finished.fetch_add((tokens.len() - finished.stale.len()) as u64, Ordering::Relaxed);
        self.context.counters.tasks_ended.fetch_add(finished.ended.len() as u64, Ordering::Relaxed);
        self.count_stale(&finished.stale);
        Self::log_ended_tasks(&finished.ended);
        let mut queues = finished.ready_queues;
        if self.context.runs_jobs {
            // A dispatcher may be waiting for room for another job.
            queues.extend(self.context.leases.queues(&tokens));
        }
        self.context.leases.forget(tokens);
        if let Some(due) = finished.next_retry {
            self.schedule_sweep(due);
        }
        self.context.notifier.notify(queues);
        self.accept(state, process_id, finished.claimed)
    }

    /// Collects the events of ended attempts and tasks.
    fn collect_end_events(&self, state: &mut State, attempts: &[EndedAttempt], finished: &FinishResult) {
        for attempt in attempts.iter().filter(|attempt| !finished.stale.contains(&attempt.key.token)) {
            let delay = finished.retries.get(&attempt.key.token).copied();
            if self.context.events.is_interested(attempt.event_name(delay)) {
                let facts = self.context.leases.facts(attempt.key.token);
                state.events.extend(facts.map(|facts| attempt.event(facts, delay).event()));
            }
        }
        let ended = finished.ended.iter().filter(|task| self.context.events.is_interested(&task.name));
        state.events.extend(ended.map(TaskFacts::event));
    }

    fn log_ended_tasks(ended: &[TaskFacts]) {
        if ended.is_empty() || !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        for TaskFacts { task_id, state, workflow, correlation_id, .. } in ended {
            tracing::info!(%correlation_id, task_id, workflow, state, "task ended");
        }
    }

    /// Accepts claims; they are buffered once their events are published.
    fn accept(&self, state: &mut State, process_id: i64, claimed: ClaimBatch) -> Option<Failure> {
        let ClaimBatch { claims, unbuilt, set_aside: _ } = claimed; // see `record_set_aside`
        self.context.counters.claimed.fetch_add((claims.len() + unbuilt.len()) as u64, Ordering::Relaxed);
        if self.context.events.is_interested("step.started") {
            state.events.extend(claims.iter().filter_map(|claim| claim.facts().ok()).map(|facts| facts.started()));
        }
        state.accepted.push((process_id, claims));
        for unbuilt in &unbuilt {
            Self::return_unbuilt(state, unbuilt);
        }
        let failure = || Failure { error: Error::Unreadable { what: "a workflow's definition" }, pause: true };
        (!unbuilt.is_empty()).then(failure)
    }

    /// Fails the step of a claim whose workflow definition is unreadable; after a transient error, releases the claim.
    fn return_unbuilt(state: &mut State, unbuilt: &UnbuiltClaim) {
        let UnbuiltClaim { key, error } = unbuilt;
        let ClaimKey { token, task_id, position, .. } = *key;
        tracing::error!(
            task_id,
            position,
            error.class = error.class(),
            error.message = %error,
            "the definition of a claimed step cannot be read"
        );
        if error.is_permanent() {
            let message = format!("the workflow's definition cannot be read: {error}");
            let outcome = Outcome::permanent_failure(token, "TaskerCore::DatabaseError", message);
            state.enqueue(EndedAttempt::new(*key, outcome, Duration::ZERO, Duration::ZERO));
        } else {
            state.releases.push(Release::new((*key, ReleaseReason::Unstarted)));
        }
    }

    /// Publishes the collected events in order; waits for slow listeners if the settings require it. Then buffers the
    /// accepted claims, so that a step's start is published before its handler's events. If draining has begun,
    /// releases them instead.
    async fn publish_and_buffer(&self, state: &mut State) {
        publish_all(&self.context.events, state.events.drain(..)).await;
        for (process_id, claims) in std::mem::take(&mut state.accepted) {
            let refused =
                self.context.leases.add(process_id, claims, self.context.events.is_interested_in_any("step."));
            state.releases.extend(refused.iter().map(|claim| Release::new((claim.key(), ReleaseReason::Shutdown))));
        }
    }

    fn schedule_sweep(&self, delay: Duration) {
        // Maintenance ends only when the whole process stops.
        let _ = self.retry_delays.send(delay);
    }

    /// Logs a failure and registers again if necessary; returns the pause before the retry, which grows with each
    /// failure.
    async fn back_off(&self, state: &mut State, process_id: i64, failure: Failure) -> Duration {
        let error = failure.error;
        if error.kind() == ErrorKind::UnknownProcess {
            if let Err(error) =
                self.context.process.reregister(&self.context.functions, &self.context.leases, process_id).await
            {
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
        state.pause = (state.pause * 2).min(MAX_PAUSE);
        pause
    }
}

/// The pause before an outcome or release that failed alone `tries` times is sent again: 50 ms, doubled with each try,
/// up to 3.2 s.
fn pause_after(tries: u32) -> Duration {
    FIRST_PAUSE * 2_u32.pow(tries.min(MAX_ISOLATED_TRIES + 1))
}

impl State {
    fn new(settings: &Configuration) -> Self {
        let now = Instant::now();
        Self {
            pacing: Pacing::new(settings.execution.threads, &settings.execution),
            discovery: Discovery::new(&settings.discovery, settings.database.poll_only, now),
            pending: Vec::new(),
            pending_bytes: 0,
            pending_since: now,
            isolated: Vec::new(),
            isolated_in_flight: false,
            flush_limit: Limit::new(settings.execution.flush_size),
            claim_limit: Limit::new(settings.execution.claim_batch),
            claim_without_payloads: false,
            is_failing: false,
            succeeded_statements: 0,
            is_stopping: false,
            releases: Vec::new(),
            // Releases have no setting of their own: they may be as large as claims.
            release_limit: Limit::new(settings.execution.claim_batch),
            in_flight: JoinSet::new(),
            requested_in_flight: 0,
            claiming: false,
            woken: false,
            events: Vec::new(),
            accepted: Vec::new(),
            paused_until: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Queues a submitted outcome, or the release of its claim.
    fn accept_outcome(&mut self, submitted: HandlerOutcome) {
        match submitted.outcome {
            Outcome::Released { reason, .. } => self.releases.push(Release::new((submitted.key, reason))),
            outcome @ (Outcome::Completed { .. } | Outcome::Failed { .. }) => {
                self.pacing.record_run(submitted.times.ran);
                self.enqueue(EndedAttempt::new(submitted.key, outcome, submitted.times.waited, submitted.times.ran));
            }
        }
    }

    fn enqueue(&mut self, attempt: Option<EndedAttempt>) {
        if self.pending.is_empty() {
            self.pending_since = Instant::now();
        }
        self.pending_bytes += attempt.as_ref().map_or(0, EndedAttempt::bytes);
        self.pending.extend(attempt);
    }

    /// Takes the outcomes for one statement, limited by number and bytes, but at least one.
    fn take_pending(&mut self, max_bytes: usize) -> Vec<EndedAttempt> {
        let max = self.pacing.flush_size().min(self.flush_limit.current());
        let (mut count, mut bytes) = (0, 0);
        for attempt in self.pending.iter().take(max) {
            let more = bytes + attempt.bytes();
            if count > 0 && more > max_bytes {
                break;
            }
            (count, bytes) = (count + 1, more);
        }
        self.pending_bytes -= bytes;
        // The rest wait for a full batch from now on.
        self.pending_since = Instant::now();
        self.pending.drain(..count).collect()
    }

    /// When an isolated outcome may be sent; `None` while another one is in flight.
    fn next_isolated_at(&self) -> Option<Instant> {
        if self.isolated_in_flight {
            return None;
        }
        self.isolated.iter().map(|isolated| isolated.due).min()
    }

    fn take_isolated(&mut self, now: Instant) -> Option<IsolatedOutcome> {
        let at = self.next_isolated_at().filter(|at| *at <= now)?;
        let due = self.isolated.iter().position(|isolated| isolated.due == at)?;
        Some(self.isolated.swap_remove(due))
    }

    /// Takes the claims that one statement releases: several due ones with the same reason, or one that has failed
    /// alone.
    fn take_releases(&mut self, now: Instant) -> Vec<Release> {
        let Some(first) = self.releases.iter().find(|release| release.due <= now) else { return Vec::new() };
        let (reason, is_alone) = (first.reason, first.tries > 0);
        let max = if is_alone { 1 } else { self.release_limit.current() };
        let fits =
            |release: &mut Release| release.due <= now && release.reason == reason && (release.tries > 0) == is_alone;
        self.releases.extract_if(.., fits).take(max).collect()
    }

    /// Returns outcomes to the front of the queue.
    fn requeue(&mut self, attempts: Vec<EndedAttempt>) {
        self.pending_bytes += attempts.iter().map(EndedAttempt::bytes).sum::<usize>();
        self.pending.splice(..0, attempts);
    }

    /// Whether the database seems to store no outcome at all. A single isolated outcome, with no other pending, may be
    /// the cause itself.
    fn cannot_deliver(&self) -> bool {
        let alone = self.isolated.len() + usize::from(self.isolated_in_flight);
        self.is_failing && !(self.pending.is_empty() && alone == 1)
    }

    fn record_claims(&mut self, requested: usize, claimed: usize) {
        let result = ClaimResult { requested, claimed, woken: std::mem::take(&mut self.woken) };
        self.discovery.record(result, Instant::now(), rand::random());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isolated_outcome_waits_for_the_one_in_flight() {
        let mut state = State::new(&Configuration::load(None).unwrap());
        let key = ClaimKey { token: 1, task_id: 1, position: 0, attempt: 1 };
        let outcome = Outcome::permanent_failure(1, "Error", String::new());
        let attempt = EndedAttempt::new(key, outcome, Duration::ZERO, Duration::ZERO).unwrap();
        let due = Instant::now();
        state.isolated.push(IsolatedOutcome { attempt, tries: 1, succeeded_before: 0, due });
        assert_eq!(state.next_isolated_at(), Some(due));
        state.isolated_in_flight = true;
        assert_eq!(state.next_isolated_at(), None, "a timer that has fired would spin the loop");
    }

    #[test]
    fn claims_are_released_by_reason_and_alone_after_a_failure() {
        let settings = Configuration::load(Some(&serde_json::json!({"execution": {"claim_batch": 2}}))).unwrap();
        let mut state = State::new(&settings);
        let now = Instant::now();
        let mut release = |token, reason, tries, due| {
            let key = ClaimKey { token, task_id: token, position: 0, attempt: 1 };
            state.releases.push(Release { key, reason, tries, due });
        };
        release(1, ReleaseReason::Unstarted, 0, now);
        release(2, ReleaseReason::Limited, 0, now);
        release(3, ReleaseReason::Unstarted, 1, now);
        release(4, ReleaseReason::Unstarted, 2, now + Duration::from_secs(1));
        release(5, ReleaseReason::Unstarted, 0, now);
        release(6, ReleaseReason::Unstarted, 0, now);
        release(7, ReleaseReason::Unstarted, 1, now);
        let mut taken = |at| state.take_releases(at).iter().map(|release| release.key.token).collect::<Vec<_>>();
        assert_eq!([taken(now), taken(now), taken(now), taken(now)], [vec![1, 5], vec![2], vec![3], vec![6]]);
        assert_eq!([taken(now), taken(now)], [vec![7], vec![]]);
        assert_eq!(taken(now + Duration::from_secs(1)), [4]);
    }
}
