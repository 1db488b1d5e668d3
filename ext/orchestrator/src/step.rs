//! What crosses between the database, this crate and whoever runs handlers: claims and outcomes.
//!
//! Payloads (input, results, errors) stay JSON text from end to end; nothing here parses a number in them, so
//! integers of any size survive. Neighbours: `kernel` reads and writes these, `leases` keeps the claims.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::Value;
use uuid::Uuid;

use crate::correlation::{CorrelationId, LogContext};
use crate::error::shortened;
use crate::events::{AttemptTold, StepFacts};

/// What names a claim. All of it has to agree with the database before anything is done in the claim's name: a token alone may
/// come again for another step when the database has gone back to an earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct ClaimKey {
    pub token: i64,
    pub task_id: i64,
    pub position: i32,
    pub attempt: u32,
}

/// A claim that a process holds, for its heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeldClaim {
    #[serde(flatten)]
    pub key: ClaimKey,
    /// Since it arrived, by this process's clock, which is never set.
    pub age_ms: f64,
}

/// The right to run and finish one attempt, with the JSON text of all that its handler needs.
#[derive(Debug, Clone)]
pub struct Claim {
    pub token: i64,
    pub task_id: i64,
    pub position: i32,
    /// Which execution of the step this is, from 1.
    pub attempt: u32,
    pub correlation_id: CorrelationId,
    /// The external system that its handler depends on.
    pub system: Option<String>,
    pub(crate) text: Arc<str>,
}

/// The part of a claim that this crate itself looks at.
#[derive(Deserialize)]
struct ClaimHead {
    token: i64,
    task_id: i64,
    position: i32,
    attempt: u32,
    correlation_id: CorrelationId,
    system: Option<String>,
}

impl Claim {
    /// Reads the head of a whole claim.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let head: ClaimHead = serde_json::from_str(text)?;
        let ClaimHead { token, task_id, position, attempt, correlation_id, system } = head;
        Ok(Self { token, task_id, position, attempt, correlation_id, system, text: text.into() })
    }

    pub fn key(&self) -> ClaimKey {
        ClaimKey { token: self.token, task_id: self.task_id, position: self.position, attempt: self.attempt }
    }

    /// The claim as JSON text, in the form of `spec/fixtures/seam/claim.json`.
    pub fn json(&self) -> &str {
        &self.text
    }

    /// What events say of it.
    pub fn facts(&self) -> Result<StepFacts, serde_json::Error> {
        serde_json::from_str(&self.text)
    }

    /// The whole claim, for handlers written in Rust.
    pub fn details(&self) -> Result<ClaimedStep, serde_json::Error> {
        serde_json::from_str(&self.text)
    }
}

/// A claim with every field read; `input`, `config` and `results` as their JSON text.
#[derive(Debug, Clone, Deserialize)]
pub struct ClaimedStep {
    pub token: i64,
    pub task_id: i64,
    pub task_uuid: Uuid,
    pub position: i32,
    pub step: String,
    pub workflow: String,
    pub namespace: String,
    pub version: String,
    pub handler: String,
    /// Which execution of the step this is, from 1.
    pub attempt: u32,
    pub max_attempts: u32,
    /// Time limit of the attempt in milliseconds.
    pub timeout_ms: u64,
    pub queue: String,
    pub system: Option<String>,
    pub correlation_id: Uuid,
    pub parent_correlation_id: Option<Uuid>,
    pub tags: Vec<String>,
    /// `None`: too long to come with the claim.
    pub input: Option<Box<RawValue>>,
    pub config: Box<RawValue>,
    pub dependencies: Vec<String>,
    /// Results of the direct dependencies by step name, but for those that are deferred.
    pub results: Box<RawValue>,
    #[serde(default)]
    pub deferred: Deferred,
}

/// The payloads that did not come with a claim, as they are too long: they are asked for when a handler needs them.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Deferred {
    pub input: bool,
    /// Names of direct dependencies.
    pub results: Vec<String>,
}

impl ClaimedStep {
    /// What lines are about that are logged while the step runs.
    pub fn log_context(&self) -> LogContext {
        LogContext {
            correlation_id: Some(self.correlation_id.into()),
            task_id: Some(self.task_id),
            workflow: Some(self.workflow.clone()),
            step: Some(self.step.clone()),
            attempt: Some(self.attempt),
        }
    }
}

/// Length of an outcome as JSON text, its result or error aside.
const FRAME: usize = 200;

/// What an attempt came to.
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
        /// Seconds until the next attempt, as the handler asked; wins over the computed delay.
        retry_after: Option<f64>,
    },
    /// Given back: no attempt is spent.
    Released {
        token: i64,
        reason: ReleaseReason,
    },
}

/// Why a claim is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// This process cannot resolve the handler; another one may.
    UnknownHandler,
    /// This process reloads its code, and cannot load it as it is.
    NotLoaded,
    /// As many steps of its task or for its system run here as may.
    Limited,
    /// The process ends before the handler does.
    Shutdown,
}

impl ReleaseReason {
    /// The word stored with the waiting step.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownHandler => "unknown_handler",
            Self::NotLoaded => "not_loaded",
            Self::Limited => "limited",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The error of a failed attempt, stored with the attempt and as the step's last error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptError {
    pub class: String,
    pub message: String,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub backtrace: Vec<String>,
}

impl AttemptError {
    const LONGEST_WORD: usize = 200;
    const LONGEST_MESSAGE: usize = 10_000;
    const LONGEST_LINE: usize = 1_000;
    const MOST_LINES: usize = 50;

    fn bytes(&self) -> usize {
        let lines = self.backtrace.iter().map(|line| line.len() + 3).sum::<usize>();
        self.class.len() + self.message.len() + self.code.as_ref().map_or(0, String::len) + lines
    }

    /// The same error as PostgreSQL can store it and people can read it: of a bounded length, without null characters.
    pub fn storable(self) -> Self {
        Self {
            class: kept(&self.class, Self::LONGEST_WORD),
            message: kept(&self.message, Self::LONGEST_MESSAGE),
            code: self.code.map(|code| kept(&code, Self::LONGEST_WORD)),
            backtrace: self
                .backtrace
                .iter()
                .take(Self::MOST_LINES)
                .map(|line| kept(line, Self::LONGEST_LINE))
                .collect(),
        }
    }
}

fn kept(text: &str, longest: usize) -> String {
    shortened(text, longest).replace('\0', "")
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
    /// Reads an outcome from the text that a handler's side made.
    ///
    /// # Errors
    /// When the text is no JSON, has an unknown field, or lacks one that its kind of outcome needs.
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

    /// About how long it is as JSON text.
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

    /// A failure that no retry can mend.
    pub fn permanent_failure(token: i64, class: &str, message: String) -> Self {
        let error = AttemptError { class: class.to_owned(), message, code: None, backtrace: Vec::new() };
        Self::Failed { token, error, retryable: false, retry_after: None }
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
    /// The database refused or could not take what its handler left; this stands in its place.
    #[serde(skip)]
    replaced: bool,
}

impl EndedAttempt {
    /// About how long it is as JSON text.
    pub fn bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, AttemptError::bytes);
        FRAME + self.result.as_ref().map_or(0, |result| result.get().len()) + error
    }

    /// Whether it stands in the place of an outcome that the database did not take.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// The name of the event of what it came to; `delay` is the time until the next one, if one follows.
    pub fn told_as(&self, delay: Option<Duration>) -> &'static str {
        AttemptTold::name_of(self.error.is_some(), delay)
    }

    /// What it came to, for those who are told of it.
    pub fn told(&self, facts: StepFacts, delay: Option<Duration>) -> AttemptTold {
        let error = self.error.as_ref().map(|error| serde_json::to_value(error).unwrap_or(Value::Null));
        AttemptTold { facts, ran: Some(Duration::from_micros(self.ran_us)), error, delay }
    }

    /// The attempt of a claim that `outcome` ends, with how long it `waited` between claim and start and how long it `ran`;
    /// `None` for a release, which ends no attempt.
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

    /// The same attempt, failed because the database does not take what its handler left.
    pub fn unstorable(self, reason: &str) -> Self {
        let message = format!("the outcome cannot be stored: {reason}");
        let class = "TaskerCore::UnstorableResult".to_owned();
        Self {
            outcome: "failed",
            result: None,
            error: Some(AttemptError { class, message, code: None, backtrace: Vec::new() }),
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
    use serde_json::{json, Value};

    /// The golden fixtures, which Ruby's tests read too.
    fn fixture(name: &str) -> String {
        let path = format!("{}/../../spec/fixtures/seam/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_claim_is_read_as_the_fixture_shows_it() {
        let claim = Claim::from_json(&fixture("claim")).unwrap();
        assert_eq!((claim.token, claim.task_id, claim.position), (7, 12, 1));
        let step = claim.details().unwrap();
        let correlation_id = "01a2079a-97aa-7ca3-8336-d6df7d466282".parse().unwrap();
        assert_eq!(claim.correlation_id, correlation_id);
        let context = step.log_context();
        assert_eq!(
            (context.correlation_id, context.task_id, context.attempt),
            (Some(correlation_id), Some(12), Some(1))
        );
        assert_eq!(
            (context.workflow.as_deref(), context.step.as_deref()),
            (Some("order_fulfillment"), Some("reserve_stock"))
        );
        assert_eq!((step.step.as_str(), step.handler.as_str(), step.attempt), ("reserve_stock", "ReserveStock", 1));
        assert!(
            step.input.as_ref().unwrap().get().contains("123456789012345678901234567890"),
            "integers of any size survive"
        );
        assert_eq!(step.dependencies, ["validate_order"]);
    }

    #[test]
    fn outcomes_are_read_as_the_fixtures_show_them_and_sent_on_with_their_times() {
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
    fn an_outcome_that_lacks_something_or_has_something_unknown_is_refused() {
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
