use serde_json::{json, Value};

use super::*;

fn settings() -> Configuration {
    Configuration::load(None).unwrap()
}

fn compile(definition: &Value) -> Result<Workflow, Error> {
    Workflow::compile(definition, &settings())
}

fn step(name: &str, depends_on: &[&str]) -> Value {
    json!({"name": name, "handler": "Handler", "depends_on": depends_on})
}

fn workflow(steps: &[Value]) -> Value {
    json!({"name": "orders", "steps": steps})
}

#[test]
fn steps_get_positions_levels_and_both_ends_of_every_arrow() {
    let compiled = compile(&workflow(&[
        step("ship", &["reserve", "charge"]),
        step("validate", &[]),
        step("reserve", &["validate"]),
        step("charge", &["validate"]),
    ]))
    .unwrap();
    let seen: Vec<_> = compiled
        .steps()
        .iter()
        .map(|step| (step.name.as_str(), step.level, step.dependencies.as_slice(), step.dependents.as_slice()))
        .collect();
    assert_eq!(
        seen,
        vec![
            ("validate", 0, [].as_slice(), [1, 2].as_slice()),
            ("reserve", 1, &[0], &[3]),
            ("charge", 1, &[0], &[3]),
            ("ship", 2, &[1, 2], &[]),
        ]
    );
}

#[test]
fn omitted_fields_take_the_configurations_values() {
    let compiled = compile(&workflow(&[step("only", &[])])).unwrap();
    let only = &compiled.steps()[0];
    assert_eq!(only.retry, settings().retry);
    assert_eq!((only.timeout, only.queue.as_str(), only.priority), (settings().steps.timeout, "default", 0));
    assert_eq!((compiled.namespace(), compiled.name()), ("default", "orders"));
}

#[test]
fn declared_fields_are_kept() {
    let compiled = compile(&workflow(&[json!({
        "name": "only", "handler": "H", "queue": "mail", "priority": -5, "timeout": "30s", "config": {"a": [1]},
        "retry": {"max_attempts": 7, "backoff": "linear", "base": 0.5, "factor": 3, "cap": "1m", "jitter": 0}
    })]))
    .unwrap();
    let stored: Value = serde_json::from_str(compiled.definition_json()).unwrap();
    let only = &stored["steps"][0];
    for (key, value) in [
        ("queue", json!("mail")),
        ("priority", json!(-5)),
        ("timeout_ms", json!(30_000)),
        ("max_attempts", json!(7)),
        ("backoff", json!("linear")),
        ("base_ms", json!(500)),
        ("factor", json!(3.0)),
        ("cap_ms", json!(60_000)),
        ("jitter", json!(0.0)),
        ("config", json!({"a": [1]})),
    ] {
        assert_eq!(only[key], value, "{key}");
    }
}

#[test]
fn not_retryable_means_exactly_one_attempt() {
    let mut once = step("only", &[]);
    once["retryable"] = json!(false);
    assert_eq!(compile(&workflow(&[once])).unwrap().steps()[0].retry.max_attempts, 1);
}

#[test]
fn the_digest_follows_the_content() {
    let one = compile(&workflow(&[step("a", &[]), step("b", &["a"])])).unwrap();
    let same = compile(&workflow(&[step("a", &[]), step("b", &["a"])])).unwrap();
    let other = compile(&workflow(&[step("a", &[]), step("b", &[])])).unwrap();
    assert_eq!((one.digest(), one.version()), (same.digest(), same.version()));
    assert_ne!(one.digest(), other.digest());
    assert_eq!(one.version(), format!("0.0.0+{}", &one.digest()[..12]));
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_its_remedy() {
    let with = |key: &str, value: Value| {
        let mut changed = step("only", &[]);
        changed[key] = value;
        workflow(&[changed])
    };
    let cases = [
        (json!([]), "the document: [] (array) must be an object"),
        (json!({"steps": [step("a", &[])]}), "name: is missing"),
        (
            json!({"name": "Orders", "steps": [step("a", &[])]}),
            "name: \"Orders\" (string) must be up to 100 lower-case",
        ),
        (json!({"name": "orders"}), "steps: is missing"),
        (json!({"name": "orders", "steps": []}), "must have at least one step"),
        (json!({"name": "orders", "step": [], "steps": [step("a", &[])]}), "did you mean `steps`?"),
        (with("depend_on", json!([])), "steps[0].depend_on: [] (array) is an unknown key: did you mean `depends_on`?"),
        (with("handler", Value::Null), "steps[0].handler: is missing: name the handler's class"),
        (with("timeout", json!(0)), "steps[0].timeout: 0 (integer) must be a duration from 1ms"),
        (with("timeout", json!("soon")), "steps[0].timeout: \"soon\" (string) must be a duration"),
        (
            with("retry", json!({"max_attempts": 0})),
            "steps[0].retry.max_attempts: 0 (integer) must be an integer from 1 to 1000: for exactly one attempt, set 1, or \
             `retryable: false`",
        ),
        (
            with("retry", json!({"backof": "fixed"})),
            "steps[0].retry.backof: \"fixed\" (string) is an unknown key: did you mean `backoff`?",
        ),
        (with("retry", json!({"backoff": "expo"})), "must be one of none, fixed, linear, exponential"),
        (with("retry", json!({"jitter": 1.5})), "steps[0].retry.jitter: 1.5 (number) must be a number from 0 to 1"),
        (with("retry", json!({"factor": 0.5})), "must be a number from 1 to 100"),
        (with("retry", json!(3)), "steps[0].retry: 3 (integer) must be an object"),
        (with("queue", json!("*")), "steps[0].queue: \"*\" (string) must be a name"),
        (with("priority", json!(1_000_000)), "steps[0].priority: 1000000 (integer) must be an integer from -32768"),
        (with("config", json!([1])), "steps[0].config: [1] (array) must be an object"),
        (with("depends_on", json!(["only"])), "steps[0].depends_on[0]: \"only\" (string) is the step itself"),
        (workflow(&[step("a", &[]), step("a", &[])]), "steps[1].name: \"a\" (string) is the name of an earlier step"),
        (workflow(&[step("charge", &[]), step("b", &["chrage"])]), "did you mean `charge`?"),
        (
            workflow(&[step("a", &[]), step("b", &["a", "a"])]),
            "steps[1].depends_on[1]: \"a\" (string) appears twice",
        ),
        (
            workflow(&[step("a", &["c"]), step("b", &["a"]), step("c", &["b"])]),
            "the dependencies form a cycle: a → b → c → a",
        ),
        (json!({"name": "orders", "input": {"type": "objekt"}, "steps": [step("a", &[])]}), "is not a valid JSON Schema"),
    ];
    for (definition, message) in cases {
        let error = compile(&definition).unwrap_err().to_string();
        assert!(error.contains(message), "{definition}\n gave: {error}\n not: {message}");
    }
}

/// `only` follows `first`; `other` is not before it.
fn with_job(changes: &Value) -> Value {
    let mut only =
        json!({"name": "only", "depends_on": ["first"], "job": "ChargeCardJob", "config": {"a": {"b": [7]}}});
    only.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let mut definition = workflow(&[step("root", &[]), step("first", &["root"]), step("other", &[]), only]);
    definition["input"] =
        json!({"properties": {"order_id": {"type": "integer"}}, "additionalProperties": false, "type": "object"});
    definition
}

#[test]
fn a_job_and_its_arguments_are_stored_as_handler_and_config() {
    let arguments = json!(["$.input.order_id", "$.results.root.a[0]", "$.config.a.b[0]", "$$.input", "$5", [{"a": 1}]]);
    let compiled = compile(&with_job(&json!({ "arguments": arguments }))).unwrap();
    let job = &compiled.steps()[3];
    assert_eq!(job.handler, "ChargeCardJob.perform_now");
    assert_eq!(job.config, json!({"a": {"b": [7]}, "$arguments": arguments}));
    let digest = |arguments: Value| compile(&with_job(&json!({ "arguments": arguments }))).unwrap().digest().to_owned();
    assert_eq!(digest(json!([1])), digest(json!([1])));
    assert_ne!(digest(json!([1])), digest(json!([2])));
    assert_eq!(compile(&with_job(&json!({}))).unwrap().steps()[3].config, json!({"a": {"b": [7]}}));
    assert!(compile(&with_job(&json!({"arguments": {"id": {"$global_id": "$.input.order_id"}}}))).is_ok());
}

#[test]
fn what_is_wrong_with_a_job_is_named_with_its_place_and_its_remedy() {
    let path = |path: &str| json!({"arguments": [{"deep": [path]}]});
    let cases = [
        (json!({"job": ""}), "steps[3].job: \"\" (string) must name the job's class"),
        (json!({"handler": "H"}), "steps[3].handler: \"H\" (string) contradicts `job`: remove one of them"),
        (
            json!({"job": null, "handler": "H", "arguments": []}),
            "steps[3].arguments: [] (array) has no effect without `job`",
        ),
        (
            json!({"job": null, "handler": "A.perform_now"}),
            "steps[3].handler: \"A.perform_now\" (string) is not a class: name a job's class with `job`",
        ),
        (
            json!({"arguments": 3}),
            "steps[3].arguments: 3 (integer) must be an array, or an object of keyword arguments",
        ),
        (
            json!({"arguments": [], "config": {"$arguments": 1}}),
            "steps[3].config.$arguments: 1 (integer) has a reserved name: rename it",
        ),
        (
            path("$.input..a"),
            "steps[3].arguments[0].deep[0]: \"$.input..a\" (string) is not a path: write $.input.NAME",
        ),
        (path("$.inptu.a"), "begins with an unknown name: did you mean `$.input`?"),
        (path("$.nowhere"), "is not a path"),
        (path("$.input.ordr_id"), "is not a field of the workflow's input: did you mean `$.input.order_id`?"),
        (path("$.input.xyz"), "is not a field of the workflow's input"),
        (path("$.results"), "names no step: write $.results.STEP"),
        (path("$.results.frist"), "names a step that the workflow does not have: did you mean `$.results.first`?"),
        (path("$.results.other.a"), "names a step that may not have ended: add `other` to `depends_on`"),
        (path("$.results.only"), "names a step that may not have ended"),
        (path("$.config.a.b[1]"), "finds nothing in the step's `config`"),
        (path("$.config.$arguments"), "finds nothing in the step's `config`"),
        (
            json!({"arguments": {"a": {"$global_id": 1}}}),
            "steps[3].arguments.a: {\"$global_id\":1} (object) must have `$global_id` alone",
        ),
        (json!({"arguments": [{"$global_id": "x", "a": 1}]}), "must have `$global_id` alone"),
        (
            json!({"arguments": [{"_aj_serialized": "x"}]}),
            "steps[3].arguments[0]._aj_serialized: \"x\" (string) has a name",
        ),
    ];
    for (changes, message) in cases {
        let definition = with_job(&changes);
        let error = compile(&definition).unwrap_err().to_string();
        assert!(error.contains(message), "{definition}\n gave: {error}\n not: {message}");
    }
}

#[test]
fn an_open_input_may_have_any_field() {
    for schema in
        [json!({"properties": {"a": {}}}), json!({"additionalProperties": false, "patternProperties": {"b": {}}})]
    {
        let mut definition = with_job(&json!({"arguments": ["$.input.b"]}));
        definition["input"] = schema;
        assert!(compile(&definition).is_ok());
    }
}

#[test]
fn a_version_has_up_to_fifty_characters_of_any_length() {
    let compiled = |version: &str| {
        compile(&json!({"name": "orders", "version": version, "steps": [step("a", &[])]})).map(|it| it.version().len())
    };
    assert_eq!(compiled(&"é".repeat(50)).unwrap(), 100);
    for version in ["", "1 0", &"é".repeat(51)] {
        let error = compiled(version).unwrap_err().to_string();
        assert!(error.contains("must be 1 to 50 characters without spaces"), "{error}");
    }
}

#[test]
fn one_attempt_and_more_than_one_contradict_each_other() {
    let mut both = step("only", &[]);
    both["retryable"] = json!(false);
    both["retry"] = json!({"max_attempts": 3});
    let error = compile(&workflow(&[both])).unwrap_err().to_string();
    assert!(error.contains("contradicts `retryable: false`"), "{error}");
}

#[test]
fn all_problems_are_reported_at_once() {
    let Error::Definition(Problems(problems)) =
        compile(&json!({"nam": 1, "steps": [{"name": "A", "depends_on": ["b"]}]})).unwrap_err()
    else {
        panic!("another error");
    };
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, vec!["nam", "name", "steps[0].name", "steps[0].handler", "steps[0].depends_on[0]"]);
}

fn fields_of(definition: &Value) -> Vec<String> {
    match compile(definition) {
        Err(Error::Definition(Problems(problems))) => problems.into_iter().map(|problem| problem.field).collect(),
        other => panic!("another result: {other:?}"),
    }
}

#[test]
fn a_fault_is_reported_once_and_not_blamed_on_others() {
    let cases = [
        (workflow(&[json!({"name": "a"}), step("b", &["a"])]), vec!["steps[0].handler"]),
        (workflow(&[step("A", &[]), step("b", &["A"])]), vec!["steps[0].name"]),
        (workflow(&[Value::Null, json!(3), step("b", &[])]), vec!["steps[0]", "steps[1]"]),
        (json!({"name": "O", "input": {"type": "objekt"}, "steps": [step("a", &[])]}), vec!["name", "input.type"]),
    ];
    for (definition, fields) in cases {
        assert_eq!(fields_of(&definition), fields, "{definition}");
    }
}

#[test]
fn a_null_character_is_refused_where_it_stands() {
    let mut with = step("a", &[]);
    with["config"] = json!({"marks": ["x", "\0"]});
    assert_eq!(fields_of(&workflow(&[with])), vec!["steps[0].config.marks[1]"]);
}

#[test]
fn the_first_unknown_parents_get_a_suggestion() {
    let children: Vec<Value> = (0..20).map(|number| step(&format!("child_{number}"), &["chrage"])).collect();
    let error = compile(&workflow(&[vec![step("charge", &[])], children].concat())).unwrap_err().to_string();
    assert_eq!(error.matches("did you mean `charge`?").count(), 10);
    assert_eq!(error.matches("is not a step of this workflow").count(), 20);
}

#[test]
fn a_schema_has_keywords_and_formats_of_json_schema_only() {
    let compiled = |schema: Value| {
        let mut definition = workflow(&[step("a", &[])]);
        definition["input"] = schema;
        compile(&definition)
    };
    let cases = [
        (json!({"proprties": {}}), "input.proprties: {} (object) is not a JSON Schema keyword: did you mean `properties`?"),
        (
            json!({"properties": {"n": {"minimun": 1}}}),
            "input.properties.n.minimun: 1 (integer) is not a JSON Schema keyword: did you mean `minimum`?",
        ),
        (
            json!({"anyOf": [true, {"items": {"nullable": true}}]}),
            "input.anyOf[1].items.nullable: true (boolean) is not a JSON Schema keyword: remove it, or prefix it with x-",
        ),
        (
            json!({"$defs": {"mail": {"format": "e-mail"}}}),
            "input.$defs.mail.format: \"e-mail\" (string) is an unknown format: did you mean `email`?",
        ),
        (json!({"format": "int32"}), "input.format: \"int32\" (string) is an unknown format: date, date-time, duration, "),
    ];
    for (schema, expected) in cases {
        let error = compiled(schema).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let free = json!({
        "x-owner": "billing",
        "properties": {"minimun": {"enum": [{"nullable": true}], "default": {"proprties": 1}}},
        "dependencies": {"a": ["b"]},
        "additionalProperties": false
    });
    assert!(compiled(free).is_ok(), "names and values are of the author's choice");
}

#[test]
fn formats_are_checked() {
    let formats = [
        ("date", "2026-01-31", "31.1.2026"),
        ("date-time", "2026-01-31T12:00:00Z", "noon"),
        ("duration", "P1D", "1d"),
        ("email", "ada@example.com", "ada"),
        ("hostname", "example.com", "-"),
        ("ipv4", "127.0.0.1", "127.0.0.256"),
        ("ipv6", "::1", ":::"),
        ("iri", "http://example.com/ä", "ä"),
        ("iri-reference", "ä", "\\"),
        ("json-pointer", "/a", "a"),
        ("regex", "a+", "("),
        ("relative-json-pointer", "1/a", "/a"),
        ("time", "12:00:00Z", "noon"),
        ("uri", "http://example.com", "example"),
        ("uri-reference", "example", "\\"),
        ("uri-template", "/{a}", "/{a"),
        ("uuid", "00000000-0000-7000-8000-000000000001", "1"),
    ];
    for (format, right, wrong) in formats {
        let mut definition = workflow(&[step("a", &[])]);
        definition["input"] = json!({"properties": {"value": {"format": format}}});
        let compiled = compile(&definition).unwrap();
        let check = |value: &str| compiled.validate_input(&json!({"value": value}).to_string());
        assert!(check(right).is_ok(), "{format} {right}");
        assert!(check(wrong).is_err(), "{format} {wrong}");
    }
}

#[test]
fn a_message_about_an_input_has_no_value_of_it() {
    let cases = [
        (json!(false), json!("4711"), "card: \"4711\" (string) is not allowed: remove it"),
        (json!({"not": {"type": "string"}}), json!("4711"), "must not match {\"type\":\"string\"}"),
        (json!({"const": "none"}), json!("4711"), "must be \"none\""),
        (json!({"maxLength": 3}), json!("4711"), "card: \"4711\" (string) is longer than 3 characters"),
        (json!({"enum": ["none"]}), json!("4711"), "is not one of \"none\""),
        (json!({"contains": {"type": "null"}}), json!(["4711"]), "has no item that matches the schema in `contains`"),
        (json!({"prefixItems": [true], "unevaluatedItems": false}), json!([1, "4711"]), "has items that the schema"),
        (json!({"items": [true], "additionalItems": false}), json!([1, "4711"]), "has more items than 1"),
        (
            json!({"unevaluatedProperties": false}),
            json!({"pin": "4711"}),
            "card.pin: \"4711\" (string) is not a field of",
        ),
        (
            json!({"propertyNames": {"maxLength": 2}}),
            json!({"pin": "4711"}),
            "card: \"pin\" (string) is the name of a field",
        ),
    ];
    for (schema, card, expected) in cases {
        let mut definition = workflow(&[step("a", &[])]);
        definition["input"] = json!({"properties": {"card": schema}});
        if definition["input"].pointer("/properties/card/additionalItems").is_some() {
            definition["input"]["$schema"] = json!("http://json-schema.org/draft-07/schema#");
        }
        let Error::Input { problems: Problems(problems) } =
            compile(&definition).unwrap().validate_input(&json!({"card": card}).to_string()).unwrap_err()
        else {
            panic!("another error");
        };
        assert!(problems[0].to_string().contains(expected), "{}", problems[0]);
        assert!(problems.iter().all(|problem| !problem.message.contains("4711")), "{problems:?}");
    }
}

#[test]
fn an_input_is_held_against_the_schema_and_the_limits() {
    let mut definition = workflow(&[step("a", &[])]);
    definition["input"] = json!({
        "type": "object",
        "required": ["order_id"],
        "additionalProperties": false,
        "properties": {
            "order_id": {"type": "integer"},
            "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}}
        }
    });
    let compiled = compile(&definition).unwrap();
    assert!(compiled.validate_input(r#"{"order_id": 123456789012345678901234567890}"#).is_ok());
    let cases = [
        (r#"{}"#, "order_id: is missing: the workflow requires it"),
        (r#"{"order_id": "42"}"#, "order_id: \"42\" (string) is not of type \"integer\""),
        (r#"{"order_id": 1, "lines": [{"sku": 7}]}"#, "lines[0].sku: 7 (integer) is not of type \"string\""),
        (r#"[1]"#, "must be a JSON object"),
        (r#"{"order_id": 1"#, "is not valid JSON"),
        (r#"{"lines": [{"sku": "\u0000"}]}"#, r"lines[0].sku: has a null character (\u0000) at byte"),
        (r#"{"order_id": 1, "note": "\ud800"}"#, "half of a surrogate pair"),
        (r#"{"order_id": 1, "ordr_id": 2}"#, "ordr_id: 2 (integer) is not a field of this input"),
    ];
    for (input, message) in cases {
        let error = compiled.validate_input(input).unwrap_err().to_string();
        assert!(error.contains(message), "{input}: {error}");
    }
}
