//! How a step is tried again. The delay itself is computed in one place only: `db/functions/retry_delay.sql`.

use std::time::Duration;

use serde::Serialize;

use crate::reader::{nearest, Reader};

const DAY: u64 = 24 * 3600;
const KEYS: [&str; 6] = ["max_attempts", "backoff", "base", "factor", "cap", "jitter"];

/// What somebody may have meant who wrote 0.
const ONCE: &str = ": for exactly one attempt say 1, or `retryable: false` beside the step's name";

/// The shape of the delays between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

impl Backoff {
    const NAMES: [&'static str; 4] = ["none", "fixed", "linear", "exponential"];

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "fixed" => Some(Self::Fixed),
            "linear" => Some(Self::Linear),
            "exponential" => Some(Self::Exponential),
            _ => None,
        }
    }
}

/// Attempts and delays of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RetryPolicy {
    /// Executions, the first one included; at least 1.
    pub max_attempts: u32,
    pub backoff: Backoff,
    #[serde(serialize_with = "seconds")]
    pub base: Duration,
    pub factor: f64,
    /// No delay is longer, jitter aside.
    #[serde(serialize_with = "seconds")]
    pub cap: Duration,
    /// Share by which a delay is spread in both directions.
    pub jitter: f64,
}

impl RetryPolicy {
    /// Reads a policy; what is missing is taken from `defaults`. Without defaults every field must be there.
    /// `None` when something is wrong, which the reader has then noted.
    pub fn read(reader: &Reader<'_>, defaults: Option<&Self>) -> Option<Self> {
        reader.only(&KEYS);
        let max_attempts = reader.integer_or("max_attempts", 1..=1000, ONCE);
        let backoff = reader.text("backoff").and_then(|name| {
            let backoff = Backoff::from_name(name);
            if backoff.is_none() {
                let remedy = match nearest(name, &Backoff::NAMES) {
                    Some(nearest) => format!("is an unknown backoff: did you mean `{nearest}`?"),
                    None => format!("is an unknown backoff: known are {}", Backoff::NAMES.join(", ")),
                };
                reader.wrong("backoff", &name.into(), remedy);
            }
            backoff
        });
        let base = reader.duration("base", Duration::ZERO..=Duration::from_secs(7 * DAY));
        let factor = reader.number("factor", 1.0..=100.0);
        let cap = reader.duration("cap", Duration::ZERO..=Duration::from_secs(20 * DAY));
        let jitter = reader.number("jitter", 0.0..=1.0);
        Some(Self {
            max_attempts: max_attempts.or(defaults.map(|policy| policy.max_attempts))?,
            backoff: backoff.or(defaults.map(|policy| policy.backoff))?,
            base: base.or(defaults.map(|policy| policy.base))?,
            factor: factor.or(defaults.map(|policy| policy.factor))?,
            cap: cap.or(defaults.map(|policy| policy.cap))?,
            jitter: jitter.or(defaults.map(|policy| policy.jitter))?,
        })
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
