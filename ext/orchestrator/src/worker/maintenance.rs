//! The chores of one process: heartbeat, sweep, retention, audit.
//!
//! Invariant: they go on while the dispatcher is busy or waiting for the database, and none keeps a heartbeat waiting
//! for longer than one statement. Neighbours: `registration` is renewed here if the database gave it up; the dispatcher
//! says when the next retry is due.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch, Notify};
use uuid::Uuid;

use crate::claim::ClaimKey;
use crate::configuration::{self, Configuration};
use crate::database::definitions::SetAside;
use crate::database::functions::{AuditResult, ClockLeap, Functions, NextTask, SweepResult};
use crate::error::Error;
use crate::events::{publish_all, EventPublisher, TaskFacts};
use crate::outcome::ReleaseReason;
use crate::worker::leases::Leases;
use crate::worker::limit::Limit;
use crate::worker::notifier::Notifier;
use crate::worker::registration::{HeartbeatResult, Registration};

/// When a sweep that failed is repeated with fewer steps. The server reports an error before it releases the locks: a sweep
/// without a delay would skip the same rows as locked.
const REPEAT_DELAY: Duration = Duration::from_millis(100);

pub struct Maintenance {
    pub functions: Functions,
    pub process: Arc<Registration>,
    pub leases: Arc<Leases>,
    pub notifier: Notifier,
    /// Wakes this process's own dispatcher.
    pub wake: Arc<Notify>,
    /// Times until retries that this process has scheduled.
    pub due: mpsc::UnboundedReceiver<Duration>,
    /// Claims that the dispatcher is to give back, and why.
    pub releases: mpsc::UnboundedSender<(ClaimKey, ReleaseReason)>,
    /// Turns true when no further chore is to be begun.
    pub stopping: watch::Receiver<bool>,
    pub counters: Arc<ChoreCounters>,
    pub events: EventPublisher,
    pub settings: Arc<Configuration>,
}

/// Figures since the start, for `health`.
#[derive(Default)]
pub struct ChoreCounters {
    /// Tasks that retention removed.
    pub pruned: AtomicU64,
    /// Tasks that the last whole round of audits found broken.
    pub broken: AtomicU64,
    /// Steps that were set aside because their lost attempts could not be ended.
    pub set_aside: AtomicU64,
}

/// Whether this process may judge others by their silence. Where the database was away, or the way to it, all were silent: one
/// that swept before the others, or before its own sign of life, would give up what they, or it, are about to finish. Where the
/// database's clock has leapt, or the process has just come and cannot know, all look silent that have not beaten since.
#[derive(Debug)]
struct HeartbeatClock {
    interval: Duration,
    process_timeout: Duration,
    /// When the database took the last sign of life.
    last_heartbeat_at: Instant,
    is_cut_off: bool,
    /// Until then the others have time for a sign of life.
    judge_after: Instant,
}

impl HeartbeatClock {
    fn new(settings: &configuration::Leases, now: Instant) -> Self {
        Self {
            interval: settings.heartbeat_interval,
            process_timeout: settings.process_timeout,
            last_heartbeat_at: now,
            is_cut_off: false,
            judge_after: now + 2 * settings.heartbeat_interval,
        }
    }

    /// A sign of life was sent, and the database has taken it, or not (`None`).
    fn record(&mut self, heartbeat: Option<HeartbeatResult>, now: Instant) {
        if let Some(result) = heartbeat {
            if self.is_cut_off || result.reregistered || now - self.last_heartbeat_at >= self.process_timeout {
                self.hold_judgement(2 * self.interval, now);
            }
            if let Some(leap) = result.leap {
                self.clock_leapt(leap, now);
            }
            self.last_heartbeat_at = now;
        }
        self.is_cut_off = heartbeat.is_none();
    }

    /// The database's clock has leapt.
    fn clock_leapt(&mut self, leap: ClockLeap, now: Instant) {
        let (seconds, patience) = (leap.by_ms / 1000.0, leap.patience());
        tracing::warn!(seconds, ?patience, "the database's clock has leapt: no process is judged for a while");
        self.hold_judgement(patience, now);
    }

    fn hold_judgement(&mut self, patience: Duration, now: Instant) {
        self.judge_after = self.judge_after.max(now + patience);
    }

    fn may_judge(&self, now: Instant) -> bool {
        !self.is_cut_off && now >= self.judge_after
    }

    /// When to sweep next, if that is due at a time: as soon as judging is allowed again, at the latest.
    fn next_sweep_at(&self, due: Instant, now: Instant) -> Instant {
        if now < self.judge_after {
            due.min(self.judge_after)
        } else {
            due
        }
    }
}

/// Where an audit is on its round.
#[derive(Default)]
struct AuditRound {
    after: i64,
    broken: BTreeSet<i64>,
    /// Those that the round before found.
    known: BTreeSet<i64>,
}

impl Maintenance {
    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        let mut next_heartbeat = Instant::now() + self.settings.leases.heartbeat_interval;
        let mut next_sweep = Instant::now();
        let mut next_buffer_check = Instant::now() + self.settings.execution.claim_ahead_wait;
        let mut next_prune = Instant::now() + self.with_jitter(self.settings.retention.interval);
        let mut next_audit = Instant::now() + self.with_jitter(self.settings.maintenance.audit_interval);
        let mut clock = HeartbeatClock::new(&self.settings.leases, Instant::now());
        let mut pruned_to = None;
        let mut round = AuditRound::default();
        let maintenance = &self.settings.maintenance;
        let mut sweeping = Limit::new(maintenance.sweep_limit);
        let mut pruning = Limit::new(self.settings.retention.limit);
        let mut auditing = Limit::new(maintenance.audit_limit);
        loop {
            // While it is cut off, the next sign of life tells whether there is anything to sweep.
            let sweep_at = if clock.is_cut_off { next_heartbeat } else { next_sweep };
            let next = next_heartbeat.min(sweep_at).min(next_buffer_check).min(next_prune).min(next_audit);
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep_until(next.into()) => {}
                Some(due) = self.due.recv() => next_sweep = next_sweep.min(Instant::now() + due),
            }
            let now = Instant::now();
            if now >= next_heartbeat {
                let heartbeat = report("heartbeat", self.process.heartbeat(&self.functions, &self.leases).await);
                clock.record(heartbeat, Instant::now());
                next_heartbeat = now + self.settings.leases.heartbeat_interval;
            }
            if now >= next_buffer_check {
                self.release_unstarted();
                next_buffer_check = now + self.settings.execution.claim_ahead_wait;
            }
            if now >= next_sweep && !clock.is_cut_off {
                let next_due = report("sweep", self.sweep(&mut clock, &mut sweeping).await).flatten();
                let now = Instant::now();
                next_sweep = clock.next_sweep_at(now + self.until_sweep(next_due), now);
            }
            if now >= next_prune {
                let pruned = report("retention", self.prune(pruned_to, &mut pruning).await);
                let pause = match pruned {
                    Some(Some(_)) => Duration::ZERO,
                    _ => self.with_jitter(self.settings.retention.interval),
                };
                // After a failure the next statement begins at the same task.
                pruned_to = pruned.unwrap_or(pruned_to);
                next_prune = Instant::now() + pause;
            }
            if now >= next_audit {
                report("audit", self.audit(&mut round, &mut auditing).await);
                next_audit = Instant::now() + self.with_jitter(self.settings.maintenance.audit_interval);
            }
        }
    }

    /// Has what was claimed ahead and has not been started given back, as when handlers suddenly take long: at once, or for a
    /// while where a limit leaves no room for it here. The dispatcher does it, and tries again what fails.
    fn release_unstarted(&self) {
        for (reason, claims) in self.leases.take_waiting_longer_than(self.settings.execution.claim_ahead_wait) {
            for claim in claims {
                // Without a dispatcher this process is leaving, and gives everything back.
                let _ = self.releases.send((claim, reason));
            }
        }
    }

    /// Sweeps until nothing is left for now; answers the time until something is due.
    async fn sweep(&self, clock: &mut HeartbeatClock, limit: &mut Limit) -> Result<Option<Duration>, Error> {
        loop {
            let requested = limit.now();
            let may_judge = clock.may_judge(Instant::now());
            let swept = {
                let id = self.process.lock_id().await;
                adjust_limit(
                    limit,
                    self.functions.sweep(*id, requested, self.process.since_last_heartbeat(), may_judge).await,
                )
            };
            let swept = match swept {
                Err(error) if error.kind().may_pass_with_fewer_rows() && requested > 1 => {
                    log_smaller(requested, &error, "the sweep continues with fewer steps");
                    return Ok(Some(REPEAT_DELAY));
                }
                swept => swept?,
            };
            if let Some(leap) = swept.leap {
                clock.clock_leapt(leap, Instant::now());
            }
            let next_due = swept.next_due();
            self.note_set_aside(&swept);
            if swept.lost > 0 {
                tracing::warn!(attempts = swept.lost, "attempts lost: their process died or their lease ended");
                self.publish(&swept).await;
            }
            if !swept.ready_queues.is_empty() || swept.lost > 0 {
                self.wake.notify_one();
                self.notifier.notify(swept.ready_queues);
            }
            if (swept.due.max(swept.lost + swept.set_aside.len() as u64) as usize) < requested {
                return Ok(next_due);
            }
        }
    }

    /// Logs each step once, when it is set aside: from then on it waits, and later sweeps check it without a line.
    fn note_set_aside(&self, swept: &SweepResult) {
        self.counters.set_aside.fetch_add(swept.set_aside.len() as u64, Ordering::Relaxed);
        for SetAside { task_id, position, error } in &swept.set_aside {
            let (class, message, code) = (&error.class, &error.message, &error.code);
            tracing::error!(
                task_id,
                position,
                error.class = class,
                error.code = code,
                error.message = message,
                "a lost attempt cannot be ended and its step is set aside: `tasker why` explains what to do"
            );
        }
    }

    async fn publish(&self, swept: &SweepResult) {
        let attempts =
            swept.attempts().filter(|attempt| self.events.is_interested(attempt.name())).map(|attempt| attempt.event());
        let tasks = swept.ended.iter().filter(|task| self.events.is_interested(&task.name)).map(TaskFacts::event);
        publish_all(&self.events, attempts.chain(tasks)).await;
    }

    /// Removes what is older than it is kept, one statement's worth; returns the task after which the next statement begins at
    /// once. A statement that was too much is repeated at once with fewer tasks, as an interval for each halving would take
    /// hours.
    async fn prune(&self, after: Option<Uuid>, limit: &mut Limit) -> Result<Option<Uuid>, Error> {
        let retention = &self.settings.retention;
        if !retention.enabled {
            return Ok(None);
        }
        let requested = limit.now();
        let pruned = match adjust_limit(limit, self.functions.prune(retention.keep, after, requested, false).await) {
            Err(error) if error.kind().may_pass_with_fewer_rows() && requested > 1 => {
                log_smaller(requested, &error, "retention continues with fewer tasks");
                return Ok(Some(after.unwrap_or(Uuid::nil())));
            }
            Err(error) if error.kind().may_pass_with_fewer_rows() && requested == 1 => {
                let task = self.functions.next_task_by_uuid(after, retention.keep).await?;
                log_skipped("retention", task, &error);
                return Ok(task.map(|task| task.uuid));
            }
            outcome => outcome?,
        };
        let tasks = pruned.removed.get("tasks").copied().unwrap_or(0);
        self.counters.pruned.fetch_add(tasks, Ordering::Relaxed);
        if pruned.removed.values().any(|rows| *rows > 0) {
            tracing::info!(removed = ?pruned.removed, "rows removed that are older than they are kept");
        }
        Ok(pruned.after)
    }

    /// Checks the next tasks of the round; at its end publishes how many were broken. A broken task is logged once.
    async fn audit(&self, round: &mut AuditRound, limit: &mut Limit) -> Result<(), Error> {
        let requested = limit.now();
        let audited = match adjust_limit(limit, self.functions.audit(round.after, requested).await) {
            Err(error) if error.kind().may_pass_with_fewer_rows() && requested == 1 => {
                let task = self.functions.next_task_by_id(round.after).await?;
                log_skipped("audit", task, &error);
                AuditResult { findings: Vec::new(), after: task.map(|task| task.id) }
            }
            outcome => outcome?,
        };
        for finding in &audited.findings {
            let (task, position) = (finding.task_id, finding.position);
            if !round.known.contains(&task) {
                let (rule, explanation) = (&finding.rule, &finding.explanation);
                tracing::error!(
                    task_id = task,
                    position,
                    rule,
                    explanation,
                    "broken task: `tasker audit --repair` puts it right"
                );
            }
            round.broken.insert(task);
        }
        match audited.after {
            Some(after) => round.after = after,
            None => {
                self.counters.broken.store(round.broken.len() as u64, Ordering::Relaxed);
                *round = AuditRound { known: std::mem::take(&mut round.broken), ..AuditRound::default() };
            }
        }
        Ok(())
    }

    fn until_sweep(&self, next_due: Option<Duration>) -> Duration {
        let interval = self.with_jitter(self.settings.maintenance.sweep_interval);
        next_due.map_or(interval, |due| due.min(interval))
    }

    /// An interval with its jitter, so that processes do not do their chores together.
    fn with_jitter(&self, interval: Duration) -> Duration {
        let jitter = self.settings.discovery.poll_jitter;
        interval.mul_f64(1.0 + jitter * (2.0 * rand::random::<f64>() - 1.0))
    }
}

/// Takes note of whether a statement with the limit's number of rows was too much.
fn adjust_limit<T>(limit: &mut Limit, result: Result<T, Error>) -> Result<T, Error> {
    match &result {
        Ok(_) => limit.grow(),
        Err(error) if error.kind().may_pass_with_fewer_rows() => limit.halve(limit.now()),
        Err(_) => {}
    }
    result
}

/// Logs that a statement is repeated with fewer rows.
fn log_smaller(requested: usize, error: &Error, message: &'static str) {
    tracing::warn!(requested, error.class = error.class(), error.message = %error, "{message}");
}

/// Logs which task a chore skips because of an error. Without one the error lies elsewhere, and the round has ended.
fn log_skipped(chore: &'static str, task: Option<NextTask>, error: &Error) {
    let (class, id, uuid) = (error.class(), task.map(|task| task.id), task.map(|task| task.uuid.to_string()));
    let message = match task {
        Some(_) => "a task is skipped until the next round",
        None => "the round ends with an error that no task has caused",
    };
    tracing::error!(chore, task_id = id, task_uuid = uuid, error.class = class, error.message = %error, "{message}");
}

fn report<T>(chore: &'static str, outcome: Result<T, Error>) -> Option<T> {
    let log = |error: &Error| {
        tracing::warn!(chore, error.class = error.class(), error.message = %error, "maintenance failed and is tried again");
    };
    outcome.inspect_err(log).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_judges_others_only_after_two_heartbeat_intervals() {
        let settings = Configuration::load(None).unwrap().leases; // every 5 s, silent for 20 s at most
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut clock = HeartbeatClock::new(&settings, start);
        let heartbeat = Some(HeartbeatResult::default());
        assert!(!clock.may_judge(after(9)) && clock.may_judge(after(10)), "it has just come");
        clock.record(heartbeat, after(15));
        assert!(clock.may_judge(after(16)), "all is well");
        clock.record(None, after(20));
        assert!(!clock.may_judge(after(21)), "it is cut off");
        clock.record(heartbeat, after(25));
        assert!(!clock.may_judge(after(34)) && clock.may_judge(after(35)), "two heartbeats for the others");
        clock.record(Some(HeartbeatResult { reregistered: true, leap: None }), after(40));
        assert!(!clock.may_judge(after(49)) && clock.may_judge(after(50)), "another registration");
        // Paused, with no attempt at a sign of life: so may the others have been.
        clock.record(heartbeat, after(60));
        assert!(!clock.may_judge(after(69)) && clock.may_judge(after(70)));
    }

    #[test]
    fn a_clock_leap_suspends_judgement_for_the_longest_silence() {
        let settings = Configuration::load(None).unwrap().leases;
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let leap = serde_json::from_value(serde_json::json!({"by_ms": -3_600_000, "patience_ms": 45_000})).unwrap();
        let mut clock = HeartbeatClock::new(&settings, start);
        clock.record(Some(HeartbeatResult { reregistered: false, leap: Some(leap) }), after(15));
        assert!(!clock.may_judge(after(59)) && clock.may_judge(after(60)), "its own sign of life has shown it");
        clock.clock_leapt(leap, after(70));
        clock.record(Some(HeartbeatResult::default()), after(75));
        assert!(!clock.may_judge(after(114)) && clock.may_judge(after(115)), "a sweep has shown it");
        assert_eq!(clock.next_sweep_at(after(90), after(80)), after(90), "what is due need not wait");
        assert_eq!(clock.next_sweep_at(after(200), after(80)), after(115), "and then it judges at once");
        assert_eq!(clock.next_sweep_at(after(200), after(120)), after(200));
    }
}
