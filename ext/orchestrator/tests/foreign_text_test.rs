//! Untrusted text at every entry: workflows, configuration, schemas, inputs, outcomes, claims.
//!
//! No text causes a panic or endless work; an error names the mistake, and the database stores every accepted text.
//! PROPTEST_CASES=100000 tests more cases.

#[path = "support/foreign.rs"]
mod foreign;
mod support;

use std::time::Duration;

use foreign::cases;
use proptest::prelude::*;
use rustix::time::{clock_gettime, ClockId};
use serde_json::value::RawValue;
use serde_json::{json, Value};
use support::World;
use tasker_orchestrator::claim::ClaimKey;
use tasker_orchestrator::database::functions::{Demand, TaskRequest};
use tasker_orchestrator::error::{Problem, Problems};
use tasker_orchestrator::outcome::EndedAttempt;
use tasker_orchestrator::{Claim, Configuration, Error, FunctionErrorCode, Outcome, Workflow};

/// Maximum processor time for one text in a debug build, however busy the machine.
const TIME_LIMIT: Duration = Duration::from_secs(5);

fn within_time_limit<T>(work: impl FnOnce() -> T) -> T {
    let began = processor_time();
    let result = work();
    let spent = processor_time() - began;
    assert!(spent < TIME_LIMIT, "it took {spent:?}");
    result
}

/// The processor time that this thread has used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

fn settings() -> Configuration {
    Configuration::load(None).unwrap()
}

fn compile(definition: &Value) -> Result<Workflow, Error> {
    within_time_limit(|| Workflow::compile(definition, &settings()))
}

/// Asserts that there are problems, and that each names the field, the value and the remedy.
fn check_problems(problems: &Problems) -> Result<(), TestCaseError> {
    prop_assert!(!problems.0.is_empty(), "an error without a problem");
    for Problem { field, value, kind, message, .. } in &problems.0 {
        prop_assert!(!field.is_empty() && !message.trim().is_empty(), "{field:?}: {message:?}");
        prop_assert!(value.chars().count() <= 81, "{field}: a value of {} characters", value.chars().count());
        prop_assert!(["nothing", "boolean", "number", "integer", "string", "array", "object"].contains(kind));
    }
    Ok(())
}

fn order() -> Value {
    json!({
        "name": "order", "namespace": "shop", "description": "From a paid basket to a parcel",
        "input": { "type": "object", "required": ["a"], "properties": { "a": { "type": "integer", "minimum": 1 } } },
        "steps": [
            { "name": "a", "handler": "A" },
            { "name": "b", "handler": "B", "depends_on": ["a"], "timeout": "30s", "queue": "payments", "priority": -5,
              "retry": { "max_attempts": 5, "backoff": "exponential", "base": "1s", "factor": 2, "cap": "5m", "jitter": 0.1 } },
            { "name": "c", "handler": "C#run", "depends_on": ["a", "b"], "retryable": false, "config": { "warehouse": "north" } },
        ]
    })
}

fn definition() -> impl Strategy<Value = Value> {
    let changed =
        proptest::collection::vec(foreign::change(), 1..4).prop_map(|changes| foreign::changed(order(), changes));
    prop_oneof![6 => changed, 1 => foreign::value()]
}

/// A definition as a person might have written it.
fn source_of(workflow: &Workflow, version: &Value) -> Value {
    let compiled: Value = serde_json::from_str(workflow.definition_json()).unwrap();
    let names: Vec<&Value> = compiled["steps"].as_array().unwrap().iter().map(|step| &step["name"]).collect();
    let seconds = |ms: &Value| json!(ms.as_u64().unwrap() as f64 / 1000.0);
    let steps: Vec<Value> = compiled["steps"].as_array().unwrap().iter()
        .map(|step| json!({
            "name": step["name"], "handler": step["handler"], "description": step["description"], "queue": step["queue"],
            "priority": step["priority"], "config": step["config"], "timeout": seconds(&step["timeout_ms"]),
            "depends_on": step["dependencies"].as_array().unwrap().iter()
                .map(|position| names[position.as_u64().unwrap() as usize]).collect::<Vec<_>>(),
            "retry": { "max_attempts": step["max_attempts"], "backoff": step["backoff"], "base": seconds(&step["base_ms"]),
                       "factor": step["factor"], "cap": seconds(&step["cap_ms"]), "jitter": step["jitter"] },
        }))
        .collect();
    json!({ "name": compiled["name"], "namespace": compiled["namespace"], "version": version, "steps": steps,
            "description": compiled["description"], "input": compiled["input_schema"] })
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn a_definition_compiles_or_every_problem_is_reported(definition in definition()) {
        match compile(&definition) {
            Ok(workflow) => {
                let source = source_of(&workflow, &definition["version"]);
                let again = compile(&source).map_err(|error| TestCaseError::fail(format!("{error} in {source}")))?;
                prop_assert_eq!(again.digest(), workflow.digest());
                prop_assert_eq!(again.definition_json(), workflow.definition_json());
            }
            Err(Error::Definition(problems)) => check_problems(&problems)?,
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn settings_load_or_every_problem_is_reported(
        changes in proptest::collection::vec(foreign::change(), 0..4), whole in foreign::value()
    ) {
        let defaults = json!({
            "database": { "pool": { "max_connections": 5 }, "lock_timeout": "10s", "poll_only": false },
            "execution": { "threads": 5, "queues": ["*"], "flush_delay": "5ms" },
            "retry": { "max_attempts": 3, "backoff": "exponential", "base": 1, "factor": 2, "jitter": 0.1 },
            "limits": { "payload_bytes": 1_048_576 }
        });
        for given in [foreign::changed(defaults, changes), whole] {
            match within_time_limit(|| Configuration::load(Some(&given))) {
                Ok(configuration) => prop_assert!(configuration.execution.threads >= 1),
                Err(Error::Configuration { problems }) => check_problems(&problems)?,
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn an_input_schema_compiles_or_fails_and_validates_in_time(
        schema in schema(), inputs in proptest::collection::vec(foreign::object_text(), 1..4)
    ) {
        match compile(&json!({ "name": "schema", "input": schema, "steps": [{ "name": "a", "handler": "A" }] })) {
            Ok(workflow) => for input in inputs {
                match within_time_limit(|| workflow.validate_input(&input)) {
                    Ok(()) => {}
                    Err(Error::Input { problems }) => check_problems(&problems)?,
                    Err(other) => prop_assert!(false, "{other:?}"),
                }
            },
            Err(Error::Definition(problems)) => check_problems(&problems)?,
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn an_outcome_is_read_or_refused(text in outcome_text("7")) {
        if let Ok(outcome) = Outcome::from_json(&text) {
            let _ = outcome.token();
            let key = ClaimKey { token: 7, task_id: 12, position: 1, attempt: 1 };
            let _ = serde_json::to_string(&EndedAttempt::new(key, outcome, Duration::MAX, Duration::MAX)).unwrap();
        }
    }

    #[test]
    fn a_damaged_claim_is_an_error(changes in proptest::collection::vec(foreign::change(), 0..3), other in foreign::json_text()) {
        let fixture = include_str!("../../../spec/fixtures/seam/claim.json");
        let damaged = foreign::changed(serde_json::from_str(fixture).unwrap(), changes).to_string();
        for text in [damaged, other] {
            let Ok(text) = RawValue::from_string(text) else { continue };
            if let Ok(claim) = Claim::from_json(text.get()) {
                prop_assert!(claim.json().contains("token"));
                let _ = claim.details();
            }
        }
    }
}

/// Keywords of JSON Schema.
const KEYWORDS: &[&str] = &[
    "type",
    "required",
    "properties",
    "pattern",
    "patternProperties",
    "$ref",
    "$id",
    "$schema",
    "$defs",
    "definitions",
    "allOf",
    "anyOf",
    "not",
    "if",
    "then",
    "items",
    "prefixItems",
    "contains",
    "minimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxItems",
    "uniqueItems",
    "const",
    "enum",
    "format",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "dependentSchemas",
    "$dynamicRef",
    "$anchor",
    "minProperties",
    "contentEncoding",
    "default",
];

/// Regular expressions: valid, invalid, and expensive.
const PATTERNS: &[&str] = &[
    "^a+$",
    "^(a+)+$",
    "(?=(a+)+$)b",
    "(a|aa)+\\1$",
    "(x{1000}){1000}",
    "[",
    "\\p{L}",
    "(?<!a)b",
    "\\d{1,999}",
    "(?i)É",
    "\0",
];

/// Values of `$ref`.
const LINKS: &[&str] = &[
    "#",
    "#/$defs/a",
    "#/properties/a",
    "#a",
    "http://localhost:1/x.json",
    "file:///etc/hostname",
    "urn:x",
    "../x",
    "#/%7e~1",
    "",
];

/// A schema of existing keywords, with values that are valid for them, and others.
fn schema() -> impl Strategy<Value = Value> {
    const TYPES: &[&str] = &["integer", "number", "string", "array", "object", "null", "date-time", "base64"];
    let leaf = prop_oneof![
        3 => proptest::sample::select(PATTERNS).prop_map(Value::from),
        3 => proptest::sample::select(LINKS).prop_map(Value::from),
        3 => proptest::sample::select(TYPES).prop_map(Value::from),
        2 => any::<bool>().prop_map(Value::from),
        3 => foreign::value(),
    ];
    let schema = leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            4 => proptest::collection::vec((proptest::sample::select(KEYWORDS), inner.clone()), 1..5)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
            1 => proptest::collection::vec(("[abn]", inner.clone()), 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
            1 => proptest::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    });
    prop_oneof![4 => schema.clone(), 1 => (schema.clone(), schema).prop_map(|(a, b)| json!({ "$ref": "#/$defs/a", "$defs": { "a": a, "b": b } }))]
}

/// The text of an outcome with this token, sometimes damaged.
fn outcome_text(token: &str) -> impl Strategy<Value = String> {
    let token = token.to_owned();
    let text = prop_oneof![foreign::string(), Just("\"x\"".to_owned()), Just("\"a\\u0000b\"".to_owned())];
    let delay = prop_oneof![Just("null".to_owned()), foreign::number()];
    prop_oneof![
        4 => foreign::object_text().prop_map({
            let token = token.clone();
            move |result| format!(r#"{{"token":{token},"outcome":"completed","result":{result}}}"#)
        }),
        1 => foreign::json_text().prop_map({
            let token = token.clone();
            move |result| format!(r#"{{"token":{token},"outcome":"completed","result":{result}}}"#)
        }),
        4 => (text.clone(), text.clone(), text.clone(), text, any::<bool>(), delay).prop_map({
            let token = token.clone();
            move |(class, message, code, line, retryable, delay)| format!(
                r#"{{"token":{token},"outcome":"failed","retryable":{retryable},"retry_after":{delay},"error":{{"class":{class},"message":{message},"code":{code},"backtrace":[{line}]}}}}"#)
        }),
        1 => foreign::object_text(),
        1 => any::<String>(),
    ]
}

fn plain_workflow() -> Workflow {
    compile(
        &json!({ "name": "plain", "steps": [{ "name": "only", "handler": "Only", "retry": { "max_attempts": 1 } }] }),
    )
    .unwrap()
}

fn request(workflow: &Workflow, input: &str) -> TaskRequest {
    TaskRequest {
        namespace: workflow.namespace().to_owned(),
        workflow: workflow.name().to_owned(),
        version: workflow.version().to_owned(),
        input: RawValue::from_string(input.to_owned()).expect("what passes the checks is JSON"),
        priority: 0,
        wait_until: None,
        idempotency_key: None,
        correlation_id: None,
        parent_correlation_id: None,
        tags: Vec::new(),
    }
}

/// Runs a future inside a property, which is no async function.
fn block_on<T>(future: impl std::future::Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

#[test]
fn what_compiles_can_be_registered() {
    World::run(|world| async move {
        let definitions = proptest::collection::vec(definition(), 40..80);
        let checked = foreign::runner(15).run(&definitions, |definitions| {
            for definition in definitions {
                let Ok(workflow) = compile(&definition) else { continue };
                match block_on(world.functions.register_workflow(&workflow)) {
                    Ok(_) | Err(Error::Function { code: FunctionErrorCode::VersionConflict, .. }) => {}
                    Err(error) => return Err(TestCaseError::fail(format!("{error} for {definition}"))),
                }
            }
            Ok(())
        });
        checked.unwrap();
    });
}

/// An accepted input is stored as PostgreSQL itself reads the text, claimed, and returned as the result.
#[test]
fn an_input_is_rejected_or_stored_and_returned_unchanged() {
    World::run(|world| async move {
        let workflow = plain_workflow();
        world.functions.register_workflow(&workflow).await.unwrap();
        let process = world.process().await;
        let queues = vec!["*".to_owned()];
        let inputs = proptest::collection::vec(foreign::object_text(), 20..60);
        let checked = foreign::runner(15).run(&inputs, |inputs| {
            let mut requests = Vec::new();
            for input in &inputs {
                match within_time_limit(|| workflow.validate_input(input)) {
                    Ok(()) => requests.push(request(&workflow, input)),
                    Err(Error::Input { problems }) => check_problems(&problems)?,
                    Err(other) => prop_assert!(false, "{other:?}"),
                }
            }
            if requests.is_empty() {
                return Ok(());
            }
            block_on(async {
                let created = world.functions.create_tasks(&[&requests]).await.map_err(failed(&inputs))?;
                for (task, request) in created.iter().zip(&requests) {
                    let same: bool =
                        sqlx::query_scalar("select input = $2::text::jsonb from tasker_task_inputs where task_id = $1")
                            .bind(task.id)
                            .bind(request.input.get())
                            .fetch_one(&world.pool)
                            .await
                            .unwrap();
                    prop_assert!(same);
                }
                let claims =
                    world.functions.claim_steps(process, &queues, 1000, usize::MAX).await.map_err(failed(&inputs))?;
                prop_assert_eq!(claims.len(), requests.len());
                let ended: Vec<EndedAttempt> = claims
                    .claims
                    .iter()
                    .filter_map(|claim| {
                        let step = claim.details().expect("a claim can be read");
                        EndedAttempt::new(
                            claim.key(),
                            Outcome::Completed { token: claim.token, result: step.input.unwrap() },
                            Duration::ZERO,
                            Duration::ZERO,
                        )
                    })
                    .collect();
                let finished =
                    world.functions.finish_steps(process, &ended, Demand::default()).await.map_err(failed(&inputs))?;
                prop_assert_eq!(finished.ended.len(), requests.len());
                prop_assert!(finished.ended.iter().all(|task| task.state == "complete"));
                Ok(())
            })
        });
        checked.unwrap();
    });
}

fn failed(texts: &[String]) -> impl Fn(Error) -> TestCaseError + '_ {
    move |error| TestCaseError::fail(format!("{error} for {texts:?}"))
}

/// Batches of valid and odd outcomes: all valid ones are stored, and each odd one ends its own step.
#[test]
fn an_odd_outcome_ends_its_own_step_and_no_other() {
    World::run(|world| async move {
        let workflow = json!({ "name": "plain", "steps": [{ "name": "only", "handler": "Only", "retry": { "max_attempts": 1 } }] });
        let orchestrator = world.orchestrator(&json!({ "execution": { "threads": 64 } })).await;
        let outcomes = proptest::collection::vec(outcome_text("TOKEN"), 10..30);
        let checked = foreign::runner(10).run(&outcomes, |outcomes| {
            block_on(async {
                let inputs = vec![json!({}); outcomes.len() * 2];
                let tasks = world.create_tasks(&workflow, &inputs).await;
                orchestrator.poll_now();
                let mut odd = Vec::new();
                let mut good = Vec::new();
                for number in 0..tasks.len() {
                    let claim = orchestrator.next_step().await.expect("it is not draining");
                    let own = outcomes[number / 2].replace("TOKEN", &claim.token.to_string());
                    // An unreadable outcome is an error for its caller.
                    let outcome = Outcome::from_json(&own)
                        .ok()
                        .filter(|outcome| number % 2 == 0 && outcome.token() == claim.token);
                    let kept = if outcome.is_some() { &mut odd } else { &mut good };
                    kept.push(claim.task_id);
                    let result = RawValue::from_string(r#"{"good":true}"#.to_owned()).unwrap();
                    let outcome = outcome.unwrap_or(Outcome::Completed { token: claim.token, result });
                    if !matches!(outcome, Outcome::Released { .. }) {
                        orchestrator.finish(outcome).await.map_err(failed(&outcomes))?;
                    }
                }
                for task in good {
                    prop_assert_eq!(world.ended(task).await, "complete");
                }
                for task in odd {
                    if world.ended(task).await == "error" {
                        let step = world.steps(task).await.remove(0);
                        let message = step.error["message"].as_str().unwrap_or_default();
                        prop_assert!(
                            step.error["class"].is_string() && message.chars().count() < 20_000,
                            "{}",
                            step.error
                        );
                        prop_assert!(!message.contains("the database refused"), "{message} for {outcomes:?}");
                    }
                }
                Ok(())
            })
        });
        checked.unwrap();
        assert!(world.broken_invariants().await.is_empty());
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn text_of_any_depth_is_refused_without_using_up_the_stack() {
    let workflow = plain_workflow();
    for depth in [100, 102, 130, 1000, 100_000] {
        let input = foreign::nested(depth);
        let taken = within_time_limit(|| workflow.validate_input(&input));
        assert_eq!(taken.is_ok(), depth <= 100, "{depth}");
        let text = format!(r#"{{"token":7,"outcome":"completed","result":{input}}}"#);
        assert!(within_time_limit(|| Outcome::from_json(&text)).is_ok(), "a result stays text");
        let nested_token = format!(r#"{{"token":{},"outcome":"completed","result":{{}}}}"#, foreign::nested(depth));
        assert!(Outcome::from_json(&nested_token).is_err());
        let id = "01a2079a-97aa-7ca3-8336-d6df7d466282";
        let claim =
            format!(r#"{{"token":7,"task_id":1,"position":0,"attempt":1,"correlation_id":"{id}","input":{input}}}"#);
        assert!(Claim::from_json(&claim).unwrap().details().is_err(), "fields are missing");
    }
}

#[test]
fn a_chain_of_ten_thousand_steps_compiles_and_one_more_fails() {
    let chain = |length: usize| -> Value {
        let steps: Vec<Value> = (0..length)
            .map(|number| {
                let parents: Vec<String> = number.checked_sub(1).iter().map(|parent| format!("s{parent}")).collect();
                json!({ "name": format!("s{number}"), "handler": "S", "depends_on": parents })
            })
            .collect();
        json!({ "name": "chain", "steps": steps })
    };
    assert_eq!(compile(&chain(10_000)).unwrap().steps().last().unwrap().level, 9_999);
    assert!(compile(&chain(10_001)).unwrap_err().to_string().contains("limits.steps_per_workflow is 10000"));
    let mut round = chain(10_000);
    round["steps"][0]["depends_on"] = json!(["s9999"]);
    assert!(compile(&round).unwrap_err().to_string().contains("the dependencies form a cycle"));
}

#[test]
fn a_schema_is_never_fetched_from_elsewhere() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    for schema in [
        json!({ "$ref": format!("http://{address}/schema.json") }),
        json!({ "$schema": format!("http://{address}/schema.json") }),
        json!({ "$id": format!("http://{address}/"), "$ref": "schema.json" }),
        json!({ "$ref": "file:///etc/hostname" }),
    ] {
        let refused = compile(&json!({ "name": "far", "input": schema, "steps": [{ "name": "a", "handler": "A" }] }))
            .unwrap_err();
        assert!(refused.to_string().contains("is not a valid JSON Schema"), "{refused}");
    }
    assert!(listener.accept().is_err(), "a client fetched the schema");
}

#[test]
fn a_pattern_that_backtracks_without_end_is_aborted() {
    let inputs = json!({ "lines": vec!["a".repeat(60) + "!"; 200] }).to_string();
    for pattern in [r"^(a+)+$", r"^(?=(a+)+$)b", r"^(a|aa)+\1$", r"^((a+)+)\2$", r"^(?:(?=a)a+)+$"] {
        let schema = json!({ "properties": { "lines": { "items": { "pattern": pattern } } } });
        let workflow =
            compile(&json!({ "name": "bomb", "input": schema, "steps": [{ "name": "a", "handler": "A" }] })).unwrap();
        assert!(within_time_limit(|| workflow.validate_input(&inputs)).is_err(), "{pattern}");
    }
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    for schema in [
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "anyOf": [{ "not": { "$ref": "#" } }, { "$ref": "#" }] }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
        json!({ "$dynamicRef": "#x", "$dynamicAnchor": "x" }),
        json!({ "properties": { "a": { "$ref": "#" } }, "items": { "$ref": "#" } }),
    ] {
        let compiled =
            compile(&json!({ "name": "round", "input": schema, "steps": [{ "name": "a", "handler": "A" }] }));
        if let Ok(workflow) = compiled {
            let _ = within_time_limit(|| workflow.validate_input(&foreign::nested(100)));
        }
    }
}
