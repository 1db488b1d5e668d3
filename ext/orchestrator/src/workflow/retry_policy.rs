//! Reads the retry policy of a step. The settings in the section `retry` define the type, range and default of each
//! field. Delays are computed only in `db/functions/finish/internal/retry_delay.sql`.

use crate::configuration::RetryPolicy;
use crate::workflow::reader::Reader;

const KEYS: [&str; 6] = ["max_attempts", "backoff", "base", "factor", "cap", "jitter"];

/// The probable intention of an author who wrote 0.
const ONCE: &str = ": for exactly one attempt, set 1, or `retryable: false` on the step";

impl RetryPolicy {
    /// Reads a policy. Missing and wrong fields are taken from `defaults`; the reader reports wrong ones.
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
