//! What PostgreSQL can store of a payload: an input or a result as JSON text.
//!
//! Invariant: one pass over the text, no value is built; this is on the path of every step. Neighbours: `workflow`
//! checks inputs, `orchestrator` results. Text that is no JSON at all is found where it is parsed.

use std::fmt;

use serde_json::Value;

use crate::configuration::Limits;

/// Why a payload cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadProblem {
    TooLarge {
        bytes: usize,
        limit: usize,
    },
    TooDeep {
        limit: usize,
    },
    /// jsonb has no null character.
    NullCharacter {
        offset: usize,
    },
    /// jsonb is UTF-8, in which half of a pair stands for nothing.
    LoneSurrogate {
        offset: usize,
    },
    NotAnObject,
}

impl fmt::Display for PayloadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, limit } => write!(
                f,
                "has {bytes} bytes of JSON, and limits.payload_bytes is {limit}: store the data elsewhere and pass a reference"
            ),
            Self::TooDeep { limit } => {
                write!(f, "is nested more than {limit} deep (limits.payload_depth): make it flatter")
            }
            Self::NullCharacter { offset } => write!(
                f,
                "has a null character (\\u0000) at byte {offset}, which PostgreSQL cannot store: remove or encode it"
            ),
            Self::LoneSurrogate { offset } => write!(
                f,
                "has half of a surrogate pair (\\ud800 to \\udfff) at byte {offset}, which is no character: remove it or write both halves"
            ),
            Self::NotAnObject => write!(f, "must be a JSON object"),
        }
    }
}

/// Checks size, depth, null characters and surrogates of a JSON text that is an object.
///
/// # Errors
/// The first problem.
pub fn check(text: &str, limits: &Limits) -> Result<(), PayloadProblem> {
    if text.len() > limits.payload_bytes {
        return Err(PayloadProblem::TooLarge { bytes: text.len(), limit: limits.payload_bytes });
    }
    if !text.trim_start().starts_with('{') {
        return Err(PayloadProblem::NotAnObject);
    }
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut at = 0;
    while at < bytes.len() {
        match (in_string, bytes[at]) {
            (true, b'\\') => match code_unit(&bytes[at..]) {
                Some(0) => return Err(PayloadProblem::NullCharacter { offset: at }),
                Some(0xD800..=0xDBFF) if matches!(code_unit(&bytes[at + 6..]), Some(0xDC00..=0xDFFF)) => at += 11,
                Some(0xD800..=0xDFFF) => return Err(PayloadProblem::LoneSurrogate { offset: at }),
                Some(_) | None => at += 1,
            },
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > limits.payload_depth {
                    return Err(PayloadProblem::TooDeep { limit: limits.payload_depth });
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The number of a `\uXXXX` that the bytes start with.
fn code_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(br"\u")?.get(..4)?;
    digits
        .iter()
        .try_fold(0, |unit: u16, &digit| Some(unit << 4 | u16::try_from(char::from(digit).to_digit(16)?).ok()?))
}

/// Where the first null character stands in a name or a text, as a path: `lines[0].note`.
pub fn null_character(value: &Value) -> Option<String> {
    path_to_null(value, String::new())
}

fn path_to_null(value: &Value, path: String) -> Option<String> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
        Value::String(text) => text.contains('\0').then_some(path),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| path_to_null(item, format!("{path}[{index}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, item)| {
            let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if name.contains('\0') {
                return Some(field.replace('\0', "\\u0000"));
            }
            path_to_null(item, field)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Configuration;
    use proptest::prelude::*;
    use serde_json::{json, Map};

    #[test]
    fn what_cannot_be_stored_is_named() {
        let limits = Limits { payload_bytes: 40, payload_depth: 3, ..Configuration::load(None).unwrap().limits };
        let deep = PayloadProblem::TooDeep { limit: 3 };
        let cases = [
            (r#"{"a":1}"#, Ok(())),
            (r#"{"a":"\\u0000"}"#, Ok(())),
            (r#"{"a":"\u0000"}"#, Err(PayloadProblem::NullCharacter { offset: 6 })),
            (r#"{"a":"\ud83d\ude00\ud83d\udE00"}"#, Ok(())),
            (r#"{"a":"\\ud800"}"#, Ok(())),
            (r#"{"a":"\ud800"}"#, Err(PayloadProblem::LoneSurrogate { offset: 6 })),
            (r#"{"a":"x\uDE00"}"#, Err(PayloadProblem::LoneSurrogate { offset: 7 })),
            (r#"{"a":"\ud83d\u0041"}"#, Err(PayloadProblem::LoneSurrogate { offset: 6 })),
            (r#"{"a":"\ud83d"#, Err(PayloadProblem::LoneSurrogate { offset: 6 })),
            (r#"{"\u0000":1}"#, Err(PayloadProblem::NullCharacter { offset: 2 })),
            (r#"{"a":"\"#, Ok(())),
            (r#"{"a":"[[[[[{{{"}"#, Ok(())),
            (r#"{"a":"\"[[[[["}"#, Ok(())),
            (r#"{"a":[[1]]}"#, Ok(())),
            (r#"{"a":[[[1]]]}"#, Err(deep)),
            ("[]", Err(PayloadProblem::NotAnObject)),
            ("", Err(PayloadProblem::NotAnObject)),
            (
                r#"{"a":"0123456789012345678901234567890123456789"}"#,
                Err(PayloadProblem::TooLarge { bytes: 48, limit: 40 }),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(check(text, &limits), expected, "{text}");
        }
    }

    #[test]
    fn a_null_character_is_found_in_names_and_texts() {
        let cases = [
            (json!({"a": [1, {"b": "x\0"}]}), Some("a[1].b")),
            (json!({"a": {"b\0": 1}}), Some("a.b\\u0000")),
            (json!({"a": ["\\u0000", null, true]}), None),
        ];
        for (value, path) in cases {
            assert_eq!(null_character(&value).as_deref(), path, "{value}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), any_text().prop_map(Value::from)];
        leaf.prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((any_text(), inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    fn any_text() -> impl Strategy<Value = String> {
        proptest::string::string_regex(r#"[a\x00"\\{}\[\]u0😀]{0,6}"#).expect("the pattern is valid")
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    proptest! {
        #[test]
        fn the_scan_finds_what_a_parsed_value_shows(inner in any_value(), payload_depth in 1..6_usize) {
            let value = json!({ "payload": inner });
            let limits = Limits { payload_depth, ..Configuration::load(None).unwrap().limits };
            let storable = null_character(&value).is_none() && depth(&value) <= payload_depth;
            prop_assert_eq!(check(&value.to_string(), &limits).is_ok(), storable, "{}", value);
        }

        #[test]
        fn no_text_makes_the_scan_fail_otherwise_than_with_a_problem(
            text in r#"\{["\\u0dDeE8{}\[\]a]{0,40}"#
        ) {
            let _ = check(&text, &Configuration::load(None).unwrap().limits);
        }
    }
}
