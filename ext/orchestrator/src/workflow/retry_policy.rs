//! How a step is tried again. The delay itself is computed in one place only: `db/functions/finish/internal/retry_delay.sql`. What each
//! field may be is said by the settings of the section `retry`, which are its defaults as well.

use crate::configuration::RetryPolicy;
use crate::workflow::reader::Reader;

const KEYS: [&str; 6] = ["max_attempts", "backoff", "base", "factor", "cap", "jitter"];

/// What somebody may have meant who wrote 0.
const ONCE: &str = ": for exactly one attempt say 1, or `retryable: false` beside the step's name";

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
