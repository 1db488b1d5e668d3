//! Decides when to claim, how much, and when to flush, without a clock and without a pool.
//!
//! Invariant: this process never holds more than its slots plus `ahead`. Neighbour: `dispatcher` acts on these
//! decisions.

use std::time::{Duration, Instant};

use crate::configuration::{Discovery as DiscoverySettings, Execution};

/// Work buffered beyond the slots: enough to bridge a round trip to the database, in handler time. With handlers of a
/// second it is nothing, so that no step waits here while another process could run it.
const HORIZON: Duration = Duration::from_millis(20);
/// Weight of the latest handler in the average run time.
const LATEST_RUN_WEIGHT: f64 = 0.1;
/// Weight of the latest flush in the average number of outcomes.
const LATEST_FLUSH_WEIGHT: f64 = 0.2;
/// From this many outcomes per flush, waiting briefly for more saves commits without delaying a lone chain.
const BATCHING_THRESHOLD: f64 = 4.0;

/// Delay of an extra poll after the last step: it finds a step that was committed late and that scans from a mark have
/// skipped (`db/functions/maintenance/internal/save_scan_mark.sql`).
const LATE_COMMIT_DELAY: Duration = Duration::from_millis(1200);

/// How much to claim and when to flush.
#[derive(Debug)]
pub struct Pacing {
    slots: usize,
    claim_ahead: usize,
    claim_batch: usize,
    flush_size: usize,
    flush_delay: Duration,
    average_run: Option<f64>,
    average_flush: f64,
}

impl Pacing {
    pub fn new(slots: usize, settings: &Execution) -> Self {
        Self {
            slots,
            claim_ahead: settings.claim_ahead,
            claim_batch: settings.claim_batch,
            flush_size: settings.flush_size,
            flush_delay: settings.flush_delay,
            average_run: None,
            average_flush: 1.0,
        }
    }

    /// Records how long a handler ran.
    pub fn record_run(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        self.average_run =
            Some(self.average_run.map_or(time, |average| average + LATEST_RUN_WEIGHT * (time - average)));
    }

    /// Records how many outcomes a flush carried.
    pub fn record_flush(&mut self, outcomes: usize) {
        self.average_flush += LATEST_FLUSH_WEIGHT * (outcomes as f64 - self.average_flush);
    }

    /// How many steps to hold beyond the slots.
    pub fn ahead(&self) -> usize {
        let Some(run) = self.average_run else { return 0 };
        let bridged = self.slots as f64 * HORIZON.as_secs_f64() / run.max(1e-9);
        (bridged as usize).min(self.claim_ahead)
    }

    /// How many steps to claim while `busy` ones are running or buffered.
    pub fn demand(&self, busy: usize) -> usize {
        (self.slots + self.ahead()).saturating_sub(busy).min(self.claim_batch)
    }

    /// Whether a separate claim (not one combined with a flush) is worth a statement: some slots have no step, or half
    /// of the steps ahead are used up.
    pub fn should_claim(&self, busy: usize) -> bool {
        let demand = self.demand(busy);
        demand > 0 && (busy < self.slots || demand >= self.ahead().div_ceil(2))
    }

    /// How much longer to wait before flushing `pending` outcomes, the oldest of which has waited for `waited`;
    /// `busy` steps may still add theirs. Zero: flush; `None`: not before one of the statements `in_flight` is done.
    pub fn flush_in(&self, pending: usize, waited: Duration, busy: usize, in_flight: usize) -> Option<Duration> {
        if in_flight > 0 && pending < self.flush_size.div_ceil(2) {
            return None;
        }
        if pending >= self.flush_size || busy == 0 || self.average_flush < BATCHING_THRESHOLD {
            return Some(Duration::ZERO);
        }
        Some(self.flush_delay.saturating_sub(waited))
    }

    /// The largest batch to send in one statement.
    pub fn flush_size(&self) -> usize {
        self.flush_size
    }
}

/// When to poll for ready steps next.
#[derive(Debug)]
pub struct Discovery {
    poll_interval: Duration,
    poll_jitter: f64,
    recheck_delay: Duration,
    /// The database has marked this process as idle, so other processes wake it.
    idle: bool,
    /// Steps or wake-ups have arrived since the last poll that followed a pause.
    recently_woken: bool,
    next: Instant,
}

/// The outcome of a claim.
#[derive(Debug, Clone, Copy)]
pub struct ClaimResult {
    pub requested: usize,
    pub claimed: usize,
    /// The claim followed a wake-up.
    pub woken: bool,
}

impl Discovery {
    /// Polls at once, then as `record` decides.
    pub fn new(settings: &DiscoverySettings, poll_only: bool, now: Instant) -> Self {
        Self {
            poll_interval: if poll_only { settings.poll_only_interval } else { settings.poll_interval },
            poll_jitter: settings.poll_jitter,
            // Senders skip a notice that follows another within the debounce time; a poll after that time finds the
            // steps of skipped notices.
            recheck_delay: settings.notify_debounce * 2,
            idle: false,
            recently_woken: false,
            next: now,
        }
    }

    pub fn next(&self) -> Instant {
        self.next
    }

    pub fn poll_now(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    /// Polls at this time and not before, unless `poll_now` is called.
    pub fn wait_until(&mut self, at: Instant) {
        self.next = at;
    }

    /// Decides after a claim when to poll again. `chance` is a random number in 0..1.
    pub fn record(&mut self, result: ClaimResult, now: Instant, chance: f64) {
        let recently_woken = result.claimed > 0 || result.woken;
        self.recently_woken |= recently_woken;
        if result.claimed >= result.requested {
            self.idle = false;
            self.next = now;
            return;
        }
        let first_empty = result.claimed == 0 && !self.idle;
        if first_empty {
            // A step may have become ready before its sender saw the mark: poll once more.
            self.idle = true;
            self.next = now;
        } else if recently_woken {
            self.next = now + self.recheck_delay;
        } else {
            let spread = 1.0 + self.poll_jitter * (2.0 * chance - 1.0);
            let interval = if std::mem::take(&mut self.recently_woken) {
                self.poll_interval.min(LATE_COMMIT_DELAY)
            } else {
                self.poll_interval
            };
            self.next = now + interval.mul_f64(spread);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::configuration::Configuration;

    fn settings() -> Configuration {
        Configuration::load(None).unwrap()
    }

    fn pacing(slots: usize) -> Pacing {
        Pacing::new(slots, &settings().execution)
    }

    #[test]
    fn claiming_ahead_follows_the_handlers_run_time() {
        let ahead_by_run_ms = [(1000.0, 0), (100.0, 1), (10.0, 10), (0.01, settings().execution.claim_ahead)];
        for (run_ms, ahead) in ahead_by_run_ms {
            let mut pacing = pacing(5);
            pacing.record_run(Duration::from_secs_f64(run_ms / 1000.0));
            assert_eq!(pacing.ahead(), ahead, "handlers of {run_ms} ms");
        }
    }

    #[test]
    fn nothing_is_claimed_beyond_slots_and_claim_ahead() {
        let mut pacing = pacing(5);
        assert_eq!(pacing.demand(0), 5);
        assert_eq!(pacing.demand(5), 0);
        pacing.record_run(Duration::from_millis(10));
        assert_eq!(pacing.demand(5), 10);
        assert_eq!(pacing.demand(15), 0);
        assert_eq!(pacing.demand(99), 0);
    }

    #[test]
    fn a_lone_outcome_is_flushed_at_once_and_a_stream_in_batches() {
        let mut pacing = pacing(5);
        let delay = settings().execution.flush_delay;
        assert_eq!(pacing.flush_in(1, Duration::ZERO, 3, 0), Some(Duration::ZERO));
        for _ in 0..50 {
            pacing.record_flush(40);
        }
        assert_eq!(pacing.flush_in(1, Duration::ZERO, 3, 0), Some(delay));
        assert_eq!(pacing.flush_in(1, delay, 3, 0), Some(Duration::ZERO));
        assert_eq!(pacing.flush_in(1, Duration::ZERO, 0, 0), Some(Duration::ZERO), "no other outcome can join it");
        assert_eq!(pacing.flush_in(pacing.flush_size(), Duration::ZERO, 3, 0), Some(Duration::ZERO));
        assert_eq!(pacing.flush_in(1, delay, 0, 1), None, "a statement is under way, and this is no batch");
        assert_eq!(pacing.flush_in(pacing.flush_size(), Duration::ZERO, 3, 1), Some(Duration::ZERO));
    }

    #[test]
    fn an_empty_claim_is_repeated_once_and_then_waits_for_the_poll() {
        let start = Instant::now();
        let mut discovery = Discovery::new(&settings().discovery, false, start);
        let empty = ClaimResult { requested: 5, claimed: 0, woken: false };
        discovery.record(empty, start, 0.5);
        assert_eq!(discovery.next(), start, "the mark has just been set");
        discovery.record(empty, start, 0.5);
        assert_eq!(discovery.next(), start + settings().discovery.poll_interval);
        discovery.record(ClaimResult { woken: true, ..empty }, start, 0.5);
        assert_eq!(discovery.next(), start + settings().discovery.notify_debounce * 2, "a skipped notice");
        discovery.record(empty, start, 0.5);
        assert_eq!(discovery.next(), start + LATE_COMMIT_DELAY, "a step that was committed late");
        discovery.record(empty, start, 0.5);
        assert_eq!(discovery.next(), start + settings().discovery.poll_interval);
        discovery.record(ClaimResult { requested: 5, claimed: 5, woken: false }, start, 0.5);
        assert_eq!(discovery.next(), start, "there may be more");
    }

    /// Settings that differ from the defaults.
    fn with(overrides: serde_json::Value) -> Configuration {
        Configuration::load(Some(&overrides)).unwrap()
    }

    #[test]
    fn polls_and_the_recheck_after_a_notice_follow_the_settings() {
        let settings = with(serde_json::json!({"discovery": {
            "poll_interval": "3s", "poll_only_interval": "40ms", "notify_debounce": "70ms", "poll_jitter": 0}}));
        let start = Instant::now();
        let empty = ClaimResult { requested: 5, claimed: 0, woken: false };
        for (poll_only, interval) in [(false, Duration::from_secs(3)), (true, Duration::from_millis(40))] {
            let mut discovery = Discovery::new(&settings.discovery, poll_only, start);
            discovery.record(empty, start, 0.5);
            discovery.record(empty, start, 0.5);
            assert_eq!(discovery.next(), start + interval);
            discovery.record(ClaimResult { woken: true, ..empty }, start, 0.5);
            assert_eq!(discovery.next(), start + Duration::from_millis(140));
        }
    }

    #[test]
    fn batches_and_their_delay_follow_the_settings() {
        let settings = with(serde_json::json!({"execution": {
            "claim_batch": 3, "claim_ahead": 4, "flush_size": 6, "flush_delay": "800ms"}}));
        let mut pacing = Pacing::new(5, &settings.execution);
        assert_eq!(pacing.demand(0), 3);
        pacing.record_run(Duration::from_micros(1));
        assert_eq!(pacing.ahead(), 4);
        (0..50).for_each(|_| pacing.record_flush(40));
        assert_eq!(pacing.flush_in(5, Duration::ZERO, 3, 0), Some(Duration::from_millis(800)));
        assert_eq!(pacing.flush_in(6, Duration::ZERO, 3, 0), Some(Duration::ZERO));
    }

    #[test]
    fn polls_are_spread_by_poll_jitter() {
        let start = Instant::now();
        let empty = ClaimResult { requested: 5, claimed: 0, woken: false };
        for (jitter, chance, factor) in [(0.0, 1.0, 1.0), (0.5, 1.0, 1.5), (0.5, 0.0, 0.5), (0.5, 0.5, 1.0)] {
            let spread = with(serde_json::json!({"discovery": {"poll_jitter": jitter}}));
            let mut discovery = Discovery::new(&spread.discovery, false, start);
            discovery.record(empty, start, chance);
            discovery.record(empty, start, chance);
            assert_eq!(discovery.next(), start + settings().discovery.poll_interval.mul_f64(factor));
        }
    }

    proptest! {
        #[test]
        fn claims_never_exceed_slots_plus_claim_ahead(
            slots in 1..100_usize,
            runs in proptest::collection::vec(0.0..1000.0_f64, 0..20),
            flushes in proptest::collection::vec(1..500_usize, 0..20),
            busy in 0..1000_usize,
            pending in 1..500_usize,
            waited in 0.0..0.1_f64,
        ) {
            let mut pacing = pacing(slots);
            runs.into_iter().for_each(|seconds| pacing.record_run(Duration::from_secs_f64(seconds)));
            flushes.into_iter().for_each(|outcomes| pacing.record_flush(outcomes));
            let max = slots + settings().execution.claim_ahead;
            let demand = pacing.demand(busy);
            prop_assert!(busy + demand <= max.max(busy));
            prop_assert!(demand <= settings().execution.claim_batch);
            prop_assert!(!pacing.should_claim(busy) || demand > 0);
            // Outcomes wait only for a statement under way, and never longer than the delay.
            let flush = pacing.flush_in(pending, Duration::from_secs_f64(waited), busy, 0);
            prop_assert!(flush.is_some_and(|delay| delay <= settings().execution.flush_delay));
        }

        #[test]
        fn the_next_claim_is_never_later_than_the_poll(
            results in proptest::collection::vec((1..100_usize, 0..100_usize, any::<bool>(), 0.0..1.0_f64), 1..30)
        ) {
            let start = Instant::now();
            let settings = settings().discovery;
            let mut discovery = Discovery::new(&settings, false, start);
            for (requested, claimed, woken, chance) in results {
                discovery.record(ClaimResult { requested, claimed: claimed.min(requested), woken }, start, chance);
                let latest = settings.poll_interval.mul_f64(1.0 + settings.poll_jitter);
                prop_assert!(discovery.next() <= start + latest);
                prop_assert!(claimed < requested || discovery.next() == start, "there may be more");
            }
        }
    }
}
