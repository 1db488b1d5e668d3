//! How a step is tried again. The delay itself is computed in one place only: `db/functions/finish/internal/retry_delay.sql`. What each
//! field may be is said by the settings of the section `retry`, which are its defaults as well.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::configuration::seconds;
use crate::reader::Reader;

const KEYS: [&str; 6] = ["max_attempts", "backoff", "base", "factor", "cap", "jitter"];

/// What somebody may have meant who wrote 0.
const ONCE: &str = ": for exactly one attempt say 1, or `retryable: false` beside the step's name";

/// The shape of the delays between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// At once.
    None,
    /// `base` each time.
    Fixed,
    /// `base` × the number of attempts so far.
    Linear,
    /// `base` × `factor` to the power of the attempts so far less one.
    Exponential,
}

/// Attempts and delays of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Executions, the first one included; at least 1.
    pub max_attempts: u32,
    pub backoff: Backoff,
    #[serde(with = "seconds")]
    pub base: Duration,
    pub factor: f64,
    /// No delay is longer, jitter aside.
    #[serde(with = "seconds")]
    pub cap: Duration,
    /// Share by which a delay is spread in both directions.
    pub jitter: f64,
}

impl RetryPolicy {
    /// Reads a policy; what is missing, or wrong (which the reader notes), is as in `defaults`.
    pub fn read(reader: &Reader<'_>, defaults: &Self) -> Self {
        reader.reject_unknown_keys(&KEYS);
        let mut policy = serde_json::to_value(defaults).expect("a policy has a form in JSON");
        for key in KEYS {
            let remedy = if key == "max_attempts" { ONCE } else { "" };
            if let Some(value) = reader.setting(key, &format!("retry.{key}"), remedy) {
                policy[key] = value;
            }
        }
        serde_json::from_value(policy).expect("the schema allows what a policy can be")
    }
}
