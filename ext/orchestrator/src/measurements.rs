//! What a worker process measures for the metrics: totals and histograms, sent with each heartbeat.
//!
//! Invariant: totals only grow, so that the sum over all processes is a counter. Neighbours: `context` holds them,
//! `registration` sends them, and lib/tasker_core/operations/metrics.rb renders them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Figures since the start, for `health` and the metrics.
#[derive(Default)]
pub struct Counters {
    pub claimed: AtomicU64,
    /// Steps that the database could not read for a claim or for the end of a lost attempt.
    pub set_aside: AtomicU64,
    pub finished: AtomicU64,
    pub stale: AtomicU64,
    pub released: AtomicU64,
    /// Steps for which a job was enqueued.
    pub dispatched: AtomicU64,
    pub flushes: AtomicU64,
    pub tasks_ended: AtomicU64,
    /// Tasks that retention removed.
    pub pruned: AtomicU64,
    /// Tasks that the last complete round of audits found broken.
    pub broken: AtomicU64,
    /// Duration of the statements that only claim.
    pub claim_time: Histogram,
    /// Duration of the statements that store outcomes.
    pub finish_time: Histogram,
    /// Duration of the handlers' attempts.
    pub run_time: Histogram,
}

impl Counters {
    /// The totals since the start, as they are sent with a heartbeat.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (name, counter) in [("claimed", &self.claimed), ("stale", &self.stale), ("released", &self.released)] {
            totals.add(name, counter.load(Ordering::Relaxed));
        }
        for (name, histogram) in [("claim", &self.claim_time), ("finish", &self.finish_time), ("run", &self.run_time)] {
            histogram.add_to(&mut totals, name);
        }
        totals
    }
}

/// Upper bounds of the buckets in milliseconds; the last bucket has none.
const BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000, 60_000];

/// Durations by bucket, and their sum.
#[derive(Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub fn record(&self, duration: Duration) {
        let bucket = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < duration);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Adds `NAME_us`, the sum, and `NAME_ms_BOUND` for each bucket that is not empty.
    pub fn add_to(&self, totals: &mut Totals, name: &str) {
        totals.add(format!("{name}_us"), self.sum_us.load(Ordering::Relaxed));
        for (number, bucket) in self.buckets.iter().enumerate() {
            let bound = BOUNDS_MS.get(number).map_or_else(|| "inf".to_owned(), u64::to_string);
            totals.add(format!("{name}_ms_{bound}"), bucket.load(Ordering::Relaxed));
        }
    }
}

/// Totals by name; a missing one is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals(BTreeMap<String, u64>);

impl Totals {
    pub fn add(&mut self, name: impl Into<String>, count: u64) {
        if count > 0 {
            *self.0.entry(name.into()).or_default() += count;
        }
    }

    /// What was counted after the `earlier` totals.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = Self::default();
        for (name, count) in &self.0 {
            difference.add(name, count.saturating_sub(earlier.0.get(name).copied().unwrap_or(0)));
        }
        difference
    }
}

/// What a process sends with a heartbeat.
#[derive(Debug, Serialize)]
pub struct Stats {
    pub threads: usize,
    /// Tasks that its last complete round of audits found broken.
    pub broken: u64,
    #[serde(flatten)]
    pub totals: Totals,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_duration_counts_in_the_bucket_of_the_next_bound() {
        let histogram = Histogram::default();
        for us in [1000, 1001, 60_000_000, 60_000_001] {
            histogram.record(Duration::from_micros(us));
        }
        let mut totals = Totals::default();
        histogram.add_to(&mut totals, "claim");
        let expected =
            json!({"claim_us": 120_002_002, "claim_ms_1": 1, "claim_ms_2": 1, "claim_ms_60000": 1, "claim_ms_inf": 1});
        assert_eq!(json!(totals), expected);
    }

    #[test]
    fn stats_contain_what_was_counted_since_the_registration() {
        let mut before = Totals::default();
        before.add("stale", 2);
        before.add("claimed", 5);
        let mut now = before.clone();
        now.add("claimed", 3);
        let stats = Stats { threads: 4, broken: 1, totals: now.since(&before) };
        assert_eq!(json!(stats), json!({"threads": 4, "broken": 1, "claimed": 3}));
    }
}
