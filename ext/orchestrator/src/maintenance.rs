//! The chores of one process: heartbeat, sweep, retention, audit.
//!
//! Invariant: they go on while the dispatcher is busy or waiting for the database, and none keeps a heartbeat waiting
//! for longer than one statement. Neighbours: `process` is re-entered here if the database gave it up; the dispatcher
//! says when the next retry is due.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch, Notify};
use uuid::Uuid;

use crate::configuration::{self, Configuration};
use crate::error::Error;
use crate::events::{tell_all, EventPublisher, TaskFacts};
use crate::kernel::{Audited, Kernel, Leap, NextTask, Swept};
use crate::leases::Leases;
use crate::limit::Limit;
use crate::process::{Beat, Process};
use crate::step::{ClaimKey, ReleaseReason};
use crate::waker::Waker;

pub struct Maintenance {
    pub kernel: Kernel,
    pub process: Arc<Process>,
    pub leases: Arc<Leases>,
    pub waker: Waker,
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
}

/// Whether this process may judge others by their silence. Where the database was away, or the way to it, all were silent: one
/// that swept before the others, or before its own sign of life, would give up what they, or it, are about to finish. Where the
/// database's clock has leapt, or the process has just come and cannot know, all look silent that have not beaten since.
#[derive(Debug)]
struct Pulse {
    interval: Duration,
    longest_silence: Duration,
    /// When the database took the last sign of life.
    taken_at: Instant,
    is_cut_off: bool,
    /// Until then the others have time for a sign of life.
    patient_until: Instant,
}

impl Pulse {
    fn new(settings: &configuration::Leases, now: Instant) -> Self {
        Self {
            interval: settings.heartbeat_interval,
            longest_silence: settings.process_timeout,
            taken_at: now,
            is_cut_off: false,
            patient_until: now + 2 * settings.heartbeat_interval,
        }
    }

    /// A sign of life was sent, and the database has taken it, or not (`None`).
    fn beat(&mut self, taken: Option<Beat>, now: Instant) {
        if let Some(beat) = taken {
            if self.is_cut_off || beat.rejoined || now - self.taken_at >= self.longest_silence {
                self.wait(2 * self.interval, now);
            }
            if let Some(leap) = beat.leap {
                self.leapt(leap, now);
            }
            self.taken_at = now;
        }
        self.is_cut_off = taken.is_none();
    }

    /// The database's clock has leapt.
    fn leapt(&mut self, leap: Leap, now: Instant) {
        let (seconds, patience) = (leap.by_ms / 1000.0, leap.patience());
        tracing::warn!(seconds, ?patience, "the database's clock has leapt: no process is judged for a while");
        self.wait(patience, now);
    }

    fn wait(&mut self, patience: Duration, now: Instant) {
        self.patient_until = self.patient_until.max(now + patience);
    }

    fn judges(&self, now: Instant) -> bool {
        !self.is_cut_off && now >= self.patient_until
    }

    /// When to sweep next, if that is due at a time: as soon as judging is allowed again, at the latest.
    fn sweeps_at(&self, due: Instant, now: Instant) -> Instant {
        if now < self.patient_until {
            due.min(self.patient_until)
        } else {
            due
        }
    }
}

/// Where an audit is on its round.
#[derive(Default)]
struct Round {
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
        let mut next_look = Instant::now() + self.settings.execution.claim_ahead_wait;
        let mut next_prune = Instant::now() + self.spread(self.settings.retention.interval);
        let mut next_audit = Instant::now() + self.spread(self.settings.maintenance.audit_interval);
        let mut pulse = Pulse::new(&self.settings.leases, Instant::now());
        let mut pruned_to = None;
        let mut round = Round::default();
        let maintenance = &self.settings.maintenance;
        let mut sweeping = Limit::new(maintenance.sweep_limit);
        let mut pruning = Limit::new(self.settings.retention.limit);
        let mut auditing = Limit::new(maintenance.audit_limit);
        loop {
            // While it is cut off, the next sign of life tells whether there is anything to sweep.
            let sweep_at = if pulse.is_cut_off { next_heartbeat } else { next_sweep };
            let next = next_heartbeat.min(sweep_at).min(next_look).min(next_prune).min(next_audit);
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep_until(next.into()) => {}
                Some(due) = self.due.recv() => next_sweep = next_sweep.min(Instant::now() + due),
            }
            let now = Instant::now();
            if now >= next_heartbeat {
                let taken = report("heartbeat", self.process.beat(&self.kernel, &self.leases).await);
                pulse.beat(taken, Instant::now());
                next_heartbeat = now + self.settings.leases.heartbeat_interval;
            }
            if now >= next_look {
                self.release_what_waits();
                next_look = now + self.settings.execution.claim_ahead_wait;
            }
            if now >= next_sweep && !pulse.is_cut_off {
                let next_due = report("sweep", self.sweep(&mut pulse, &mut sweeping).await).flatten();
                let now = Instant::now();
                next_sweep = pulse.sweeps_at(now + self.until_sweep(next_due), now);
            }
            if now >= next_prune {
                let pruned = report("retention", self.prune(pruned_to, &mut pruning).await);
                let pause = match pruned {
                    Some(Some(_)) => Duration::ZERO,
                    _ => self.spread(self.settings.retention.interval),
                };
                // After a failure the next statement begins at the same task.
                pruned_to = pruned.unwrap_or(pruned_to);
                next_prune = Instant::now() + pause;
            }
            if now >= next_audit {
                report("audit", self.audit(&mut round, &mut auditing).await);
                next_audit = Instant::now() + self.spread(self.settings.maintenance.audit_interval);
            }
        }
    }

    /// Has what was claimed ahead and has not been started given back, as when handlers suddenly take long: at once, or for a
    /// while where a limit leaves no room for it here. The dispatcher does it, and tries again what fails.
    fn release_what_waits(&self) {
        for (reason, claims) in self.leases.take_waiting_longer_than(self.settings.execution.claim_ahead_wait) {
            for claim in claims {
                // Without a dispatcher this process is leaving, and gives everything back.
                let _ = self.releases.send((claim, reason));
            }
        }
    }

    /// Sweeps until nothing is left for now; answers the time until something is due.
    async fn sweep(&self, pulse: &mut Pulse, limit: &mut Limit) -> Result<Option<Duration>, Error> {
        loop {
            let asked = limit.now();
            let judges = pulse.judges(Instant::now());
            let swept = {
                let id = self.process.hold_id().await;
                bounded(limit, self.kernel.sweep(*id, asked, self.process.silence(), judges).await)?
            };
            if let Some(leap) = swept.leap {
                pulse.leapt(leap, Instant::now());
            }
            let next_due = swept.next_due();
            if swept.lost > 0 {
                tracing::warn!(attempts = swept.lost, "attempts lost: their process died or their lease ended");
                self.tell(&swept).await;
            }
            if !swept.ready_queues.is_empty() || swept.lost > 0 {
                self.wake.notify_one();
                self.waker.wake(swept.ready_queues);
            }
            if (swept.due.max(swept.lost) as usize) < asked {
                return Ok(next_due);
            }
        }
    }

    async fn tell(&self, swept: &Swept) {
        let attempts = swept.attempts().filter(|told| self.events.wants(told.name())).map(|told| told.event());
        let tasks = swept.ended.iter().filter(|task| self.events.wants(&task.name)).map(TaskFacts::event);
        tell_all(&self.events, attempts.chain(tasks)).await;
    }

    /// Removes what is older than it is kept, one statement's worth; returns the task after which the next statement begins at
    /// once. A statement that was too much is repeated at once with fewer tasks, as an interval for each halving would take
    /// hours.
    async fn prune(&self, after: Option<Uuid>, limit: &mut Limit) -> Result<Option<Uuid>, Error> {
        let retention = &self.settings.retention;
        if !retention.enabled {
            return Ok(None);
        }
        let asked = limit.now();
        let pruned = match bounded(limit, self.kernel.prune(retention.keep, after, asked, false).await) {
            Err(error) if error.nature().is_of_rows() && asked > 1 => {
                let class = error.class();
                tracing::warn!(asked, error.class = class, error.message = %error, "retention continues with fewer tasks");
                return Ok(Some(after.unwrap_or(Uuid::nil())));
            }
            Err(error) if error.nature().is_of_rows() && asked == 1 => {
                let task = self.kernel.next_task_by_uuid(after, retention.keep).await?;
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
    async fn audit(&self, round: &mut Round, limit: &mut Limit) -> Result<(), Error> {
        let asked = limit.now();
        let audited = match bounded(limit, self.kernel.audit(round.after, asked).await) {
            Err(error) if error.nature().is_of_rows() && asked == 1 => {
                let task = self.kernel.next_task_by_id(round.after).await?;
                log_skipped("audit", task, &error);
                Audited { findings: Vec::new(), after: task.map(|task| task.id) }
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
                *round = Round { known: std::mem::take(&mut round.broken), ..Round::default() };
            }
        }
        Ok(())
    }

    fn until_sweep(&self, next_due: Option<Duration>) -> Duration {
        let interval = self.spread(self.settings.maintenance.sweep_interval);
        next_due.map_or(interval, |due| due.min(interval))
    }

    /// An interval with its jitter, so that processes do not do their chores together.
    fn spread(&self, interval: Duration) -> Duration {
        let jitter = self.settings.discovery.poll_jitter;
        interval.mul_f64(1.0 + jitter * (2.0 * rand::random::<f64>() - 1.0))
    }
}

/// Takes note of whether a statement with the limit's number of rows was too much.
fn bounded<T>(limit: &mut Limit, answer: Result<T, Error>) -> Result<T, Error> {
    match &answer {
        Ok(_) => limit.grow(),
        Err(error) if error.nature().is_of_rows() => limit.halve(limit.now()),
        Err(_) => {}
    }
    answer
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
    let tell = |error: &Error| {
        tracing::warn!(chore, error.class = error.class(), error.message = %error, "maintenance failed and is tried again");
    };
    outcome.inspect_err(tell).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_judges_nobody_until_it_and_the_others_have_had_time_for_a_sign_of_life() {
        let settings = Configuration::load(None).unwrap().leases; // every 5 s, silent for 20 s at most
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(&settings, start);
        let taken = Some(Beat::default());
        assert!(!pulse.judges(after(9)) && pulse.judges(after(10)), "it has just come");
        pulse.beat(taken, after(15));
        assert!(pulse.judges(after(16)), "all is well");
        pulse.beat(None, after(20));
        assert!(!pulse.judges(after(21)), "it is cut off");
        pulse.beat(taken, after(25));
        assert!(!pulse.judges(after(34)) && pulse.judges(after(35)), "two heartbeats for the others");
        pulse.beat(Some(Beat { rejoined: true, leap: None }), after(40));
        assert!(!pulse.judges(after(49)) && pulse.judges(after(50)), "another registration");
        // Paused, with no attempt at a sign of life: so may the others have been.
        pulse.beat(taken, after(60));
        assert!(!pulse.judges(after(69)) && pulse.judges(after(70)));
    }

    #[test]
    fn a_leap_of_the_clock_makes_it_wait_for_as_long_as_any_process_may_be_silent() {
        let settings = Configuration::load(None).unwrap().leases;
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let leap = serde_json::from_value(serde_json::json!({"by_ms": -3_600_000, "patience_ms": 45_000})).unwrap();
        let mut pulse = Pulse::new(&settings, start);
        pulse.beat(Some(Beat { rejoined: false, leap: Some(leap) }), after(15));
        assert!(!pulse.judges(after(59)) && pulse.judges(after(60)), "its own sign of life has shown it");
        pulse.leapt(leap, after(70));
        pulse.beat(Some(Beat::default()), after(75));
        assert!(!pulse.judges(after(114)) && pulse.judges(after(115)), "a sweep has shown it");
        assert_eq!(pulse.sweeps_at(after(90), after(80)), after(90), "what is due need not wait");
        assert_eq!(pulse.sweeps_at(after(200), after(80)), after(115), "and then it judges at once");
        assert_eq!(pulse.sweeps_at(after(200), after(120)), after(200));
    }
}
