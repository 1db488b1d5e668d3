//! Steps that run an Active Job: the keys `job` and `arguments`, and the paths in arguments.
//!
//! Invariant: a path of a compiled workflow is well-formed, and every step that it names has ended when the job runs.
//! Neighbours: `definition` reads the other keys; `lib/tasker_core/worker/job_arguments.rb` resolves the paths.

use std::cell::RefCell;
use std::collections::HashSet;

use serde_json::Value;

use crate::error::Problem;
use crate::suggestion::nearest;
use crate::workflow::reader::Reader;

/// Follows the class's name in the handler of such a step: `ChargeCardJob.perform_now`.
const SUFFIX: &str = ".perform_now";
/// The member of such a step's stored `config` that has the arguments.
const ARGUMENTS: &str = "$arguments";
/// The member of an argument that stands for a record: `{"$global_id": "$.input.order"}`.
const GLOBAL_ID: &str = "$global_id";
/// Beginning of the names that Active Job reserves for itself.
const RESERVED: &str = "_aj_";
const ROOTS: [&str; 3] = ["input", "results", "config"];
const REMEDY: &str =
    "is not a path: write $.input.NAME, $.results.STEP.NAME or $.config.NAME; a literal string begins with $$. instead";

/// The handler of a step that has `job`. The key must not be null.
pub fn handler(reader: &Reader<'_>) -> Option<String> {
    if let Some(handler) = reader.value("handler") {
        reader.report("handler", handler, "contradicts `job`: remove one of them");
    }
    let job = reader.text("job")?;
    if job.is_empty() {
        reader.report("job", &Value::from(""), "must name the job's class");
    }
    Some(format!("{job}{SUFFIX}"))
}

/// Whether a handler that an author wrote has the form that only steps with `job` have.
pub fn is_job(handler: &str) -> bool {
    handler.ends_with(SUFFIX)
}

/// Adds the step's arguments to its `config`, where they are stored.
pub fn add_arguments(config: &mut Value, reader: &Reader<'_>) {
    let Some(arguments) = reader.value("arguments") else { return };
    if reader.value("job").is_none() {
        reader.report("arguments", arguments, "has no effect without `job`");
    }
    if !arguments.is_array() && !arguments.is_object() {
        reader.report("arguments", arguments, "must be an array, or an object of keyword arguments");
    }
    if let Some(config) = config.as_object_mut() {
        if let Some(taken) = config.insert(ARGUMENTS.to_owned(), arguments.clone()) {
            reader.report(&format!("config.{ARGUMENTS}"), &taken, "has a reserved name: rename it");
        }
    }
}

/// Whether a stored `config` has arguments.
pub fn has_arguments(config: &Value) -> bool {
    config.get(ARGUMENTS).is_some()
}

/// The values that the paths in a step's arguments may refer to.
pub struct Scope<'a> {
    /// The schema of the workflow's input.
    pub input: Option<&'a Value>,
    /// The step's stored `config`, with its arguments.
    pub config: &'a Value,
    /// Names of the steps that end before this one starts.
    pub ancestors: &'a HashSet<&'a str>,
    /// Names of all steps of the workflow.
    pub steps: &'a [&'a str],
}

/// Reports every path in the step's arguments that is malformed, or certainly finds nothing. `field` is the step's.
pub fn check_arguments(field: &str, scope: &Scope<'_>, problems: &RefCell<Vec<Problem>>) {
    if let Some(arguments) = scope.config.get(ARGUMENTS) {
        check(arguments, &format!("{field}.arguments"), scope, &mut |field, value, message| {
            problems.borrow_mut().push(Problem::new(field, value, message));
        });
    }
}

fn check(value: &Value, field: &str, scope: &Scope<'_>, report: &mut dyn FnMut(&str, &Value, String)) {
    match value {
        Value::String(text) if text.starts_with("$.") => {
            if let Some(message) = problem_of(text, scope) {
                report(field, value, message);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(item, &format!("{field}[{index}]"), scope, report);
            }
        }
        Value::Object(members) => {
            let is_record = members.contains_key(GLOBAL_ID);
            if is_record && (members.len() > 1 || !members[GLOBAL_ID].is_string()) {
                report(field, value, format!("must have `{GLOBAL_ID}` alone, with a path or a string"));
            }
            for (name, member) in members {
                let field = format!("{field}.{name}");
                if name.starts_with(RESERVED) {
                    report(&field, member, "has a name that Active Job reserves: rename it".to_owned());
                }
                check(member, &field, scope, report);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn problem_of(text: &str, scope: &Scope<'_>) -> Option<String> {
    let Some(keys) = keys_of(text) else { return Some(REMEDY.to_owned()) };
    match keys.as_slice() {
        [Key::Name("input"), rest @ ..] => problem_of_input(rest, scope),
        [Key::Name("config"), rest @ ..] => (!finds(scope.config, rest))
            .then(|| "finds nothing in the step's `config`: correct the path, or add the field".to_owned()),
        [Key::Name("results"), Key::Name(step), ..] => problem_of_step(step, scope),
        [Key::Name("results"), ..] => Some("names no step: write $.results.STEP".to_owned()),
        [Key::Name(root), ..] => Some(nearest(root, &ROOTS).map_or_else(
            || REMEDY.to_owned(),
            |nearest| format!("begins with an unknown name: did you mean `$.{nearest}`?"),
        )),
        [Key::Index(_), ..] | [] => Some(REMEDY.to_owned()),
    }
}

/// Fields of an input whose schema allows no others.
fn problem_of_input(keys: &[Key<'_>], scope: &Scope<'_>) -> Option<String> {
    let schema = scope.input?.as_object()?;
    let closed =
        schema.get("additionalProperties") == Some(&Value::Bool(false)) && !schema.contains_key("patternProperties");
    let fields: Vec<&str> = schema.get("properties")?.as_object()?.keys().map(String::as_str).collect();
    match keys.first() {
        Some(Key::Name(name)) if closed && !fields.contains(name) => Some(nearest(name, &fields).map_or_else(
            || "is not a field of the workflow's input".to_owned(),
            |nearest| format!("is not a field of the workflow's input: did you mean `$.input.{nearest}`?"),
        )),
        _ => None,
    }
}

fn problem_of_step(step: &str, scope: &Scope<'_>) -> Option<String> {
    if scope.ancestors.contains(step) {
        return None;
    }
    if scope.steps.contains(&step) {
        return Some(format!("names a step that may not have ended: add `{step}` to `depends_on`"));
    }
    let ancestors: Vec<&str> = scope.ancestors.iter().copied().collect();
    Some(nearest(step, &ancestors).map_or_else(
        || "names a step that the workflow does not have".to_owned(),
        |nearest| format!("names a step that the workflow does not have: did you mean `$.results.{nearest}`?"),
    ))
}

fn finds(value: &Value, keys: &[Key<'_>]) -> bool {
    let found = keys.iter().try_fold(value, |value, key| match key {
        Key::Name(name) => value.get(name).filter(|_| *name != ARGUMENTS),
        Key::Index(index) => value.get(index),
    });
    found.is_some()
}

/// A part of a path: the name of an object's member, or an index of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

/// Divides `$.name["any name"][0]`; `None` if it is malformed.
fn keys_of(path: &str) -> Option<Vec<Key<'_>>> {
    let mut rest = path.strip_prefix('$')?;
    let mut keys = Vec::new();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (name, after) = quoted.split_once("\"]")?;
            (!name.contains('"')).then(|| keys.push(Key::Name(name)))?;
            rest = after;
        } else if let Some(bracketed) = rest.strip_prefix('[') {
            let (digits, after) = bracketed.split_once(']')?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
            keys.push(Key::Index(digits.parse().ok()?));
            rest = after;
        } else {
            let named = rest.strip_prefix('.')?;
            let (name, after) = named.split_at(named.find(['.', '[']).unwrap_or(named.len()));
            (!name.is_empty() && !name.contains([']', '"'])).then(|| keys.push(Key::Name(name)))?;
            rest = after;
        }
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_divided_into_names_and_indexes() {
        use Key::{Index, Name};
        let cases: [(&str, Option<&[Key<'_>]>); 16] = [
            ("$.input", Some(&[Name("input")])),
            ("$.input.a b.é", Some(&[Name("input"), Name("a b"), Name("é")])),
            ("$.input.a[0][12].b", Some(&[Name("input"), Name("a"), Index(0), Index(12), Name("b")])),
            (r#"$.input["a.b[0]"].c"#, Some(&[Name("input"), Name("a.b[0]"), Name("c")])),
            (r#"$.input[""]"#, Some(&[Name("input"), Name("")])),
            ("$.", None),
            ("$.input.", None),
            ("$.input..a", None),
            ("$.input[", None),
            ("$.input[]", None),
            ("$.input[-1]", None),
            ("$.input[+1]", None),
            ("$.input[a]", None),
            ("$.input[0]a", None),
            (r#"$.input["a]"#, None),
            ("$.input.a]", None),
        ];
        for (path, keys) in cases {
            assert_eq!(keys_of(path).as_deref(), keys, "{path}");
        }
    }
}
