//! A compiled workflow: checked, ordered, and with a digest of its content.
//!
//! Invariant: a compiled workflow is immutable and can be stored and run. Neighbours: `definition` reads the source,
//! `graph` orders it, `functions` registers it; tasks created from Rust and from Ruby check their input with it.

mod definition;
pub mod graph;
mod input_schema;
mod job;
pub mod payload;
mod reader;
mod retry_policy;
mod step;

use jsonschema::Validator;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use self::payload::PayloadProblem;
use crate::configuration::{Configuration, Limits};
use crate::error::{Error, Problem, Problems};

pub use self::step::{Dispatch, Step};

/// Digits of the digest in the version of a workflow without a declared version.
const SHORT_DIGEST: usize = 12;

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
    /// Compiles a definition in the form that authors write.
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
        // Not part of the content: an operator may change it without a new version.
        compiled["dispatched_queues"] = json!(settings.dispatch.queues);
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
        let input: Value = serde_json::from_str(text).map_err(|error| {
            input_error(Problem::new("input", &Value::from(text), format!("is not valid JSON: {error}")))
        })?;
        let Some(validator) = &self.input else { return Ok(()) };
        let problems: Vec<Problem> =
            validator.iter_errors(&input).flat_map(|error| input_schema::problems(&error)).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Input { problems: Problems(problems) })
    }
}

fn input_error(problem: Problem) -> Error {
    Error::Input { problems: Problems(vec![problem]) }
}

/// The field of a payload's problem, or "input".
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
