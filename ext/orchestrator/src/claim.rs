//! The right to run one attempt of a step, with everything that its handler needs.
//!
//! Payloads stay JSON text from end to end; nothing here parses a number in them, so integers of any size survive.
//! Neighbours: `functions` reads claims, `leases` holds them, an `outcome` ends them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::correlation::{CorrelationId, LogContext};
use crate::events::StepFacts;

/// Identifies a claim. All fields must agree with the database before a statement acts on the claim: a token alone may
/// repeat for another step after the database has returned to an earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Time since it arrived, by this process's monotonic clock.
    pub age_ms: f64,
}

/// The right to run and finish one attempt, with the JSON text of everything that its handler needs.
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

/// The part of a claim that this crate itself uses.
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

    /// Its event fields.
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
    /// `None` if it is too long to be sent with the claim.
    pub input: Option<Box<RawValue>>,
    pub config: Box<RawValue>,
    pub dependencies: Vec<String>,
    /// Results of the direct dependencies by step name, without the deferred ones.
    pub results: Box<RawValue>,
    #[serde(default)]
    pub deferred: Deferred,
}

/// The payloads that are too long to be sent with a claim: they are read when a handler needs them.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Deferred {
    pub input: bool,
    /// Names of direct dependencies.
    pub results: Vec<String>,
}

impl ClaimedStep {
    /// The context of lines that are logged while the step runs.
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The golden fixtures, which Ruby's tests read too.
    pub(crate) fn fixture(name: &str) -> String {
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
}
