//! A workflow, compiled: checked, ordered, and with a digest of its content.
//!
//! Invariant: what is compiled is immutable and can be stored and run. Neighbours: `definition` reads what people
//! wrote, `graph` orders it, `functions` registers it, both doors to creating a task check inputs against it.

mod definition;
pub mod graph;
mod input_schema;
pub mod payload;
mod reader;
mod retry_policy;

use std::time::Duration;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde::Serialize;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use self::payload::PayloadProblem;
use crate::configuration::{Backoff, Configuration, Limits, RetryPolicy};
use crate::error::{Error, Problem, Problems};

/// Digits of the digest that name a version which its author did not name.
const SHORT_DIGEST: usize = 12;

/// One node of the graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Place in an order in which every parent comes first, from 0.
    pub position: usize,
    pub name: String,
    pub handler: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub queue: String,
    /// Added to the task's; the smallest number runs first.
    pub priority: i32,
    pub level: u32,
    /// Positions of the parents.
    pub dependencies: Vec<usize>,
    /// Positions of the children.
    pub dependents: Vec<usize>,
    #[serde(flatten, serialize_with = "policy_in_milliseconds")]
    pub retry: RetryPolicy,
    #[serde(rename = "timeout_ms", serialize_with = "milliseconds")]
    pub timeout: Duration,
    /// The external system that it depends on, by its name in the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    pub config: Value,
}

/// A compiled workflow.
#[derive(Debug)]
pub struct Workflow {
    namespace: String,
    name: String,
    version: String,
    digest: String,
    steps: Vec<Step>,
    definition_json: String,
    input: Option<Validator>,
    limits: Limits,
}

impl Workflow {
    /// Compiles a definition as people write it.
    ///
    /// # Errors
    /// `Error::Definition` with every problem of the definition.
    pub fn compile(source: &Value, settings: &Configuration) -> Result<Self, Error> {
        let definition = definition::read(source, settings)?;
        let mut compiled = json!({
            "namespace": definition.namespace,
            "name": definition.name,
            "version": definition.version,
            "description": definition.description,
            "input_schema": definition.input_schema,
            "steps": definition.steps,
        });
        // Keys are sorted, so the same content has the same text.
        let digest = hex(&Sha256::digest(compiled.to_string()));
        let version = definition.version.unwrap_or_else(|| format!("0.0.0+{}", &digest[..SHORT_DIGEST]));
        compiled["version"] = json!(version);
        compiled["digest"] = json!(digest);
        Ok(Self {
            namespace: definition.namespace,
            name: definition.name,
            version,
            digest,
            steps: definition.steps,
            definition_json: compiled.to_string(),
            input: definition.input,
            limits: settings.limits.clone(),
        })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The declared version, or `0.0.0+` and the start of the digest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// SHA-256 of the compiled content, in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The steps by position.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The compiled definition as `register_workflow` reads it.
    pub fn definition_json(&self) -> &str {
        &self.definition_json
    }

    /// Checks an input (JSON text) against the limits and the workflow's schema.
    ///
    /// # Errors
    /// `Error::Input` with every problem, each naming the field.
    pub fn validate_input(&self, text: &str) -> Result<(), Error> {
        payload::check(text, &self.limits).map_err(|problem| {
            input_error(Problem::new(field_at(&problem, text), &Value::Null, problem.to_string()))
        })?;
        let input: Value = serde_json::from_str(text)
            .map_err(|error| input_error(Problem::new("input", &Value::from(text), format!("is no JSON: {error}"))))?;
        let Some(validator) = &self.input else { return Ok(()) };
        let problems: Vec<Problem> = validator.iter_errors(&input).flat_map(|error| problems(&error)).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Input { problems: Problems(problems) })
    }
}

fn input_error(problem: Problem) -> Error {
    Error::Input { problems: Problems(vec![problem]) }
}

/// The field that a payload's problem is about, where one is.
fn field_at(problem: &PayloadProblem, text: &str) -> String {
    let field = match problem {
        PayloadProblem::NullCharacter { .. } | PayloadProblem::LongNumber { .. } => {
            serde_json::from_str(text).ok().and_then(|input| payload::unstorable(&input)).map(|(field, _)| field)
        }
        PayloadProblem::TooLarge { .. }
        | PayloadProblem::TooDeep { .. }
        | PayloadProblem::LoneSurrogate { .. }
        | PayloadProblem::ReservedName { .. }
        | PayloadProblem::NotAnObject => None,
    };
    field.unwrap_or_else(|| "input".to_owned())
}

/// The schema library's error as fields, values and remedies.
fn problems(error: &ValidationError<'_>) -> Vec<Problem> {
    let field = field_of("", error.instance_path().as_str());
    let below = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![Problem::new(below(name), &Value::Null, "is missing: the workflow requires it")]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| Problem::new(below(name), &error.instance()[name], "is no field of this input: remove it"))
            .collect(),
        _ => {
            let text = error.to_string();
            let value = error.instance().to_string();
            let message = text.strip_prefix(&value).unwrap_or(&text).trim_start();
            let field = if field.is_empty() { "input".to_owned() } else { field };
            vec![Problem::new(field, error.instance(), message)]
        }
    }
}

/// A JSON pointer as people write paths: `/lines/0/sku` as `lines[0].sku`.
fn field_of(root: &str, pointer: &str) -> String {
    pointer.split('/').skip(1).fold(root.to_owned(), |path, part| {
        let part = part.replace("~1", "/").replace("~0", "~");
        match part.parse::<usize>() {
            Ok(index) => format!("{path}[{index}]"),
            Err(_) if path.is_empty() => part,
            Err(_) => format!("{path}.{part}"),
        }
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(millis(*duration))
}

fn policy_in_milliseconds<S: serde::Serializer>(policy: &RetryPolicy, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct InMilliseconds {
        max_attempts: u32,
        backoff: Backoff,
        base_ms: u64,
        factor: f64,
        cap_ms: u64,
        jitter: f64,
    }
    InMilliseconds {
        max_attempts: policy.max_attempts,
        backoff: policy.backoff,
        base_ms: millis(policy.base),
        factor: policy.factor,
        cap_ms: millis(policy.cap),
        jitter: policy.jitter,
    }
    .serialize(serializer)
}

#[cfg(test)]
mod tests;
