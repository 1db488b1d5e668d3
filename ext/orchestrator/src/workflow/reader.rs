//! Reads a document field by field and collects all its problems.
//!
//! Invariant: a missing field is `None`; a wrong one is `None` and a problem. Neighbour: `definition` reads workflows
//! with it.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::configuration::schema::schema;
use crate::error::Problem;
use crate::suggestion::nearest;

/// An object of the document, with its path.
pub struct Reader<'a> {
    path: String,
    object: Option<&'a Map<String, Value>>,
    problems: &'a RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    /// Reads `value` at `path`; a value that is not an object is a problem and has no fields.
    pub fn new(path: impl Into<String>, value: &'a Value, problems: &'a RefCell<Vec<Problem>>) -> Self {
        let path = path.into();
        if !value.is_object() {
            problems.borrow_mut().push(Problem::new(name_of(&path), value, "must be an object with named fields"));
        }
        Self { path, object: value.as_object(), problems }
    }

    /// Adds a problem for every field that is not in `known`, with the nearest one that is.
    pub fn reject_unknown_keys(&self, known: &[&str]) {
        for (key, value) in self.object.into_iter().flatten() {
            if !known.contains(&key.as_str()) {
                let suggestion = nearest(key, known).map_or_else(
                    || format!("expected one of {}", known.join(", ")),
                    |nearest| format!("did you mean `{nearest}`?"),
                );
                self.report(key, value, format!("is an unknown key: {suggestion}"));
            }
        }
    }

    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.and_then(|object| object.get(key)).filter(|value| !value.is_null())
    }

    pub fn field(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Adds a problem with a field.
    pub fn report(&self, key: &str, value: &Value, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::new(self.field(key), value, message));
    }

    /// Adds the problem that a field is missing.
    pub fn report_missing(&self, key: &str, remedy: &str) {
        self.report(key, &Value::Null, format!("is missing: {remedy}"));
    }

    pub fn section(&self, key: &str) -> Option<Reader<'a>> {
        self.value(key).map(|value| Reader::new(self.field(key), value, self.problems))
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        let value = self.value(key)?;
        value.as_str().or_else(|| {
            self.report(key, value, "must be a string");
            None
        })
    }

    pub fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        value.as_bool().or_else(|| {
            self.report(key, value, "must be true or false");
            None
        })
    }

    pub fn integer<T: TryFrom<i64>>(&self, key: &str, range: RangeInclusive<i64>) -> Option<T> {
        let value = self.value(key)?;
        let number = value.as_i64().filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.report(key, value, format!("must be an integer from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A value with the type and range of the setting at `path`; `remedy` is added to the problem.
    pub fn setting(&self, key: &str, path: &str, remedy: &str) -> Option<Value> {
        let value = self.value(key)?;
        let setting = schema().setting(path).expect("a path of the schema");
        setting.kind.read(value).map_err(|message| self.report(key, value, message + remedy)).ok()
    }

    pub fn texts(&self, key: &str) -> Option<Vec<&'a str>> {
        let value = self.value(key)?;
        let texts = value.as_array().and_then(|items| items.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        if texts.is_none() {
            self.report(key, value, "must be an array of strings");
        }
        texts
    }
}

fn name_of(path: &str) -> &str {
    if path.is_empty() {
        "the document"
    } else {
        path
    }
}
