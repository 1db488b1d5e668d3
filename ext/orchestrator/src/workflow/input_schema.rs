//! Compiles the JSON Schema of a task's input, and converts its errors.
//!
//! Invariant: every keyword is one of JSON Schema or begins with `x-`, and every format is checked. JSON Schema itself
//! ignores unknown ones, so a misspelt rule would accept every input.

use std::cell::RefCell;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::error::Problem;
use crate::suggestion::nearest;

/// Keywords whose value is a schema or an array of schemas.
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
/// Keywords whose value is an object of schemas, under names that the author chooses.
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

/// Returns `None`, and adds a problem, if the schema is invalid.
pub fn compile(schema: &Value, problems: &RefCell<Vec<Problem>>) -> Option<Validator> {
    let field = "input";
    check_keywords(schema, field, problems);
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| {
            let field = field_of(field, error.instance_path().as_str());
            let message = format!("is not a valid JSON Schema: {}", error.masked_with("it"));
            problems.borrow_mut().push(Problem::new(field, error.instance(), message));
        })
        .ok()
}

/// Converts the schema library's error to problems with fields, values and remedies.
pub fn problems(error: &ValidationError<'_>) -> Vec<Problem> {
    let field = field_of("", error.instance_path().as_str());
    let below = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![Problem::new(below(name), &Value::Null, "is missing: the workflow requires it")]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected
            .iter()
            .map(|name| Problem::new(below(name), &error.instance()[name], "is not a field of this input: remove it"))
            .collect(),
        kind => {
            let field = if field.is_empty() { "input".to_owned() } else { field };
            let problem = match kind {
                ValidationErrorKind::PropertyNames { error } => {
                    Problem::new(field, error.instance(), format!("is the name of a field, and {}", mistake(error)))
                }
                _ => Problem::new(field, error.instance(), mistake(error)),
            };
            vec![problem]
        }
    }
}

/// The predicate of an error, without the value: that may be long, and it may be filtered from logs.
fn mistake(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::AdditionalItems { limit } => format!("has more items than {limit}"),
        ValidationErrorKind::UnevaluatedItems { .. } => "has items that the schema does not allow".to_owned(),
        ValidationErrorKind::Constant { expected_value } => format!("must be {expected_value}"),
        ValidationErrorKind::Contains => "has no item that matches the schema in `contains`".to_owned(),
        ValidationErrorKind::FalseSchema => "is not allowed: remove it".to_owned(),
        ValidationErrorKind::Not { schema } => format!("must not match {schema}"),
        _ => {
            let text = error.masked_with("it").to_string();
            text.strip_prefix("it ").unwrap_or(&text).to_owned()
        }
    }
}

/// Converts a JSON pointer to the usual notation of paths: `/lines/0/sku` to `lines[0].sku`.
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
            let remedy = suggestion("is not a JSON Schema keyword", name, &known, "remove it, or prefix it with x-");
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
