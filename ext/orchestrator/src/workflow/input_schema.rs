//! Compiles the JSON Schema of a task's input.
//!
//! Invariant: every keyword is one of JSON Schema or begins with `x-`, and every format is checked. JSON Schema itself ignores
//! the others, so that a misspelt rule would let every input pass.

use std::cell::RefCell;

use jsonschema::Validator;
use serde_json::Value;

use super::field_of;
use crate::error::Problem;
use crate::suggestion::nearest;

/// Keywords with a schema, or an array of schemas.
const SCHEMAS: [&str; 16] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords with an object of schemas, by names of the author's choice.
const NAMED_SCHEMAS: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];
/// The other keywords, of all drafts.
const OTHERS: [&str; 41] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "id",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
];
const OWN_PREFIX: &str = "x-";
const FORMATS: [&str; 17] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// `None` with a problem when the schema is not valid.
pub fn compile(schema: &Value, problems: &RefCell<Vec<Problem>>) -> Option<Validator> {
    let field = "input";
    check_keywords(schema, field, problems);
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| {
            let field = field_of(field, error.instance_path().as_str());
            let message = format!("is no valid JSON Schema: {error}");
            problems.borrow_mut().push(Problem::new(field, error.instance(), message));
        })
        .ok()
}

fn check_keywords(schema: &Value, path: &str, problems: &RefCell<Vec<Problem>>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let field = format!("{path}.{keyword}");
        let name = keyword.as_str();
        if SCHEMAS.contains(&name) {
            check_schemas(value, &field, problems);
        } else if NAMED_SCHEMAS.contains(&name) {
            for (name, schema) in value.as_object().into_iter().flatten() {
                check_keywords(schema, &format!("{field}.{name}"), problems);
            }
        } else if name == "format" {
            let unknown = value.as_str().filter(|format| !FORMATS.contains(format));
            let remedy =
                unknown.map(|format| suggestion("is an unknown format", format, &FORMATS, &FORMATS.join(", ")));
            problems.borrow_mut().extend(remedy.map(|remedy| Problem::new(field, value, remedy)));
        } else if !OTHERS.contains(&name) && !name.starts_with(OWN_PREFIX) {
            let known = [&SCHEMAS[..], &NAMED_SCHEMAS, &OTHERS].concat();
            let remedy = suggestion("is no keyword of JSON Schema", name, &known, "remove it, or begin it with x-");
            problems.borrow_mut().push(Problem::new(field, value, remedy));
        }
    }
}

fn check_schemas(value: &Value, field: &str, problems: &RefCell<Vec<Problem>>) {
    match value.as_array() {
        Some(schemas) => schemas
            .iter()
            .enumerate()
            .for_each(|(index, schema)| check_keywords(schema, &format!("{field}[{index}]"), problems)),
        None => check_keywords(value, field, problems),
    }
}

fn suggestion(problem: &str, word: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(word, known) {
        Some(nearest) => format!("{problem}: did you mean `{nearest}`?"),
        None => format!("{problem}: {otherwise}"),
    }
}
