//! The chores of one process: heartbeat, sweep, retention, audit.
//!
//! Invariant: chores continue while the dispatcher is busy or waiting for the database, and none delays a heartbeat by
//! more than one statement, or two after an error. Neighbours: `registration` is renewed here if the database has
//! declared this process dead; the dispatcher reports when the next retry is due.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::claim::ClaimKey;
use crate::configuration::{self, Configuration};
use crate::database::functions::{AuditResult, ClockJump, CountDifference, NextTask, SweepResult};
use crate::error::Error;
use crate::events::{publish_all, TaskFacts};
use crate::outcome::ReleaseReason;
use crate::worker::context::Context;
use crate::worker::limit::Limit;
use crate::worker::registration::HeartbeatResult;

/// Delay before a failed sweep is retried with fewer steps. The server reports the error before releasing its locks, so
/// an immediate retry would find the same rows locked and skip them.
const SWEEP_RETRY_DELAY: Duration = Duration::from_millis(100);

pub struct Maintenance {
    context: Arc<Context>,
    /// Becomes true when no further chore is to be started.
    stopping: watch::Receiver<bool>,
    /// Delays until the retries that this process has scheduled.
    retry_delays: mpsc::UnboundedReceiver<Duration>,
    /// Claims for the dispatcher to release, and why.
    release_requests: mpsc::UnboundedSender<(ClaimKey, ReleaseReason)>,
    /// When each chore runs next, by its place in `Chore::ALL`.
    next: [Instant; Chore::ALL.len()],
    clock: HeartbeatClock,
    sweep_limit: Limit,
    prune_limit: Limit,
    /// The task after which the next retention statement begins.
    pruned_to: Option<Uuid>,
    audit_limit: Limit,
    audit_round: AuditRound,
}

/// A periodic task of the process.
#[derive(Debug, Clone, Copy)]
enum Chore {
    Heartbeat,
    ReleaseUnstarted,
    Sweep,
    Prune,
    Audit,
}

impl Chore {
    const ALL: [Self; 5] = [Self::Heartbeat, Self::ReleaseUnstarted, Self::Sweep, Self::Prune, Self::Audit];

    fn interval(self, settings: &Configuration) -> Duration {
        match self {
            Self::Heartbeat => settings.leases.heartbeat_interval,
            Self::ReleaseUnstarted => settings.execution.claim_ahead_wait,
            Self::Sweep => with_jitter(settings, settings.maintenance.sweep_interval),
            Self::Prune => with_jitter(settings, settings.retention.interval),
            Self::Audit => with_jitter(settings, settings.maintenance.audit_interval),
        }
    }

    /// The chore to run first, and when, given the time of each: the most overdue one, after a heartbeat that is due.
    fn first(times: [Instant; Self::ALL.len()], now: Instant) -> (Self, Instant) {
        let time = |chore: Self| times[chore as usize];
        let earliest = Self::ALL.into_iter().min_by_key(|chore| time(*chore)).expect("there are chores");
        let first = if time(Self::Heartbeat) <= now { Self::Heartbeat } else { earliest };
        (first, time(first))
    }
}

/// Varies an interval, so that processes do not run their chores at the same time.
fn with_jitter(settings: &Configuration, interval: Duration) -> Duration {
    let jitter = settings.discovery.poll_jitter;
    interval.mul_f64(1.0 + jitter * (2.0 * rand::random::<f64>() - 1.0))
}

/// Decides whether this process may declare others dead for missing heartbeats. While the database or the network was
/// down, no process could send one: a process that swept before the others' next heartbeat, or before its own, would
/// end steps that are about to finish. After a jump of the database's clock, every process appears silent until its
/// next heartbeat. A process that has just started cannot know whether the clock has jumped.
#[derive(Debug)]
struct HeartbeatClock {
    interval: Duration,
    process_timeout: Duration,
    /// When the database received the last heartbeat.
    last_heartbeat_at: Instant,
    /// The last heartbeat failed.
    is_cut_off: bool,
    /// The end of the grace period, in which the other processes have time to send a heartbeat and none is declared
    /// dead.
    grace_ends_at: Instant,
}

impl HeartbeatClock {
    fn new(settings: &configuration::Leases, now: Instant) -> Self {
        Self {
            interval: settings.heartbeat_interval,
            process_timeout: settings.process_timeout,
            last_heartbeat_at: now,
            is_cut_off: false,
            grace_ends_at: now + 2 * settings.heartbeat_interval,
        }
    }

    /// Records a heartbeat, or a failed one (`None`).
    fn record(&mut self, heartbeat: Option<HeartbeatResult>, now: Instant) {
        if let Some(result) = heartbeat {
            if self.is_cut_off || result.reregistered || now - self.last_heartbeat_at >= self.process_timeout {
                self.extend_grace_period(2 * self.interval, now);
            }
            if let Some(jump) = result.clock_jump {
                self.clock_jumped(jump, now);
            }
            self.last_heartbeat_at = now;
        }
        self.is_cut_off = heartbeat.is_none();
    }

    /// Extends the grace period after a jump of the database's clock.
    fn clock_jumped(&mut self, jump: ClockJump, now: Instant) {
        let (seconds, grace_period) = (jump.by_ms / 1000.0, jump.grace_period());
        tracing::warn!(
            seconds,
            ?grace_period,
            "the database's clock has jumped: no process is declared dead during the grace period"
        );
        self.extend_grace_period(grace_period, now);
    }

    fn extend_grace_period(&mut self, length: Duration, now: Instant) {
        self.grace_ends_at = self.grace_ends_at.max(now + length);
    }

    fn may_declare_dead(&self, now: Instant) -> bool {
        !self.is_cut_off && now >= self.grace_ends_at
    }

    /// The time of the next sweep: `scheduled_at`, or the end of the grace period if that is earlier.
    fn next_sweep_at(&self, scheduled_at: Instant, now: Instant) -> Instant {
        if now < self.grace_ends_at {
            scheduled_at.min(self.grace_ends_at)
        } else {
            scheduled_at
        }
    }
}

/// The progress of a round of audits through all tasks.
#[derive(Default)]
struct AuditRound {
    /// The task after which the next statement begins.
    after: i64,
    broken: BTreeSet<i64>,
    /// Broken tasks of the previous round.
    already_logged: BTreeSet<i64>,
}

impl Maintenance {
    pub fn new(
        context: Arc<Context>,
        stopping: watch::Receiver<bool>,
        retry_delays: mpsc::UnboundedReceiver<Duration>,
        release_requests: mpsc::UnboundedSender<(ClaimKey, ReleaseReason)>,
    ) -> Self {
        let settings = &context.settings;
        let now = Instant::now();
        let mut next = Chore::ALL.map(|chore| now + chore.interval(settings));
        next[Chore::Sweep as usize] = now;
        Self {
            next,
            clock: HeartbeatClock::new(&settings.leases, now),
            sweep_limit: Limit::new(settings.maintenance.sweep_limit),
            prune_limit: Limit::new(settings.retention.limit),
            pruned_to: None,
            audit_limit: Limit::new(settings.maintenance.audit_limit),
            audit_round: AuditRound::default(),
            context,
            stopping,
            retry_delays,
            release_requests,
        }
    }

    /// Runs one chore after another until `stopping` is set.
    pub async fn run(mut self) {
        loop {
            let (chore, at) = Chore::first(Chore::ALL.map(|chore| self.next_run(chore)), Instant::now());
            tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                Some(until_due) = self.retry_delays.recv() => {
                    let sweep = &mut self.next[Chore::Sweep as usize];
                    *sweep = (*sweep).min(Instant::now() + until_due);
                    continue;
                }
                () = tokio::time::sleep_until(at.into()) => {}
            }
            self.next[chore as usize] = self.perform(chore, Instant::now()).await;
        }
    }

    /// When a chore runs next. While the process is cut off, a sweep waits for the next heartbeat, whose success shows
    /// that the database can be reached.
    fn next_run(&self, chore: Chore) -> Instant {
        let waits_for_heartbeat = matches!(chore, Chore::Sweep) && self.clock.is_cut_off;
        self.next[if waits_for_heartbeat { Chore::Heartbeat } else { chore } as usize]
    }

    /// Runs a chore; returns when it runs next.
    async fn perform(&mut self, chore: Chore, now: Instant) -> Instant {
        let interval = chore.interval(&self.context.settings);
        match chore {
            Chore::Heartbeat => {
                self.send_heartbeat().await;
                now + interval
            }
            Chore::ReleaseUnstarted => {
                self.release_unstarted();
                now + interval
            }
            Chore::Sweep => {
                let until_due = log_error("sweep", self.sweep().await).flatten();
                let now = Instant::now();
                self.clock.next_sweep_at(now + until_due.map_or(interval, |delay| delay.min(interval)), now)
            }
            Chore::Prune => {
                let pruned = log_error("retention", self.prune().await);
                let pause = if matches!(pruned, Some(Some(_))) { Duration::ZERO } else { interval };
                // After a failure the next statement begins at the same task.
                self.pruned_to = pruned.unwrap_or(self.pruned_to);
                Instant::now() + pause
            }
            Chore::Audit => {
                log_error("audit", self.audit().await);
                Instant::now() + interval
            }
        }
    }

    async fn send_heartbeat(&mut self) {
        let Context { functions, process, leases, counters, settings, runs_jobs, .. } = &*self.context;
        // Jobs run in threads of the queue, whose number is not known here.
        let threads = if *runs_jobs { leases.most_running() } else { settings.execution.threads };
        let result = log_error("heartbeat", process.heartbeat(functions, leases, counters, threads).await);
        self.clock.record(result, Instant::now());
    }

    /// Asks the dispatcher to release claims that were claimed ahead but did not start in time, e.g. because handlers
    /// became slow. Claims over a concurrency limit are released with a delay, others immediately.
    fn release_unstarted(&self) {
        for (reason, claims) in
            self.context.leases.take_waiting_longer_than(self.context.settings.execution.claim_ahead_wait)
        {
            for claim in claims {
                // The dispatcher ends only when the process stops, and deregistering then releases all claims.
                let _ = self.release_requests.send((claim, reason));
            }
        }
    }

    /// Sweeps once; returns the time until the next sweep: zero if more is due, otherwise when the next waiting step is
    /// due.
    async fn sweep(&mut self) -> Result<Option<Duration>, Error> {
        let requested = self.sweep_limit.current();
        let may_declare_dead = self.clock.may_declare_dead(Instant::now());
        let swept = {
            let process_id = self.context.process.lock_id().await;
            let age = self.context.process.since_last_heartbeat();
            let swept = self.context.functions.sweep(*process_id, requested, age, may_declare_dead).await;
            adjust_limit(&mut self.sweep_limit, swept)
        };
        let swept = match swept {
            Err(error) if error.kind().may_pass_with_fewer_rows() && requested > 1 => {
                log_smaller(requested, &error, "the sweep continues with fewer steps");
                return Ok(Some(SWEEP_RETRY_DELAY));
            }
            swept => swept?,
        };
        if let Some(jump) = swept.clock_jump {
            self.clock.clock_jumped(jump, Instant::now());
        }
        let until_due = swept.next_due();
        let ended_count = swept.lost_attempts + swept.unstarted + swept.set_aside.len() as u64;
        let has_more = swept.due_steps.max(ended_count) as usize >= requested;
        // Later sweeps check these steps again and report none of them.
        self.context.record_set_aside(&swept.set_aside, "a lost attempt cannot be ended and its step is set aside");
        if swept.unstarted > 0 {
            tracing::warn!(steps = swept.unstarted, "jobs were not started in time: their steps are dispatched again");
        }
        if swept.lost_attempts > 0 {
            tracing::warn!(attempts = swept.lost_attempts, "attempts lost: their process died or their lease ended");
            self.publish(&swept).await;
        }
        if !swept.ready_queues.is_empty() || swept.lost_attempts > 0 {
            self.context.wake.notify_one();
            self.context.dispatch_wake.notify_one();
            self.context.notifier.notify(swept.ready_queues);
        }
        Ok(delay_of_next_sweep(has_more, self.sweep_limit.is_reduced(), until_due))
    }

    async fn publish(&self, swept: &SweepResult) {
        let attempts = swept
            .attempts()
            .filter(|attempt| self.context.events.is_interested(attempt.name()))
            .map(|attempt| attempt.event());
        let tasks =
            swept.ended.iter().filter(|task| self.context.events.is_interested(&task.name)).map(TaskFacts::event);
        publish_all(&self.context.events, attempts.chain(tasks)).await;
    }

    /// Deletes, in one statement, tasks past their retention; returns the cursor if more should be deleted immediately.
    /// A statement that was too large is repeated immediately with fewer tasks: after an interval for each halving, it
    /// would take hours.
    async fn prune(&mut self) -> Result<Option<Uuid>, Error> {
        let after = self.pruned_to;
        let retention = &self.context.settings.retention;
        if !retention.enabled {
            return Ok(None);
        }
        let requested = self.prune_limit.current();
        let pruned = match adjust_limit(
            &mut self.prune_limit,
            self.context.functions.prune(retention.keep, after, requested, false).await,
        ) {
            Err(error) if error.kind().may_pass_with_fewer_rows() && requested > 1 => {
                log_smaller(requested, &error, "retention continues with fewer tasks");
                return Ok(Some(after.unwrap_or(Uuid::nil())));
            }
            Err(error) if error.kind().may_pass_with_fewer_rows() && requested == 1 => {
                let task = self.context.functions.next_task_by_uuid(after, retention.keep).await?;
                log_skipped("retention", task, &error);
                return Ok(task.map(|task| task.uuid));
            }
            outcome => outcome?,
        };
        let tasks = pruned.removed.get("tasks").copied().unwrap_or(0);
        self.context.counters.pruned.fetch_add(tasks, Ordering::Relaxed);
        if pruned.removed.values().any(|rows| *rows > 0) {
            tracing::info!(removed = ?pruned.removed, "expired rows removed");
        }
        Ok(pruned.after)
    }

    /// Checks the next tasks of the round; at its end sets the number of broken tasks. Logs all findings of a task in
    /// the first round that finds it broken, and none in the rounds that follow.
    async fn audit(&mut self) -> Result<(), Error> {
        let requested = self.audit_limit.current();
        let round = &mut self.audit_round;
        let audited =
            match adjust_limit(&mut self.audit_limit, self.context.functions.audit(round.after, requested).await) {
                Err(error) if error.kind().may_pass_with_fewer_rows() && requested == 1 => {
                    let task = self.context.functions.next_task_by_id(round.after).await?;
                    log_skipped("audit", task, &error);
                    AuditResult { findings: Vec::new(), after: task.map(|task| task.id) }
                }
                outcome => outcome?,
            };
        for finding in &audited.findings {
            let (task, position) = (finding.task_id, finding.position);
            if !round.already_logged.contains(&task) {
                let (rule, explanation) = (&finding.rule, &finding.explanation);
                tracing::error!(
                    task_id = task,
                    position,
                    rule,
                    explanation,
                    "broken task: `tasker audit --repair` repairs it"
                );
            }
            round.broken.insert(task);
        }
        match audited.after {
            Some(after) => round.after = after,
            None => {
                self.context.counters.broken.store(round.broken.len() as u64, Ordering::Relaxed);
                *round = AuditRound { already_logged: std::mem::take(&mut round.broken), ..AuditRound::default() };
                self.recount_tasks().await?;
            }
        }
        Ok(())
    }

    /// Corrects the counters of tasks by state, at the end of a round. They differ after an upgrade from a version that
    /// did not count, or after an administrator has changed the tables.
    async fn recount_tasks(&self) -> Result<(), Error> {
        for difference in self.context.functions.recount_tasks().await? {
            let CountDifference { namespace, workflow, state, counted, actual } = difference;
            tracing::warn!(
                namespace,
                workflow,
                state,
                counted,
                actual,
                "a counter of tasks was wrong and is corrected"
            );
        }
        Ok(())
    }
}

/// Increases or halves a limit after a statement with that many rows.
fn adjust_limit<T>(limit: &mut Limit, result: Result<T, Error>) -> Result<T, Error> {
    match &result {
        Ok(_) => limit.grow(),
        Err(error) if error.kind().may_pass_with_fewer_rows() => limit.halve(limit.current()),
        Err(_) => {}
    }
    result
}

/// Logs that a statement is repeated with fewer rows.
fn log_smaller(requested: usize, error: &Error, message: &'static str) {
    tracing::warn!(requested, error.class = error.class(), error.message = %error, "{message}");
}

/// Logs the task that a chore skips because of an error. `None`: no task is left that could have caused it, so the
/// round ends.
fn log_skipped(chore: &'static str, task: Option<NextTask>, error: &Error) {
    let (class, id, uuid) = (error.class(), task.map(|task| task.id), task.map(|task| task.uuid.to_string()));
    let message = match task {
        Some(_) => "a task is skipped until the next round",
        None => "the round ends with an error that no task caused",
    };
    tracing::error!(chore, task_id = id, task_uuid = uuid, error.class = class, error.message = %error, "{message}");
}

fn log_error<T>(chore: &'static str, outcome: Result<T, Error>) -> Option<T> {
    let log = |error: &Error| {
        tracing::warn!(chore, error.class = error.class(), error.message = %error, "maintenance failed and is tried again");
    };
    outcome.inspect_err(log).ok()
}

/// When to sweep again, or `None` for the usual interval. After a failure the next sweep comes soon: the failed one may
/// have kept rows locked, which the last one then skipped.
fn delay_of_next_sweep(has_more: bool, is_reduced: bool, until_due: Option<Duration>) -> Option<Duration> {
    match has_more {
        true => Some(Duration::ZERO),
        false if is_reduced => Some(until_due.unwrap_or(SWEEP_RETRY_DELAY).min(SWEEP_RETRY_DELAY)),
        false => until_due,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_heartbeat_precedes_the_most_overdue_chore() {
        let start = Instant::now();
        let after = |seconds: [u64; 5]| seconds.map(|seconds| start + Duration::from_secs(seconds));
        let first = |times, now| Chore::first(after(times), start + Duration::from_secs(now)).0 as usize;
        assert_eq!(first([5, 4, 3, 2, 1], 5), Chore::Heartbeat as usize);
        assert_eq!(first([5, 4, 3, 2, 1], 4), Chore::Audit as usize, "it is not due yet");
        assert_eq!(first([5, 4, 3, 3, 9], 4), Chore::Sweep as usize);
    }

    #[test]
    fn others_are_declared_dead_only_after_two_heartbeat_intervals() {
        let settings = Configuration::load(None).unwrap().leases; // every 5 s, silent for 20 s at most
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut clock = HeartbeatClock::new(&settings, start);
        let heartbeat = Some(HeartbeatResult::default());
        assert!(!clock.may_declare_dead(after(9)) && clock.may_declare_dead(after(10)), "it has just started");
        clock.record(heartbeat, after(15));
        assert!(clock.may_declare_dead(after(16)), "all is well");
        clock.record(None, after(20));
        assert!(!clock.may_declare_dead(after(21)), "it is cut off");
        clock.record(heartbeat, after(25));
        assert!(
            !clock.may_declare_dead(after(34)) && clock.may_declare_dead(after(35)),
            "two heartbeats for the others"
        );
        clock.record(Some(HeartbeatResult { reregistered: true, clock_jump: None }), after(40));
        assert!(!clock.may_declare_dead(after(49)) && clock.may_declare_dead(after(50)), "another registration");
        // It was paused and sent no heartbeat: the others may have been paused as well.
        clock.record(heartbeat, after(60));
        assert!(!clock.may_declare_dead(after(69)) && clock.may_declare_dead(after(70)));
    }

    #[test]
    fn a_clock_jump_extends_the_grace_period_by_the_longest_silence() {
        let settings = Configuration::load(None).unwrap().leases;
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let jump = serde_json::from_value(serde_json::json!({"by_ms": -3_600_000, "grace_ms": 45_000})).unwrap();
        let mut clock = HeartbeatClock::new(&settings, start);
        clock.record(Some(HeartbeatResult { reregistered: false, clock_jump: Some(jump) }), after(15));
        assert!(
            !clock.may_declare_dead(after(59)) && clock.may_declare_dead(after(60)),
            "detected by its own heartbeat"
        );
        clock.clock_jumped(jump, after(70));
        clock.record(Some(HeartbeatResult::default()), after(75));
        assert!(!clock.may_declare_dead(after(114)) && clock.may_declare_dead(after(115)), "detected by a sweep");
        assert_eq!(clock.next_sweep_at(after(90), after(80)), after(90), "a due sweep need not wait");
        assert_eq!(clock.next_sweep_at(after(200), after(80)), after(115), "at the end of the grace period");
        assert_eq!(clock.next_sweep_at(after(200), after(120)), after(200));
    }

    #[test]
    fn the_sweep_after_a_failure_is_repeated_soon() {
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(delay_of_next_sweep(true, true, hour), Some(Duration::ZERO));
        assert_eq!(delay_of_next_sweep(false, true, hour), Some(SWEEP_RETRY_DELAY));
        assert_eq!(delay_of_next_sweep(false, true, None), Some(SWEEP_RETRY_DELAY));
        assert_eq!(delay_of_next_sweep(false, false, hour), hour);
        assert_eq!(delay_of_next_sweep(false, false, None), None);
    }
}
