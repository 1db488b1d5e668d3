//! The outcome of an attempt, from its handler to the database.
//!
//! Results and errors stay JSON text from end to end, as in `claim`. Neighbours: `dispatcher` collects outcomes,
//! `functions` sends them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::Value;

use crate::claim::ClaimKey;
use crate::error::shortened;
use crate::events::{AttemptEvent, StepFacts};

/// Length of an outcome as JSON text, without its result or error.
const FRAME: usize = 200;
/// The class of the error of a step whose outcome the database cannot store.
pub const UNSTORABLE: &str = "TaskerCore::UnstorableResult";

/// The outcome of an attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    Completed {
        token: i64,
        result: Box<RawValue>,
    },
    Failed {
        token: i64,
        error: AttemptError,
        /// `false` ends the step at once, whatever attempts are left.
        retryable: bool,
        /// Seconds until the next attempt, requested by the handler; overrides the computed delay.
        retry_after: Option<f64>,
    },
    /// Released without using an attempt.
    Released {
        token: i64,
        reason: ReleaseReason,
    },
}

/// Why a claim is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// This process cannot resolve the handler; another one may.
    UnknownHandler,
    /// This process reloads its code and cannot load the current version.
    NotLoaded,
    /// The limit of concurrent steps of its task or system is reached in this process.
    Limited,
    /// It was claimed ahead and has not started.
    Unstarted,
    /// The process ends before the step has started.
    Shutdown,
    /// The application's queue ends its process while the handler runs.
    Interrupted,
}

impl ReleaseReason {
    /// The word stored with the waiting step.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownHandler => "unknown_handler",
            Self::NotLoaded => "not_loaded",
            Self::Limited => "limited",
            Self::Unstarted => "unstarted",
            Self::Shutdown => "shutdown",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the handler has started, so that the attempt is recorded.
    pub fn has_begun(self) -> bool {
        self == Self::Interrupted
    }
}

/// The error of a failed attempt, stored with the attempt and as the step's last error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptError {
    /// The name of its class: of the exception in Ruby, or of the kind of error in Rust.
    pub class: String,
    pub message: String,
    /// A word for programs: `card_declined`.
    #[serde(default)]
    pub code: Option<String>,
    /// Innermost call first.
    #[serde(default)]
    pub backtrace: Vec<String>,
}

impl AttemptError {
    const MAX_NAME_LENGTH: usize = 200;
    const MAX_MESSAGE_LENGTH: usize = 10_000;
    const MAX_LINE_LENGTH: usize = 1_000;
    const MAX_LINES: usize = 50;

    /// An error without a code and a backtrace.
    pub fn new(class: &str, message: String) -> Self {
        Self { class: class.to_owned(), message, code: None, backtrace: Vec::new() }
    }

    fn bytes(&self) -> usize {
        let lines = self.backtrace.iter().map(|line| line.len() + 3).sum::<usize>();
        self.class.len() + self.message.len() + self.code.as_ref().map_or(0, String::len) + lines
    }

    /// The same error in a form that PostgreSQL can store and people can read: of a bounded length, without null
    /// characters.
    pub fn storable(self) -> Self {
        Self {
            class: bounded(&self.class, Self::MAX_NAME_LENGTH),
            message: bounded(&self.message, Self::MAX_MESSAGE_LENGTH),
            code: self.code.map(|code| bounded(&code, Self::MAX_NAME_LENGTH)),
            backtrace: self
                .backtrace
                .iter()
                .take(Self::MAX_LINES)
                .map(|line| bounded(line, Self::MAX_LINE_LENGTH))
                .collect(),
        }
    }
}

fn bounded(text: &str, length: usize) -> String {
    shortened(text, length).replace('\0', "")
}

/// The flat form in which outcomes cross the seam (`spec/fixtures/seam/outcome_*.json`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeText {
    token: i64,
    outcome: OutcomeKind,
    result: Option<Box<RawValue>>,
    error: Option<AttemptError>,
    retryable: Option<bool>,
    retry_after: Option<f64>,
    reason: Option<ReleaseReason>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeKind {
    Completed,
    Failed,
    Released,
}

impl Outcome {
    /// Parses an outcome.
    ///
    /// # Errors
    /// If the text is not JSON, has an unknown field, or lacks one that its kind of outcome needs.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let given: OutcomeText = serde_json::from_str(text)?;
        let token = given.token;
        match given.outcome {
            OutcomeKind::Completed => given.result.map(|result| Self::Completed { token, result }),
            OutcomeKind::Failed => given.error.map(|error| Self::Failed {
                token,
                error,
                retryable: given.retryable.unwrap_or(true),
                retry_after: given.retry_after,
            }),
            OutcomeKind::Released => given.reason.map(|reason| Self::Released { token, reason }),
        }
        .ok_or_else(|| {
            serde::de::Error::custom(
                "a completed outcome needs `result`, a failed one `error`, a released one `reason`",
            )
        })
    }

    /// Approximate length as JSON text.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Completed { result, .. } => FRAME + result.get().len(),
            Self::Failed { error, .. } => FRAME + error.bytes(),
            Self::Released { .. } => FRAME,
        }
    }

    /// The token of the claim that this outcome ends.
    pub fn token(&self) -> i64 {
        match self {
            Self::Completed { token, .. } | Self::Failed { token, .. } | Self::Released { token, .. } => *token,
        }
    }

    /// A failure that no retry can repair.
    pub fn permanent_failure(token: i64, class: &str, message: String) -> Self {
        Self::Failed { token, error: AttemptError::new(class, message), retryable: false, retry_after: None }
    }
}

/// One ended attempt in the form that `finish_steps` reads.
#[derive(Debug, Clone, Serialize)]
pub struct EndedAttempt {
    #[serde(flatten)]
    pub key: ClaimKey,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<AttemptError>,
    retryable: bool,
    retry_after: Option<f64>,
    waited_us: u64,
    ran_us: u64,
    /// This replaces a handler's outcome that the database could not store.
    #[serde(skip)]
    replaced: bool,
}

impl EndedAttempt {
    /// Approximate length as JSON text.
    pub fn bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, AttemptError::bytes);
        FRAME + self.result.as_ref().map_or(0, |result| result.get().len()) + error
    }

    /// Whether it replaces an outcome that the database could not store.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// The name of the event for its outcome; `delay` is the time until the next attempt, if one follows.
    pub fn event_name(&self, delay: Option<Duration>) -> &'static str {
        AttemptEvent::name_of(self.error.is_some(), delay)
    }

    /// The event for its outcome.
    pub fn event(&self, facts: StepFacts, delay: Option<Duration>) -> AttemptEvent {
        let error = self.error.as_ref().map(|error| serde_json::to_value(error).unwrap_or(Value::Null));
        AttemptEvent { facts, ran: Some(self.ran()), error, delay }
    }

    pub fn ran(&self) -> Duration {
        Duration::from_micros(self.ran_us)
    }

    /// The attempt of a claim that `outcome` ends: it `waited` between claim and start, and `ran` until the end. `None`
    /// for a release, which ends no attempt.
    pub fn new(key: ClaimKey, outcome: Outcome, waited: Duration, ran: Duration) -> Option<Self> {
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let ran_us = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX);
        match outcome {
            Outcome::Completed { result, .. } => Some(Self {
                key,
                outcome: "completed",
                result: Some(result),
                error: None,
                retryable: false,
                retry_after: None,
                waited_us,
                ran_us,
                replaced: false,
            }),
            Outcome::Failed { error, retryable, retry_after, .. } => Some(Self {
                key,
                outcome: "failed",
                result: None,
                error: Some(error),
                retryable,
                retry_after,
                waited_us,
                ran_us,
                replaced: false,
            }),
            Outcome::Released { .. } => None,
        }
    }

    /// The same attempt, failed because the database cannot store its outcome.
    pub fn replaced_by_error(self, reason: &str) -> Self {
        let error = AttemptError::new(UNSTORABLE, format!("the outcome cannot be stored: {reason}"));
        Self {
            outcome: "failed",
            result: None,
            error: Some(error),
            retryable: false,
            retry_after: None,
            replaced: true,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::tests::fixture;
    use serde_json::json;

    #[test]
    fn outcomes_match_the_fixtures_and_carry_their_times() {
        let sent = |name: &str| -> Option<Value> {
            let outcome = Outcome::from_json(&fixture(name)).unwrap();
            assert_eq!(outcome.token(), 7);
            let key = ClaimKey { token: 7, task_id: 12, position: 1, attempt: 2 };
            EndedAttempt::new(key, outcome, Duration::from_millis(2), Duration::from_millis(3))
                .map(|attempt| serde_json::to_value(&attempt).unwrap())
        };
        let completed = sent("outcome_completed").unwrap();
        assert_eq!(completed["outcome"], json!("completed"));
        for (field, value) in [("token", 7), ("task_id", 12), ("position", 1), ("attempt", 2)] {
            assert_eq!(completed[field], json!(value), "{field}");
        }
        assert_eq!(completed["result"]["big"].to_string(), "123456789012345678901234567890");
        assert_eq!((&completed["waited_us"], &completed["ran_us"]), (&json!(2000), &json!(3000)));
        let failed = sent("outcome_failed").unwrap();
        assert_eq!((&failed["retryable"], &failed["retry_after"]), (&json!(true), &json!(30.0)));
        assert_eq!(failed["error"]["class"], json!("TaskerCore::RetryableError"));
        assert!(sent("outcome_released").is_none(), "a release ends no attempt");
    }

    #[test]
    fn an_outcome_with_missing_or_unknown_fields_is_rejected() {
        for text in [
            r#"{"token":7,"outcome":"completed"}"#,
            r#"{"token":7,"outcome":"failed","retryable":true}"#,
            r#"{"token":7,"outcome":"released"}"#,
            r#"{"token":7,"outcome":"finished","result":{}}"#,
            r#"{"token":7,"outcome":"completed","result":{},"more":1}"#,
            "7",
        ] {
            assert!(Outcome::from_json(text).is_err(), "{text}");
        }
    }
}
