//! Handlers written in Rust, and the tasks that run them, so that whole workflows run without Ruby.
//!
//! Invariant: every attempt ends with an outcome, even if its handler fails, panics or takes too long. Neighbours:
//! `orchestrator` provides the claims; the extension runs handlers on Ruby threads instead.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::value::RawValue;
use serde_json::Value;
use tokio::time::error::Elapsed;

use crate::claim::{Claim, ClaimedStep};
use crate::correlation::LogContext;
use crate::error::{shortened, Error};
use crate::orchestrator::Orchestrator;
use crate::outcome::{AttemptError, Outcome, ReleaseReason};

/// The code of a step.
#[async_trait]
pub trait StepHandler: Send + Sync {
    /// Runs one attempt; the returned object is the step's result.
    async fn call(&self, context: &StepContext) -> Result<Value, HandlerError>;
}

/// How a handler fails.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HandlerError {
    /// May succeed later; `retry_after` overrides the policy's delay.
    #[error("{message}")]
    Retryable { message: String, retry_after: Option<Duration> },
    /// Will never succeed: the step ends at once. `code` is a word for programs, such as `card_declined`.
    #[error("{message}")]
    Permanent { message: String, code: Option<String> },
}

impl HandlerError {
    /// An error after which the step is retried with the policy's delay.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::Retryable { message: message.into(), retry_after: None }
    }

    /// An error without a code that ends the step.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::Permanent { message: message.into(), code: None }
    }
}

/// The step and the payloads available to its handler.
pub struct StepContext {
    step: ClaimedStep,
    orchestrator: Orchestrator,
}

impl StepContext {
    /// The claim of the step.
    pub fn step(&self) -> &ClaimedStep {
        &self.step
    }

    /// The task's input.
    pub fn input(&self) -> Result<Value, HandlerError> {
        let input = self.step.input.as_ref();
        parse(input.ok_or_else(|| HandlerError::permanent("the task's input did not come with the claim"))?)
    }

    /// The result of a direct dependency, if it was sent with the claim; use `ancestor_result` for one that is too long
    /// for the claim (see `execution.claim_bytes`).
    pub fn result(&self, name: &str) -> Result<Value, HandlerError> {
        if self.step.deferred.results.iter().any(|deferred| deferred == name) {
            let message = format!("the result of `{name}` is too long to come with the claim: ask `ancestor_result`");
            return Err(HandlerError::permanent(message));
        }
        let results = parse(&self.step.results)?;
        results
            .get(name)
            .cloned()
            .ok_or_else(|| HandlerError::permanent(format!("step `{}` does not depend on `{name}`", self.step.step)))
    }

    /// The result of any ancestor, read from the database.
    pub async fn ancestor_result(&self, name: &str) -> Result<Value, HandlerError> {
        let read = |error: Error| unreadable(&self.step.step, &format!("the result of `{name}`"), &error);
        let text =
            self.orchestrator.ancestor_results(self.step.token, Some(&[name.to_owned()]), None).await.map_err(read)?;
        let response: Value =
            serde_json::from_str(&text).map_err(|error| HandlerError::retryable(error.to_string()))?;
        response["results"]
            .get(name)
            .cloned()
            .ok_or_else(|| HandlerError::permanent(format!("`{name}` is not before step `{}`", self.step.step)))
    }

    /// Whether the step was taken away meanwhile, for example by a cancellation: it cannot be finished any more.
    pub fn revoked(&self) -> bool {
        self.orchestrator.revoked(self.step.token)
    }
}

/// The error of a payload that could not be read. It is permanent if the database would reject the query again.
fn unreadable(step: &str, what: &str, error: &Error) -> HandlerError {
    let message = format!("step `{step}`: {what} cannot be read: {error}");
    if error.is_permanent() {
        HandlerError::permanent(message)
    } else {
        HandlerError::retryable(message)
    }
}

fn parse(text: &RawValue) -> Result<Value, HandlerError> {
    serde_json::from_str(text.get()).map_err(|error| HandlerError::permanent(error.to_string()))
}

/// Handlers by the names that workflows use.
#[derive(Clone, Default)]
pub struct HandlerRegistry {
    handlers: HashMap<String, Arc<dyn StepHandler>>,
}

impl HandlerRegistry {
    /// Adds a handler, or replaces the one with the same name.
    pub fn register(&mut self, name: impl Into<String>, handler: impl StepHandler + 'static) -> &mut Self {
        self.handlers.insert(name.into(), Arc::new(handler));
        self
    }
}

/// Runs handlers in `slots` tasks until the orchestrator returns no more claims.
pub fn run(orchestrator: &Orchestrator, handlers: HandlerRegistry, slots: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let handlers = Arc::new(handlers);
    (0..slots)
        .map(|_| {
            let orchestrator = orchestrator.clone();
            let handlers = handlers.clone();
            tokio::spawn(async move {
                while let Some(claim) = orchestrator.next_step().await {
                    work(&orchestrator, &handlers, &claim).await;
                }
            })
        })
        .collect()
}

/// Runs one attempt and submits its outcome. Lines logged meanwhile, also by the handler, have the step's context.
async fn work(orchestrator: &Orchestrator, handlers: &HandlerRegistry, claim: &Claim) {
    let token = claim.token;
    let (context, step) = match claim.details() {
        Ok(step) => (step.log_context(), Ok(step)),
        Err(error) => (LogContext::of(claim.correlation_id), Err(error)),
    };
    let working = async {
        let began = Instant::now();
        let outcome = match step {
            Ok(step) => match with_input(orchestrator, step).await {
                Ok(step) => run_attempt(orchestrator, handlers, token, step).await,
                Err(error) => outcome_of(token, error),
            },
            Err(error) => failed(token, "InvalidClaim", error.to_string(), false, None),
        };
        log_outcome(&outcome, began);
        if let Err(error) = orchestrator.finish(outcome).await {
            tracing::warn!(error.class = error.class(), error.message = %error, token, "an outcome was rejected");
        }
    };
    context.around(working).await;
}

/// Maximum length of an error's message in a log line; the attempt stores all of it.
const MAX_MESSAGE_LENGTH: usize = 2_000;

fn log_outcome(outcome: &Outcome, began: Instant) {
    let duration_ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    match outcome {
        Outcome::Completed { .. } => tracing::info!(duration_ms, "step completed"),
        Outcome::Failed { error, .. } => {
            tracing::warn!(
                duration_ms,
                error.class = error.class,
                error.message = shortened(&error.message, MAX_MESSAGE_LENGTH),
                "step failed"
            )
        }
        Outcome::Released { .. } => {} // logged when it was released
    }
}

/// The step with its input, which is read now if it was not sent with the claim.
async fn with_input(orchestrator: &Orchestrator, mut step: ClaimedStep) -> Result<ClaimedStep, HandlerError> {
    if step.input.is_none() {
        let read = |error: Error| unreadable(&step.step, "the task's input", &error);
        let text = orchestrator.task_input(step.token).await.map_err(read)?;
        let input = RawValue::from_string(text).map_err(|error| HandlerError::permanent(error.to_string()))?;
        step.input = Some(input);
    }
    Ok(step)
}

fn outcome_of(token: i64, error: HandlerError) -> Outcome {
    match error {
        HandlerError::Retryable { message, retry_after } => failed(token, "Retryable", message, true, retry_after),
        HandlerError::Permanent { message, code } => {
            let error = AttemptError { code, ..AttemptError::new("Permanent", message) };
            Outcome::Failed { token, error, retryable: false, retry_after: None }
        }
    }
}

async fn run_attempt(
    orchestrator: &Orchestrator,
    handlers: &HandlerRegistry,
    token: i64,
    step: ClaimedStep,
) -> Outcome {
    let Some(handler) = handlers.handlers.get(&step.handler) else {
        tracing::warn!(handler = step.handler, "unknown handler: the step is released");
        return Outcome::Released { token, reason: ReleaseReason::UnknownHandler };
    };
    let limit = Duration::from_millis(step.timeout_ms);
    let context = StepContext { step, orchestrator: orchestrator.clone() };
    match call(handler.as_ref(), &context, limit).await {
        Err(_) => failed(token, "Timeout", format!("the time limit of {limit:?} has passed"), true, None),
        Ok(Err(panic)) => failed(token, "Panic", panic, true, None),
        Ok(Ok(Err(error))) => outcome_of(token, error),
        Ok(Ok(Ok(result))) => match serde_json::value::to_raw_value(&result) {
            Ok(result) => Outcome::Completed { token, result },
            Err(error) => failed(token, "InvalidResult", error.to_string(), false, None),
        },
    }
}

/// Runs the handler up to its time limit; a panic becomes its message.
async fn call(
    handler: &dyn StepHandler,
    context: &StepContext,
    limit: Duration,
) -> Result<Result<Result<Value, HandlerError>, String>, Elapsed> {
    let mut call = match std::panic::catch_unwind(AssertUnwindSafe(|| handler.call(context))) {
        Ok(call) => call,
        Err(panic) => return Ok(Err(panic_message(panic.as_ref()))),
    };
    let run =
        std::future::poll_fn(|poll| match std::panic::catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(poll))) {
            Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
            Ok(std::task::Poll::Ready(response)) => std::task::Poll::Ready(Ok(response)),
            Err(panic) => std::task::Poll::Ready(Err(panic_message(panic.as_ref()))),
        });
    let output = tokio::time::timeout(limit, run).await;
    // A destructor of the handler's may panic too, and would end the task that runs the handlers.
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(call))) {
        tracing::error!(error.message = panic_message(panic.as_ref()), "a handler panicked after its end");
    }
    output
}

/// The message of a panic.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked without a message".to_owned())
}

fn failed(token: i64, class: &str, message: String, retryable: bool, retry_after: Option<Duration>) -> Outcome {
    let retry_after = retry_after.map(|delay| delay.as_secs_f64());
    Outcome::Failed { token, error: AttemptError::new(class, message), retryable, retry_after }
}
