//! Caches workflow definitions, and completes claims with them.
//!
//! Invariant: a definition is used only for claims whose version has its digest. An id alone is not trusted: after a
//! truncation or a restore it may belong to another workflow. Neighbours: `functions` reads claims and definitions;
//! `claim` is the result.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::claim::{Claim, ClaimKey};
use crate::correlation::CorrelationId;
use crate::error::Error;
use crate::outcome::AttemptError;

/// Maximum total length of cached definitions; the least recently used ones are dropped first.
const MAX_BYTES: usize = 32 << 20;

/// What `insert_claims` and `insert_readable_claims` return.
#[derive(Debug, Default, Deserialize)]
pub struct ClaimBatchText {
    /// The digests of the claims' versions.
    #[serde(default)]
    pub versions: BTreeMap<i64, String>,
    pub claims: Vec<ClaimText>,
    #[serde(default)]
    pub set_aside: Vec<SetAside>,
}

/// A step that waits because the database cannot read the data of a claim on it.
#[derive(Debug, Deserialize)]
pub struct SetAside {
    pub task_id: i64,
    pub position: i32,
    pub error: AttemptError,
}

/// The part of a claim that the definition does not have.
#[derive(Debug, Deserialize)]
pub struct ClaimText {
    pub token: i64,
    pub task_id: i64,
    pub position: i32,
    pub version_id: i64,
    pub attempt: u32,
    task_uuid: Uuid,
    correlation_id: CorrelationId,
    parent_correlation_id: Option<Uuid>,
    tags: Box<RawValue>,
    /// The W3C trace context of the code that created the task.
    #[serde(default)]
    trace_context: Option<Box<RawValue>>,
    input: Option<Box<RawValue>>,
    results: Option<BTreeMap<i32, Box<RawValue>>>,
    deferred: Option<DeferredText>,
}

impl ClaimText {
    pub fn key(&self) -> ClaimKey {
        ClaimKey { token: self.token, task_id: self.task_id, position: self.position, attempt: self.attempt }
    }
}

/// The payloads that are not sent with a claim.
#[derive(Debug, Deserialize)]
struct DeferredText {
    input: bool,
    results: Vec<i32>,
}

/// What `workflow_definition` returns.
#[derive(Debug, Deserialize)]
pub struct DefinitionText {
    digest: String,
    namespace: String,
    workflow: String,
    version: String,
    steps: Vec<StepText>,
}

#[derive(Debug, Deserialize)]
struct StepText {
    step: String,
    handler: String,
    queue: String,
    system: Option<String>,
    max_attempts: u32,
    timeout_ms: u64,
    config: Box<RawValue>,
    dependencies: Vec<i32>,
}

/// A version of a workflow, in the form that claims need.
#[derive(Debug)]
pub struct Definition {
    digest: String,
    /// By position.
    steps: Vec<Step>,
    bytes: usize,
}

#[derive(Debug)]
struct Step {
    system: Option<String>,
    /// The common fields of all claims on the step, as the inside of a JSON object.
    fields: String,
    /// Position and name, as JSON text, of each parent.
    parents: Vec<(i32, String)>,
}

impl Definition {
    pub fn new(text: &DefinitionText) -> Result<Self, Error> {
        let names: Vec<String> = text.steps.iter().map(|step| json(&step.step)).collect::<Result<_, _>>()?;
        let mut steps = Vec::with_capacity(names.len());
        for step in &text.steps {
            let mut parents = Vec::with_capacity(step.dependencies.len());
            for position in &step.dependencies {
                parents.push((*position, at(&names, *position)?.clone()));
            }
            let dependencies: Vec<&str> = parents.iter().map(|(_, name)| name.as_str()).collect();
            let fields = format!(
                r#""step":{},"workflow":{},"namespace":{},"version":{},"handler":{},"max_attempts":{},"timeout_ms":{},"queue":{},"system":{},"config":{},"dependencies":[{}]"#,
                json(&step.step)?,
                json(&text.workflow)?,
                json(&text.namespace)?,
                json(&text.version)?,
                json(&step.handler)?,
                step.max_attempts,
                step.timeout_ms,
                json(&step.queue)?,
                json(&step.system)?,
                step.config.get(),
                dependencies.join(","),
            );
            steps.push(Step { system: step.system.clone(), fields, parents });
        }
        let bytes = steps.iter().map(Step::bytes).sum();
        Ok(Self { digest: text.digest.clone(), steps, bytes })
    }

    /// The claim in the form of `spec/fixtures/seam/claim.json`.
    pub fn claim(&self, text: &ClaimText) -> Result<Claim, Error> {
        let step = at(&self.steps, text.position)?;
        let payloads = text.input.as_ref().map_or(0, |input| input.get().len())
            + text.results.iter().flat_map(BTreeMap::values).map(|result| result.get().len()).sum::<usize>();
        let mut all = String::with_capacity(step.bytes() + payloads + 400);
        write!(
            all,
            r#"{{"token":{},"task_id":{},"task_uuid":"{}","position":{},"attempt":{},"correlation_id":"{}","parent_correlation_id":{},"tags":{},{}"#,
            text.token,
            text.task_id,
            text.task_uuid,
            text.position,
            text.attempt,
            text.correlation_id,
            json(&text.parent_correlation_id)?,
            text.tags.get(),
            step.fields,
        )
        .expect("writing to a string does not fail");
        if let Some(trace_context) = &text.trace_context {
            all.push_str(r#","trace_context":"#);
            all.push_str(trace_context.get());
        }
        if let Some(input) = text.input.as_ref().filter(|_| !text.deferred.as_ref().is_some_and(|it| it.input)) {
            all.push_str(r#","input":"#);
            all.push_str(input.get());
        }
        all.push_str(r#","results":{"#);
        let results = text.results.as_ref();
        let mut separator = "";
        for (position, name) in &step.parents {
            if let Some(result) = results.and_then(|results| results.get(position)) {
                all.push_str(separator);
                all.push_str(name);
                all.push(':');
                all.push_str(result.get());
                separator = ",";
            }
        }
        all.push('}');
        if let Some(deferred) = &text.deferred {
            let names = step.parents.iter().filter(|(position, _)| deferred.results.contains(position));
            let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
            write!(all, r#","deferred":{{"input":{},"results":[{}]}}"#, deferred.input, names.join(","))
                .expect("writing to a string does not fail");
        }
        all.push('}');
        Ok(Claim {
            token: text.token,
            task_id: text.task_id,
            position: text.position,
            attempt: text.attempt,
            correlation_id: text.correlation_id,
            system: step.system.clone(),
            text: all.into(),
        })
    }
}

impl Step {
    fn bytes(&self) -> usize {
        self.fields.len() + self.parents.iter().map(|(_, name)| name.len() + size_of::<(i32, String)>()).sum::<usize>()
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::Protocol)
}

fn at<T>(all: &[T], position: i32) -> Result<&T, Error> {
    usize::try_from(position).ok().and_then(|position| all.get(position)).ok_or_else(|| {
        Error::Protocol(serde::de::Error::custom(format!("the workflow's definition has no step {position}")))
    })
}

/// Definitions by the id of their version.
#[derive(Debug, Default)]
pub struct Definitions {
    inner: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    versions: HashMap<i64, (u64, Arc<Definition>)>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

impl Definitions {
    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.inner.lock().expect("no code that holds the definitions' lock can panic")
    }

    /// The definition of a version if it is cached and has that digest.
    pub fn get(&self, id: i64, digest: &str) -> Option<Arc<Definition>> {
        let mut cache = self.lock();
        cache.clock += 1;
        let clock = cache.clock;
        let (used, definition) = cache.versions.get_mut(&id).filter(|(_, definition)| definition.digest == digest)?;
        *used = clock;
        Some(definition.clone())
    }

    /// Caches a definition, replacing one with the same id.
    pub fn put(&self, id: i64, definition: Definition) -> Arc<Definition> {
        let mut cache = self.lock();
        cache.clock += 1;
        let definition = Arc::new(definition);
        let entry = (cache.clock, definition.clone());
        cache.bytes += definition.bytes;
        if let Some((_, replaced)) = cache.versions.insert(id, entry) {
            cache.bytes -= replaced.bytes;
        }
        while cache.bytes > MAX_BYTES && cache.versions.len() > 1 {
            let oldest = cache.versions.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id);
            if let Some((_, dropped)) = oldest.and_then(|id| cache.versions.remove(&id)) {
                cache.bytes -= dropped.bytes;
            }
        }
        definition
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;

    fn definition(digest: &str, config: &str) -> Definition {
        let text = json!({"digest": digest, "namespace": "shop", "workflow": "order_fulfillment", "version": "1.0.0", "steps": [
            {"step": "validate_order", "handler": "V", "queue": "default", "system": null, "max_attempts": 3,
             "timeout_ms": 1, "config": {}, "dependencies": []},
            {"step": "reserve_stock", "handler": "ReserveStock", "queue": "default", "system": "warehouse",
             "max_attempts": 5, "timeout_ms": 30000, "config": {"warehouse": config}, "dependencies": [0]}]});
        Definition::new(&serde_json::from_value(text).unwrap()).unwrap()
    }

    fn claim_text(changes: &Value) -> ClaimText {
        let mut text = json!({"token": 7, "task_id": 12, "task_uuid": "01a2079a-97aa-78c1-9152-d7902fdacbf0",
            "version_id": 1, "position": 1, "attempt": 1, "correlation_id": "01a2079a-97aa-7ca3-8336-d6df7d466282",
            "parent_correlation_id": null, "tags": ["gift"], "input": {"order_id": 42},
            "results": {"0": {"total": 3_394_108_674_063_587_200_u64}}, "deferred": null});
        text.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_str(&text.to_string()).unwrap()
    }

    #[test]
    fn a_built_claim_has_the_fields_of_the_fixture() {
        let path = format!("{}/../../spec/fixtures/seam/claim.json", env!("CARGO_MANIFEST_DIR"));
        let mut expected: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        expected["input"] = json!({"order_id": 42});
        let claim = definition("d", "north").claim(&claim_text(&json!({}))).unwrap();
        assert_eq!(serde_json::from_str::<Value>(claim.json()).unwrap(), expected);
        assert_eq!(claim.system.as_deref(), Some("warehouse"));
    }

    #[test]
    fn a_claim_has_the_trace_context_of_its_task() {
        let traced = json!({"trace_context": {"traceparent": "00-1-2-01"}});
        let claim = definition("d", "north").claim(&claim_text(&traced)).unwrap();
        let whole: Value = serde_json::from_str(claim.json()).unwrap();
        assert_eq!(whole["trace_context"], traced["trace_context"]);
    }

    #[test]
    fn a_claim_names_its_deferred_payloads() {
        let left_out = json!({"input": null, "results": null, "deferred": {"input": true, "results": [0]}});
        let claim = definition("d", "north").claim(&claim_text(&left_out)).unwrap();
        let whole: Value = serde_json::from_str(claim.json()).unwrap();
        assert_eq!(whole.get("input"), None);
        assert_eq!(whole["results"], json!({}));
        assert_eq!(whole["deferred"], json!({"input": true, "results": ["validate_order"]}));
    }

    #[test]
    fn a_claim_on_an_unknown_step_is_an_error() {
        assert!(definition("d", "north").claim(&claim_text(&json!({"position": 2}))).is_err());
    }

    #[test]
    fn a_definition_of_another_digest_is_not_used() {
        let cache = Definitions::default();
        cache.put(1, definition("first", "north"));
        assert!(cache.get(1, "first").is_some());
        assert!(cache.get(1, "second").is_none(), "the id was given again");
        assert!(cache.get(2, "first").is_none());
        cache.put(1, definition("second", "south"));
        assert!(cache.get(1, "second").is_some());
    }

    #[test]
    fn the_cache_is_bounded_and_evicts_the_least_recently_used() {
        let cache = Definitions::default();
        let long = "x".repeat(MAX_BYTES / 3);
        for id in 1..=2 {
            cache.put(id, definition("d", &long));
        }
        cache.get(1, "d");
        cache.put(3, definition("d", &long));
        let cached: Vec<i64> = (1..=3).filter(|id| cache.get(*id, "d").is_some()).collect();
        assert_eq!(cached, [1, 3]);
        cache.put(4, definition("d", &"x".repeat(2 * MAX_BYTES)));
        assert!(cache.get(4, "d").is_some(), "one alone is kept, whatever its length");
        assert!(cache.get(3, "d").is_none());
    }
}
