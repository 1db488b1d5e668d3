//! The chores of one process: heartbeat, sweep, retention, audit.
//!
//! Invariant: chores continue while the dispatcher is busy or waiting for the database, and none delays a heartbeat by more than
//! one statement. Neighbours: `registration` is renewed here if the database took the process for dead; the dispatcher sends the
//! time of the next retry.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::claim::ClaimKey;
use crate::configuration::{self, Configuration};
use crate::database::definitions::SetAside;
use crate::database::functions::{AuditResult, ClockLeap, NextTask, SweepResult};
use crate::error::Error;
use crate::events::{publish_all, TaskFacts};
use crate::outcome::ReleaseReason;
use crate::worker::context::Context;
use crate::worker::limit::Limit;
use crate::worker::registration::HeartbeatResult;

/// When a sweep that failed is repeated with fewer steps. The server reports an error before it releases the locks: a sweep
/// without a delay would skip the same rows as locked.
const REPEAT_DELAY: Duration = Duration::from_millis(100);

pub struct Maintenance {
    context: Arc<Context>,
    /// Becomes true when no further chore is to be started.
    stopping: watch::Receiver<bool>,
    /// Times until retries that this process has scheduled.
    due: mpsc::UnboundedReceiver<Duration>,
    /// Claims for the dispatcher to release, and why.
    releases: mpsc::UnboundedSender<(ClaimKey, ReleaseReason)>,
    /// When each chore runs next, by its place in `Chore::ALL`.
    next: [Instant; Chore::ALL.len()],
    clock: HeartbeatClock,
    sweep_limit: Limit,
    prune_limit: Limit,
    /// The task after which the next statement of retention begins.
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
    /// In the order in which they run when several are due.
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
}

/// Varies an interval, so that processes do not run their chores at the same time.
fn with_jitter(settings: &Configuration, interval: Duration) -> Duration {
    let jitter = settings.discovery.poll_jitter;
    interval.mul_f64(1.0 + jitter * (2.0 * rand::random::<f64>() - 1.0))
}

/// Decides whether this process may take others for dead because of missing heartbeats. While the database or the network was
/// down, no process could send one: a process that swept before the others' next heartbeat, or before its own, would end steps
/// that are about to finish. After a leap of the database's clock, every process appears silent until its next heartbeat; a
/// process that has just started cannot know whether there was one.
#[derive(Debug)]
struct HeartbeatClock {
    interval: Duration,
    process_timeout: Duration,
    /// When the database received the last heartbeat.
    last_heartbeat_at: Instant,
    is_cut_off: bool,
    /// Until then, the other processes have time for a heartbeat.
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

    /// Records a heartbeat, or a failed one (`None`).
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

    /// Suspends judgement after a leap of the database's clock.
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

    /// The time of the next sweep: `due`, or earlier, when judging is allowed again.
    fn next_sweep_at(&self, due: Instant, now: Instant) -> Instant {
        if now < self.judge_after {
            due.min(self.judge_after)
        } else {
            due
        }
    }
}

/// The progress of a round of audits.
#[derive(Default)]
struct AuditRound {
    after: i64,
    broken: BTreeSet<i64>,
    /// Broken tasks of the previous round.
    known: BTreeSet<i64>,
}

impl Maintenance {
    pub fn new(
        context: Arc<Context>,
        stopping: watch::Receiver<bool>,
        due: mpsc::UnboundedReceiver<Duration>,
        releases: mpsc::UnboundedSender<(ClaimKey, ReleaseReason)>,
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
            due,
            releases,
        }
    }

    /// Runs until `stopping` is set.
    pub async fn run(mut self) {
        loop {
            let next = Chore::ALL.map(|chore| self.next_run(chore)).into_iter().min().expect("there are chores");
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep_until(next.into()) => {}
                Some(due) = self.due.recv() => {
                    let sweep = &mut self.next[Chore::Sweep as usize];
                    *sweep = (*sweep).min(Instant::now() + due);
                }
            }
            let now = Instant::now();
            for chore in Chore::ALL {
                if now >= self.next_run(chore) {
                    self.next[chore as usize] = self.perform(chore, now).await;
                }
            }
        }
    }

    /// While the process is cut off, a sweep waits for the next heartbeat, which shows whether it can run.
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
                let due = report("sweep", self.sweep().await).flatten();
                let now = Instant::now();
                self.clock.next_sweep_at(now + due.map_or(interval, |due| due.min(interval)), now)
            }
            Chore::Prune => {
                let pruned = report("retention", self.prune().await);
                let pause = if matches!(pruned, Some(Some(_))) { Duration::ZERO } else { interval };
                // After a failure the next statement begins at the same task.
                self.pruned_to = pruned.unwrap_or(self.pruned_to);
                Instant::now() + pause
            }
            Chore::Audit => {
                report("audit", self.audit().await);
                Instant::now() + interval
            }
        }
    }

    async fn send_heartbeat(&mut self) {
        let Context { functions, process, leases, .. } = &*self.context;
        let result = report("heartbeat", process.heartbeat(functions, leases).await);
        self.clock.record(result, Instant::now());
    }

    /// Requests the release of claims that were claimed ahead and have not started in time, as when handlers suddenly take long:
    /// without a delay, or with one for claims over a limit. The dispatcher releases them and retries failures.
    fn release_unstarted(&self) {
        for (reason, claims) in
            self.context.leases.take_waiting_longer_than(self.context.settings.execution.claim_ahead_wait)
        {
            for claim in claims {
                // Without a dispatcher this process is stopping, which releases all claims.
                let _ = self.releases.send((claim, reason));
            }
        }
    }

    /// Sweeps until nothing is due; returns the time until the next waiting step is due.
    async fn sweep(&mut self) -> Result<Option<Duration>, Error> {
        loop {
            let requested = self.sweep_limit.now();
            let may_judge = self.clock.may_judge(Instant::now());
            let swept = {
                let id = self.context.process.lock_id().await;
                adjust_limit(
                    &mut self.sweep_limit,
                    self.context
                        .functions
                        .sweep(*id, requested, self.context.process.since_last_heartbeat(), may_judge)
                        .await,
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
                self.clock.clock_leapt(leap, Instant::now());
            }
            let next_due = swept.next_due();
            self.note_set_aside(&swept);
            if swept.lost > 0 {
                tracing::warn!(attempts = swept.lost, "attempts lost: their process died or their lease ended");
                self.publish(&swept).await;
            }
            if !swept.ready_queues.is_empty() || swept.lost > 0 {
                self.context.wake.notify_one();
                self.context.notifier.notify(swept.ready_queues);
            }
            if (swept.due.max(swept.lost + swept.set_aside.len() as u64) as usize) < requested {
                return Ok(next_due);
            }
        }
    }

    /// Logs each step once, when it is set aside: it then waits, and later sweeps check it without a log line.
    fn note_set_aside(&self, swept: &SweepResult) {
        self.context.counters.set_aside.fetch_add(swept.set_aside.len() as u64, Ordering::Relaxed);
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
        let attempts = swept
            .attempts()
            .filter(|attempt| self.context.events.is_interested(attempt.name()))
            .map(|attempt| attempt.event());
        let tasks =
            swept.ended.iter().filter(|task| self.context.events.is_interested(&task.name)).map(TaskFacts::event);
        publish_all(&self.context.events, attempts.chain(tasks)).await;
    }

    /// Removes tasks that have exceeded their retention, with one statement; returns the task after which the next statement
    /// begins at once. A statement that was too large is repeated at once with fewer tasks, as waiting an interval for each
    /// halving would take hours.
    async fn prune(&mut self) -> Result<Option<Uuid>, Error> {
        let after = self.pruned_to;
        let retention = &self.context.settings.retention;
        if !retention.enabled {
            return Ok(None);
        }
        let requested = self.prune_limit.now();
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
            tracing::info!(removed = ?pruned.removed, "rows removed that are older than they are kept");
        }
        Ok(pruned.after)
    }

    /// Checks the next tasks of the round; at its end sets the number of broken tasks. Each broken task is logged once.
    async fn audit(&mut self) -> Result<(), Error> {
        let requested = self.audit_limit.now();
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
            if !round.known.contains(&task) {
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
                *round = AuditRound { known: std::mem::take(&mut round.broken), ..AuditRound::default() };
            }
        }
        Ok(())
    }
}

/// Adjusts a limit to the result of a statement with that many rows.
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

/// Logs the task that a chore skips because of an error. Without a task the error has another cause, and the round ends.
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
        assert!(!clock.may_judge(after(9)) && clock.may_judge(after(10)), "it has just started");
        clock.record(heartbeat, after(15));
        assert!(clock.may_judge(after(16)), "all is well");
        clock.record(None, after(20));
        assert!(!clock.may_judge(after(21)), "it is cut off");
        clock.record(heartbeat, after(25));
        assert!(!clock.may_judge(after(34)) && clock.may_judge(after(35)), "two heartbeats for the others");
        clock.record(Some(HeartbeatResult { reregistered: true, leap: None }), after(40));
        assert!(!clock.may_judge(after(49)) && clock.may_judge(after(50)), "another registration");
        // It was paused and sent no heartbeat: the others may have been paused as well.
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
        assert!(!clock.may_judge(after(59)) && clock.may_judge(after(60)), "detected by its own heartbeat");
        clock.clock_leapt(leap, after(70));
        clock.record(Some(HeartbeatResult::default()), after(75));
        assert!(!clock.may_judge(after(114)) && clock.may_judge(after(115)), "detected by a sweep");
        assert_eq!(clock.next_sweep_at(after(90), after(80)), after(90), "a due sweep need not wait");
        assert_eq!(clock.next_sweep_at(after(200), after(80)), after(115), "it judges as soon as it may");
        assert_eq!(clock.next_sweep_at(after(200), after(120)), after(200));
    }
}
