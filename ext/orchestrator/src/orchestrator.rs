//! The façade of one worker process.
//!
//! `start` registers the process and starts dispatcher, maintenance and listener; threads that run handlers call
//! `next_step` and `finish`; `drain` stops claiming; `stop` delivers the remaining outcomes and deregisters. Invariant:
//! after `stop` only history of this process remains in the database.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::claim::{Claim, ClaimKey};
use crate::client::operator::Task;
use crate::configuration::Configuration;
use crate::database::functions::{ClaimBatch, Functions, ProcessEntry, UnbuiltClaim};
use crate::database::{self, Address};
use crate::error::{Error, ErrorKind};
use crate::events::{publish_all, EventPublisher};
use crate::outcome::{Outcome, ReleaseReason, UNSTORABLE};
use crate::task_enqueuer::TaskEnqueuer;
use crate::worker::context::Context;
use crate::worker::dispatcher::{Dispatcher, HandlerOutcome};
use crate::worker::listener::Listener;
use crate::worker::maintenance::Maintenance;
use crate::worker::queue_dispatcher::{apply_queues, QueueDispatcher};
use crate::worker::registration::Registration;
use crate::worker::STOP_TIMEOUT;
use crate::workflow::payload;

/// The arguments of `Orchestrator::start`.
#[derive(Clone)]
pub struct Settings {
    pub address: Address,
    pub configuration: Configuration,
    /// Receives the events of steps and tasks.
    pub events: EventPublisher,
    /// Name, host and process id, shown in the list of processes.
    pub name: String,
    pub hostname: String,
    pub pid: u32,
    pub role: Role,
}

/// What a process does.
#[derive(Clone)]
pub enum Role {
    /// Claims ready steps for its threads.
    Worker,
    /// Also claims the steps that run as jobs, and enqueues the jobs.
    Dispatcher(Arc<dyn TaskEnqueuer>),
    /// Runs jobs: it claims nothing, and adopts what dispatchers have claimed.
    Jobs,
}

/// A running worker process. Clones share it.
#[derive(Clone)]
pub struct Orchestrator {
    shared: Arc<Shared>,
}

struct Shared {
    context: Arc<Context>,
    outcomes: mpsc::Sender<HandlerOutcome>,
    release_requests: mpsc::UnboundedSender<(ClaimKey, ReleaseReason)>,
    stopping: watch::Sender<bool>,
    /// Taken when it stops.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    listener: Option<AbortHandle>,
}

/// The state of this process, and what it has done since its start.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Its id in the database.
    pub process: i64,
    pub queues: Vec<String>,
    pub draining: bool,
    /// Whether wake-ups arrive; otherwise steps are found only by polling.
    pub listening: bool,
    /// Claims that have not started.
    pub buffered: usize,
    /// Attempts whose handler runs.
    pub running: usize,
    /// All claims, those with an outcome that is not delivered yet included.
    pub held: usize,
    /// Claims since the start.
    pub claimed: u64,
    /// Steps that the database could not read for a claim or for the end of a lost attempt: each waits for a repair.
    pub set_aside: u64,
    /// Outcomes that the database has accepted.
    pub finished: u64,
    /// Outcomes that the database has rejected, as the claim was taken away.
    pub stale: u64,
    /// Claims that were released without an outcome, before `drain`.
    pub released: u64,
    /// Steps for which a job was enqueued.
    pub dispatched: u64,
    /// Batches of outcomes.
    pub flushes: u64,
    /// Tasks that ended with an outcome of this process.
    pub tasks_ended: u64,
    /// Tasks that retention removed.
    pub pruned: u64,
    /// Tasks that the last complete round of audits found broken: any number but 0 indicates a defect of tasker_core.
    pub broken: u64,
    /// Open connections to the database.
    pub connections: u32,
    /// Those of them that are not in use.
    pub idle_connections: usize,
}

impl Orchestrator {
    /// Connects, registers the process, and starts to claim. Runs on the current tokio runtime.
    ///
    /// # Errors
    /// `Error::Database` without a connection, `Error::Configuration` if the database is not Active Record's or cannot
    /// be used in this mode, `Error::FunctionsMissing` if the functions are not installed.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let Settings { address, configuration, events, name, hostname, pid, role } = settings;
        let connections = database::connect(&address, &configuration.database).await?;
        let functions = Functions::new(connections, &configuration.database);
        let entry = ProcessEntry {
            id: None,
            name,
            hostname,
            pid,
            queues: if matches!(role, Role::Jobs) { Vec::new() } else { configuration.execution.queues.clone() },
            dispatches: matches!(role, Role::Dispatcher(_)),
            heartbeat_timeout_ms: millis(configuration.leases.process_timeout),
            lease_grace_ms: millis(configuration.leases.deadline_grace),
        };
        let process = Registration::register(&functions, entry).await?;
        let runs_jobs = matches!(role, Role::Jobs);
        let context = Arc::new(Context::new(functions, process, configuration, events, runs_jobs));
        Ok(Self::run(context, role))
    }

    fn run(context: Arc<Context>, role: Role) -> Self {
        let execution = &context.settings.execution;
        // Room for every lease: a sender waits only if the two limits ever disagree.
        let capacity = execution.threads + execution.claim_ahead + execution.claim_batch;
        let (outcomes, submitted) = mpsc::channel(capacity);
        let (retry_delays, retries) = mpsc::unbounded_channel();
        let (release_requests, requested_releases) = mpsc::unbounded_channel();
        let (stopping, stop) = watch::channel(false);
        let dispatcher = Dispatcher {
            context: context.clone(),
            stopping: stop.clone(),
            outcomes: submitted,
            release_requests: requested_releases,
            retry_delays,
        };
        let maintenance = Maintenance::new(context.clone(), stop.clone(), retries, release_requests.clone());
        let mut tasks = vec![tokio::spawn(dispatcher.run()), tokio::spawn(maintenance.run())];
        if !context.runs_jobs {
            tasks.push(tokio::spawn(apply_queues(context.clone(), stop.clone())));
        }
        if let Role::Dispatcher(enqueuer) = role {
            tasks.push(tokio::spawn(QueueDispatcher::new(context.clone(), enqueuer, stop).run()));
        }
        let listener = (!context.settings.database.poll_only && !context.runs_jobs)
            .then(|| tokio::spawn(Listener { context: context.clone() }.run()).abort_handle());
        let tasks = Mutex::new(tasks);
        Self { shared: Arc::new(Shared { context, outcomes, release_requests, stopping, tasks, listener }) }
    }

    /// The SQL functions, on the connections of this process.
    pub fn functions(&self) -> &Functions {
        &self.shared.context.functions
    }

    /// The id of this process in the database; changes when it registers again after it was taken for dead.
    pub fn process_id(&self) -> i64 {
        self.shared.context.process.id()
    }

    /// The next claim, if one is buffered.
    pub fn try_next_step(&self) -> Option<Claim> {
        self.shared.context.leases.try_next()
    }

    /// Waits for the next claim; `None` once draining has begun.
    pub async fn next_step(&self) -> Option<Claim> {
        self.shared.context.leases.next().await
    }

    /// Takes over the claim of a job that this process is about to run; `None` if the job has been started before, or
    /// later than its claim lasted. Waits while too many bytes of outcomes wait for the database.
    ///
    /// # Errors
    /// `Error::Closed` once draining has begun; the claim then returns without using an attempt.
    pub async fn adopt(&self, job: ClaimKey) -> Result<Option<Claim>, Error> {
        let context = &self.shared.context;
        while context.leases.is_full() {
            let mut settled = pin!(context.settled.notified());
            settled.as_mut().enable();
            if context.leases.is_full() {
                settled.await;
            }
        }
        if context.draining.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let (mut process_id, mut adopted) = self.adopt_once(job).await;
        if matches!(&adopted, Err(error) if error.kind() == ErrorKind::UnknownProcess) {
            context.process.reregister(&context.functions, &context.leases, process_id).await?;
            (process_id, adopted) = self.adopt_once(job).await;
        }
        let ClaimBatch { claims, unbuilt, set_aside: _ } = adopted?;
        for UnbuiltClaim { key, .. } in &unbuilt {
            let _ = self.shared.release_requests.send((*key, ReleaseReason::NotLoaded));
        }
        let Some(claim) = claims.into_iter().next() else { return Ok(None) };
        let queue = claim.details().map_err(Error::Protocol)?.queue;
        if !context.leases.adopt(process_id, &claim, queue, context.events.is_interested_in_any("step.")) {
            // The dispatcher loop releases it, or it returns when this process deregisters.
            let _ = self.shared.release_requests.send((claim.key(), ReleaseReason::Shutdown));
            return Err(Error::Closed);
        }
        context.counters.claimed.fetch_add(1, Ordering::Relaxed);
        if context.events.is_interested("step.started") {
            publish_all(&context.events, claim.facts().ok().map(|facts| facts.started()).into_iter()).await;
        }
        Ok(Some(claim))
    }

    /// The registration that adopted, and the claim; without payloads if the database cannot return them.
    async fn adopt_once(&self, job: ClaimKey) -> (i64, Result<ClaimBatch, Error>) {
        let context = &self.shared.context;
        let process_id = context.process.lock_id().await;
        let bytes = context.settings.execution.claim_bytes;
        let adopted = match context.functions.adopt_claim(*process_id, job, bytes).await {
            Err(error) if error.kind().may_pass_with_fewer_rows() => {
                context.functions.adopt_claim(*process_id, job, 0).await
            }
            adopted => adopted,
        };
        (*process_id, adopted)
    }

    /// Submits the outcome of an attempt; it reaches the database with the next batch.
    ///
    /// A result that the database could not store (too large, too deep, a null character) fails the step permanently,
    /// with an error that gives the reason.
    ///
    /// # Errors
    /// `Error::NotHeld` if this process does not run that attempt, `Error::Closed` after `stop`.
    pub async fn finish(&self, outcome: Outcome) -> Result<(), Error> {
        let ended = self.handler_outcome(outcome)?;
        self.shared.outcomes.send(ended).await.map_err(|_| Error::Closed)
    }

    /// Like `finish`, without waiting; returns the outcome if the queue is full.
    pub fn try_finish(&self, outcome: Outcome) -> Result<Option<HandlerOutcome>, Error> {
        let ended = self.handler_outcome(outcome)?;
        match self.shared.outcomes.try_send(ended) {
            Ok(()) => Ok(None),
            Err(mpsc::error::TrySendError::Full(ended)) => Ok(Some(ended)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::Closed),
        }
    }

    /// Waits for room and submits an outcome that `try_finish` has returned.
    pub async fn deliver(&self, ended: HandlerOutcome) -> Result<(), Error> {
        self.shared.outcomes.send(ended).await.map_err(|_| Error::Closed)
    }

    fn handler_outcome(&self, outcome: Outcome) -> Result<HandlerOutcome, Error> {
        let token = outcome.token();
        let outcome = self.checked(outcome);
        let (key, times) = self.shared.context.leases.end(token, outcome.bytes()).ok_or(Error::NotHeld { token })?;
        Ok(HandlerOutcome { key, outcome, times })
    }

    fn checked(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Completed { token, result } => {
                match payload::check(result.get(), &self.shared.context.settings.limits) {
                    Ok(()) => Outcome::Completed { token, result },
                    Err(problem) => Outcome::permanent_failure(token, UNSTORABLE, format!("the result {problem}")),
                }
            }
            Outcome::Failed { token, error, retryable, retry_after } => {
                Outcome::Failed { token, error: error.storable(), retryable, retry_after }
            }
            Outcome::Released { .. } => outcome,
        }
    }

    /// Whether a running attempt's lease was revoked.
    pub fn revoked(&self, token: i64) -> bool {
        self.shared.context.leases.revoked(token)
    }

    /// Results of the ancestors of a claimed step, as JSON text: see [`Functions::ancestor_results`]. Together they are
    /// no longer than `execution.claim_bytes`, unless a single one is.
    ///
    /// # Errors
    /// `Error::NotHeld` if this process does not hold the step.
    pub async fn ancestor_results(
        &self,
        token: i64,
        names: Option<&[String]>,
        after: Option<i32>,
    ) -> Result<String, Error> {
        let key = self.shared.context.leases.key(token).ok_or(Error::NotHeld { token })?;
        let bytes = self.shared.context.settings.execution.claim_bytes;
        let fetching = async {
            let process_id = self.shared.context.process.lock_id().await;
            self.shared.context.functions.ancestor_results(*process_id, key, names, after, bytes).await
        };
        let response = self.shared.context.leases.log_context(token).around(fetching).await?;
        response.ok_or(Error::NotHeld { token })
    }

    /// The input of a claimed step's task, as JSON text: for a claim that was sent without it.
    ///
    /// # Errors
    /// `Error::NotHeld` if this process does not hold the step.
    pub async fn task_input(&self, token: i64) -> Result<String, Error> {
        let key = self.shared.context.leases.key(token).ok_or(Error::NotHeld { token })?;
        let fetching = async {
            let process_id = self.shared.context.process.lock_id().await;
            self.shared.context.functions.task_input(*process_id, key).await
        };
        let response = self.shared.context.leases.log_context(token).around(fetching).await?;
        response.ok_or(Error::NotHeld { token })
    }

    /// A task for an operator's actions, on the connections of this process. The actions publish their events here.
    pub fn task(&self, id: i64) -> Task {
        Task::new(self.shared.context.functions.clone(), id).with_events(self.shared.context.events.clone())
    }

    /// Stops claiming and releases claims that have not started. Running attempts continue.
    ///
    /// # Errors
    /// Those of the release; the dispatcher then retries it.
    pub async fn drain(&self) -> Result<(), Error> {
        self.shared.context.draining.store(true, Ordering::Release);
        let buffered = self.shared.context.leases.close();
        if buffered.is_empty() {
            return Ok(());
        }
        let process_id = self.shared.context.process.lock_id().await;
        let mut left = buffered.as_slice();
        while !left.is_empty() {
            let (part, others) = left.split_at(left.len().min(self.shared.context.settings.execution.claim_batch));
            match self
                .shared
                .context
                .functions
                .release_steps(*process_id, part, Duration::ZERO, ReleaseReason::Shutdown)
                .await
            {
                Ok(queues) => {
                    self.shared.context.leases.forget(part.iter().map(|claim| claim.token));
                    self.shared.context.notifier.notify(queues);
                    left = others;
                }
                Err(error) => {
                    for claim in left {
                        // Without a dispatcher this process has deregistered, which released its claims.
                        let _ = self.shared.release_requests.send((*claim, ReleaseReason::Shutdown));
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Drains, waits up to `timeout` for running attempts and the delivery of their outcomes, then releases the
    /// remaining claims and deregisters this process.
    ///
    /// # Errors
    /// Those of the last statements; other processes then find this one dead, and nothing is lost.
    pub async fn stop(&self, timeout: Duration) -> Result<(), Error> {
        let drained = self.drain().await;
        let deadline = Instant::now() + timeout;
        loop {
            let settled = self.shared.context.settled.notified();
            if self.shared.context.leases.stages().held == 0 {
                break;
            }
            if tokio::time::timeout_at(deadline.into(), settled).await.is_err() {
                break;
            }
        }
        self.end_tasks().await;
        let context = &self.shared.context;
        let left = context.process.deregister(&context.functions, &context.counters, STOP_TIMEOUT).await;
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.shared.context.functions.pool().close()).await;
        drained.and(left)
    }

    /// Waits until submitted outcomes are delivered and statements under way have ended, so that none runs in the
    /// database after this process has deregistered.
    async fn end_tasks(&self) {
        // Without a receiver it has stopped before.
        let _ = self.shared.stopping.send(true);
        if let Some(listener) = &self.shared.listener {
            listener.abort();
        }
        let tasks = std::mem::take(&mut *self.shared.tasks.lock().expect("no code that holds this lock can panic"));
        for task in tasks {
            let abort = task.abort_handle();
            // The dispatcher ends by itself after STOP_TIMEOUT; this is for a statement that hangs longer.
            if tokio::time::timeout(STOP_TIMEOUT + Duration::from_millis(500), task).await.is_err() {
                abort.abort();
            }
        }
    }

    /// Waits until the database has stored more than `seen` batches of outcomes, at most `timeout`; returns the number
    /// of batches.
    pub async fn wait_for_progress(&self, seen: u64, timeout: Duration) -> u64 {
        let mut settled = pin!(self.shared.context.settled.notified());
        // Registered before the check, so that a batch between check and wait is not missed.
        settled.as_mut().enable();
        let flushes = || self.shared.context.counters.flushes.load(Ordering::Relaxed);
        if flushes() == seen {
            // A timeout is not an error.
            let _ = tokio::time::timeout(timeout, settled).await;
        }
        flushes()
    }

    /// Makes the dispatcher poll for ready steps at once.
    pub fn poll_now(&self) {
        self.shared.context.wake.notify_one();
    }

    /// The current state and figures of this process.
    pub fn health(&self) -> Health {
        let context = &self.shared.context;
        let stages = context.leases.stages();
        let counters = &context.counters;
        let pool = context.functions.pool();
        Health {
            process: self.process_id(),
            queues: context.process.queues().to_vec(),
            draining: context.draining.load(Ordering::Acquire),
            listening: context.listening.load(Ordering::Relaxed),
            buffered: stages.buffered,
            running: stages.running,
            held: stages.held,
            claimed: counters.claimed.load(Ordering::Relaxed),
            set_aside: counters.set_aside.load(Ordering::Relaxed),
            finished: counters.finished.load(Ordering::Relaxed),
            stale: counters.stale.load(Ordering::Relaxed),
            released: counters.released.load(Ordering::Relaxed),
            dispatched: counters.dispatched.load(Ordering::Relaxed),
            flushes: counters.flushes.load(Ordering::Relaxed),
            tasks_ended: counters.tasks_ended.load(Ordering::Relaxed),
            pruned: counters.pruned.load(Ordering::Relaxed),
            broken: counters.broken.load(Ordering::Relaxed),
            connections: pool.size(),
            idle_connections: pool.num_idle(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
