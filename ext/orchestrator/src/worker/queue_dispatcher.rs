//! The loop between the database and the application's job queue: claims steps that run as jobs, and enqueues the jobs.
//!
//! Invariant: a step that is claimed here either has an enqueued job, confirmed in the database, or returns. If this
//! process ends in between, a sweep returns it: no attempt is used. Neighbours: `task_enqueuer` reaches the queue; the
//! process that runs a job takes the claim over (`Orchestrator::adopt`); `pacing` decides when to poll.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::claim::ClaimKey;
use crate::database::functions::DispatchBatch;
use crate::error::{Error, ErrorKind};
use crate::outcome::AttemptError;
use crate::task_enqueuer::{EnqueueError, StepJob, TaskEnqueuer};
use crate::worker::context::Context;
use crate::worker::limit::Limit;
use crate::worker::pacing::{ClaimResult, Discovery};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);

pub struct QueueDispatcher {
    context: Arc<Context>,
    enqueuer: Arc<dyn TaskEnqueuer>,
    /// Becomes true when the process stops.
    stopping: watch::Receiver<bool>,
    discovery: Discovery,
    /// Maximum steps that one statement claims.
    limit: Limit,
    /// A single claim failed: a step that cannot be claimed is set aside.
    set_aside_damaged: bool,
    pause: Duration,
}

/// Applies the setting `dispatch.queues` to registered workflows, again until it succeeds or `stopping` is set. A worker
/// that does not dispatch does so too: it runs the steps of a queue that was removed from the setting.
pub async fn apply_queues(context: Arc<Context>, mut stopping: watch::Receiver<bool>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match context.functions.dispatch_queues(&context.settings.dispatch.queues).await {
            Ok(0) => return,
            Ok(_) => {
                context.wake.notify_one();
                context.dispatch_wake.notify_one();
                return;
            }
            Err(error) => {
                tracing::error!(error.class = error.class(), error.message = %error, retry_in = ?pause, "dispatch.queues was not applied to registered workflows: it is tried again");
            }
        }
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
        }
    }
}

impl QueueDispatcher {
    pub fn new(context: Arc<Context>, enqueuer: Arc<dyn TaskEnqueuer>, stopping: watch::Receiver<bool>) -> Self {
        let settings = &context.settings;
        Self {
            discovery: Discovery::new(&settings.discovery, settings.database.poll_only, Instant::now()),
            limit: Limit::new(settings.dispatch.batch.min(settings.dispatch.in_flight)),
            set_aside_damaged: false,
            pause: FIRST_PAUSE,
            context,
            enqueuer,
            stopping,
        }
    }

    /// Runs until `stopping` is set. Claims nothing once draining has begun.
    pub async fn run(mut self) {
        loop {
            let mut woken = false;
            let next = self.discovery.next();
            let is_draining = self.context.draining.load(Ordering::Acquire);
            tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                () = self.context.dispatch_wake.notified() => {
                    woken = true;
                    self.discovery.poll_now(Instant::now());
                }
                () = tokio::time::sleep_until(next.into()), if !is_draining => {}
            }
            if self.context.draining.load(Ordering::Acquire) || self.discovery.next() > Instant::now() {
                continue;
            }
            if let Err(pause) = self.dispatch(woken).await {
                self.discovery.wait_until(Instant::now() + pause);
            }
        }
    }

    /// Dispatches one batch; an error is the pause after a failure.
    async fn dispatch(&mut self, woken: bool) -> Result<(), Duration> {
        let requested = if self.set_aside_damaged { 1 } else { self.limit.current() };
        let (process_id, claimed) = {
            let process_id = self.context.process.lock_id().await;
            let (queues, settings) = (self.context.process.queues(), &self.context.settings.dispatch);
            let functions = &self.context.functions;
            (
                *process_id,
                functions.dispatch_steps(*process_id, queues, requested, settings, self.set_aside_damaged).await,
            )
        };
        let batch = match claimed {
            Ok(batch) => batch,
            Err(error) => return Err(self.claim_failed(process_id, requested, error).await),
        };
        self.set_aside_damaged = false;
        self.context.record_set_aside(&batch.claimed.set_aside, "a step cannot be dispatched and is set aside");
        let claimed = batch.claimed.len() + batch.claimed.set_aside.len();
        self.discovery.record(ClaimResult { requested, claimed, woken }, Instant::now(), rand::random());
        if claimed == 0 {
            return Ok(());
        }
        let enqueued = self.enqueue(process_id, batch).await;
        if enqueued {
            self.limit.grow();
            self.pause = FIRST_PAUSE;
            return Ok(());
        }
        // The next batch shows whether the queue works again.
        self.limit.halve(1);
        Err(self.next_pause())
    }

    /// Enqueues jobs and records what became of them; returns whether the queue accepted any.
    async fn enqueue(&self, process_id: i64, batch: DispatchBatch) -> bool {
        let mut returned: Vec<(ClaimKey, AttemptError)> = Vec::new();
        for unbuilt in &batch.claimed.unbuilt {
            returned.push((unbuilt.key, AttemptError::new(unbuilt.error.class(), unbuilt.error.to_string())));
        }
        let mut jobs = Vec::with_capacity(batch.claimed.claims.len());
        for claim in &batch.claimed.claims {
            match claim.details() {
                Ok(step) => jobs.push(StepJob {
                    claim: claim.key(),
                    queue: step.queue,
                    priority: batch.priorities.get(&claim.token).copied().unwrap_or_default(),
                    task_uuid: step.task_uuid,
                    correlation_id: step.correlation_id,
                    namespace: step.namespace,
                    workflow: step.workflow,
                    step: step.step,
                }),
                Err(error) => {
                    let error = Error::Protocol(error);
                    returned.push((claim.key(), AttemptError::new(error.class(), error.to_string())));
                }
            }
        }
        let keys: Vec<ClaimKey> = jobs.iter().map(|job| job.claim).collect();
        let outcomes = self.enqueuer.enqueue(jobs).await;
        let mut enqueued = Vec::with_capacity(keys.len());
        for (key, outcome) in keys.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => enqueued.push(key),
                Err(EnqueueError { class, message }) => {
                    returned.push((key, AttemptError::new(&class, message).storable()))
                }
            }
        }
        self.context.counters.dispatched.fetch_add(enqueued.len() as u64, Ordering::Relaxed);
        self.confirm(process_id, &enqueued).await;
        self.return_steps(process_id, &returned).await;
        !enqueued.is_empty()
    }

    /// Records enqueued jobs. If that fails, the claims return after a while, and the jobs find none.
    async fn confirm(&self, process_id: i64, enqueued: &[ClaimKey]) {
        if enqueued.is_empty() {
            return;
        }
        if let Err(error) = self.context.functions.confirm_dispatch(process_id, enqueued).await {
            tracing::warn!(jobs = enqueued.len(), error.class = error.class(), error.message = %error, "enqueued jobs were not recorded: their steps are dispatched again");
        }
    }

    /// Returns steps whose jobs were not enqueued, each with its error; together where the errors are the same.
    async fn return_steps(&self, process_id: i64, returned: &[(ClaimKey, AttemptError)]) {
        let delay = self.context.settings.discovery.unknown_handler_delay;
        for group in returned.chunk_by(|(_, one), (_, other)| one == other) {
            let Some((_, failure)) = group.first() else { continue };
            let keys: Vec<ClaimKey> = group.iter().map(|(key, _)| *key).collect();
            tracing::error!(
                steps = keys.len(),
                error.class = failure.class,
                error.message = failure.message,
                retry_in = ?delay,
                "jobs were not enqueued: their steps wait and are dispatched again"
            );
            if let Err(error) = self.context.functions.return_undispatched(process_id, &keys, delay, failure).await {
                tracing::warn!(steps = keys.len(), error.class = error.class(), error.message = %error, "steps were not returned: a sweep returns them");
            }
        }
    }

    /// Reduces the next claim after a failed one, and registers again if necessary; returns the pause.
    async fn claim_failed(&mut self, process_id: i64, requested: usize, error: Error) -> Duration {
        let (class, kind) = (error.class(), error.kind());
        tracing::warn!(requested, error.class = class, error.message = %error, "no step was dispatched: it is tried again");
        if kind == ErrorKind::UnknownProcess {
            let Context { process, functions, leases, .. } = &*self.context;
            if let Err(error) = process.reregister(functions, leases, process_id).await {
                tracing::warn!(error.class = error.class(), error.message = %error, "the process was not registered again");
            }
        } else if kind.may_pass_with_fewer_rows() {
            self.set_aside_damaged = requested == 1;
            self.limit.halve(requested);
        }
        self.next_pause()
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(MAX_PAUSE);
        pause
    }
}
