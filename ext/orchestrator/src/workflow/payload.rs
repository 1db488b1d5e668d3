//! Checks that PostgreSQL can store a payload: an input or a result as JSON text.
//!
//! Invariant: one pass over the text without building values, as this runs for every step. Neighbours: `workflow`
//! checks inputs, `orchestrator` results. Invalid JSON is detected where it is parsed.

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
    /// jsonb is UTF-8, in which half of a surrogate pair is not a character.
    LoneSurrogate {
        offset: usize,
    },
    /// The number has more digits than jsonb can store; an exponent can express it in a few characters.
    LongNumber {
        offset: usize,
    },
    /// A name that the JSON library uses to mark special values: it would be read as another value.
    ReservedName {
        offset: usize,
    },
    NotAnObject,
}

/// Maximum digits of PostgreSQL's numeric before and after the decimal point.
const MAX_DIGITS: usize = 131_072;
const MAX_DECIMALS: usize = 16_383;
const RESERVED: &str = "$serde_json::private::";

impl fmt::Display for PayloadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, limit } => write!(
                f,
                "has {bytes} bytes of JSON, and limits.payload_bytes is {limit}: store the data elsewhere and pass a reference"
            ),
            Self::TooDeep { limit } => {
                write!(f, "is nested more than {limit} levels deep (limits.payload_depth): reduce the nesting")
            }
            Self::NullCharacter { offset } => write!(
                f,
                "has a null character (\\u0000) at byte {offset}, which PostgreSQL cannot store: remove or encode it"
            ),
            Self::LoneSurrogate { offset } => write!(
                f,
                "has half of a surrogate pair (\\ud800 to \\udfff) at byte {offset}, which is not a character: remove it or write both halves"
            ),
            Self::LongNumber { offset } => write!(
                f,
                "has a number of more than {MAX_DIGITS} digits, or {MAX_DECIMALS} decimals, at byte {offset}, which PostgreSQL cannot store: send it as a string"
            ),
            Self::ReservedName { offset } => {
                write!(f, "has a name that begins with {RESERVED} at byte {offset}: rename it")
            }
            Self::NotAnObject => write!(f, "must be a JSON object"),
        }
    }
}

/// Checks the JSON text of an object: its size, its depth, and everything that PostgreSQL cannot store.
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
    let mut written_out = bytes.len();
    let mut depth = 0_usize;
    let mut string = None;
    let mut at = 0;
    while at < bytes.len() {
        match (string, bytes[at]) {
            (Some(_), b'\\') => match code_unit(&bytes[at..]) {
                Some(0) => return Err(PayloadProblem::NullCharacter { offset: at }),
                Some(0xD800..=0xDBFF) if matches!(code_unit(&bytes[at + 6..]), Some(0xDC00..=0xDFFF)) => at += 11,
                Some(0xD800..=0xDFFF) => return Err(PayloadProblem::LoneSurrogate { offset: at }),
                Some(_) | None => at += 1,
            },
            (Some(start), b'"') => {
                if is_reserved(&text[start..=at]) {
                    return Err(PayloadProblem::ReservedName { offset: start });
                }
                string = None;
            }
            (None, b'"') => string = Some(at),
            (None, b'{' | b'[') => {
                depth += 1;
                if depth > limits.payload_depth {
                    return Err(PayloadProblem::TooDeep { limit: limits.payload_depth });
                }
            }
            (None, b'}' | b']') => depth = depth.saturating_sub(1),
            (None, b'0'..=b'9') => {
                let number = NumberLiteral::of(&bytes[at..]);
                if !number.is_storable() {
                    return Err(PayloadProblem::LongNumber { offset: at });
                }
                written_out += number.exponent.unsigned_abs();
                at += number.length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    // PostgreSQL returns 1e9 with ten digits: a few bytes must not become gigabytes in every claim.
    if written_out > limits.payload_bytes {
        return Err(PayloadProblem::TooLarge { bytes: written_out, limit: limits.payload_bytes });
    }
    Ok(())
}

/// Whether the JSON library would read an object with this name (a JSON string) as another value.
fn is_reserved(name: &str) -> bool {
    let spelled_out = name.starts_with("\"$");
    let spelled_otherwise = name.starts_with(r#""\u0024"#);
    (spelled_out || spelled_otherwise)
        && serde_json::from_str::<String>(name).is_ok_and(|name| name.starts_with(RESERVED))
}

/// The notation of a number: its digits before and after the point, and its exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NumberLiteral {
    digits: usize,
    decimals: usize,
    exponent: isize,
    /// Bytes.
    length: usize,
}

impl NumberLiteral {
    /// The number, without its sign, at the start of the bytes.
    fn of(bytes: &[u8]) -> Self {
        let count =
            |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = count(0);
        let mut length = digits;
        let mut decimals = 0;
        if bytes.get(length) == Some(&b'.') {
            decimals = count(length + 1);
            length += 1 + decimals;
        }
        let mut exponent = 0_isize;
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let signed = matches!(bytes.get(length + 1), Some(b'+' | b'-'));
            let from = length + 1 + usize::from(signed);
            let to = from + count(from);
            exponent = bytes[from.min(to)..to.min(bytes.len())]
                .iter()
                .fold(0, |sum: isize, byte| sum.saturating_mul(10).saturating_add(isize::from(byte - b'0')));
            if bytes.get(length + 1) == Some(&b'-') {
                exponent = -exponent;
            }
            length = to.min(bytes.len());
        }
        Self { digits, decimals, exponent, length }
    }

    fn is_storable(self) -> bool {
        let signed = |digits: usize| isize::try_from(digits).unwrap_or(isize::MAX);
        signed(self.digits).saturating_add(self.exponent) <= signed(MAX_DIGITS)
            && signed(self.decimals).saturating_sub(self.exponent) <= signed(MAX_DECIMALS)
    }
}

/// The code unit of a `\uXXXX` at the start of the bytes.
fn code_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(br"\u")?.get(..4)?;
    digits
        .iter()
        .try_fold(0, |unit: u16, &digit| Some(unit << 4 | u16::try_from(char::from(digit).to_digit(16)?).ok()?))
}

/// The first part of a value that PostgreSQL cannot store: its path (`lines[0].note`) and the problem.
pub fn unstorable(value: &Value) -> Option<(String, Unstorable)> {
    search(value, String::new())
}

/// The reason why PostgreSQL cannot store a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstorable {
    NullCharacter,
    LongNumber,
}

impl fmt::Display for Unstorable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NullCharacter => write!(f, "has a null character (\\u0000), which PostgreSQL cannot store: remove it"),
            Self::LongNumber => write!(
                f,
                "is a number of more than {MAX_DIGITS} digits, or {MAX_DECIMALS} decimals, which PostgreSQL cannot store: write a string"
            ),
        }
    }
}

fn search(value: &Value, path: String) -> Option<(String, Unstorable)> {
    match value {
        Value::Null | Value::Bool(_) => None,
        Value::Number(number) => {
            let text = number.to_string();
            let spelling = NumberLiteral::of(text.trim_start_matches('-').as_bytes());
            (!spelling.is_storable()).then_some((path, Unstorable::LongNumber))
        }
        Value::String(text) => text.contains('\0').then_some((path, Unstorable::NullCharacter)),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| search(item, format!("{path}[{index}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, item)| {
            let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if name.contains('\0') {
                return Some((field.replace('\0', "\\u0000"), Unstorable::NullCharacter));
            }
            search(item, field)
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
    fn an_unstorable_payload_is_named() {
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
    fn unstorable_names_texts_and_numbers_are_found() {
        let null = |path: &str| Some((path.to_owned(), Unstorable::NullCharacter));
        let cases = [
            (r#"{"a": [1, {"b": "x\u0000"}]}"#, null("a[1].b")),
            (r#"{"a": {"b\u0000": 1}}"#, null("a.b\\u0000")),
            (r#"{"a": ["\\u0000", null, true, -1e131071]}"#, None),
            (r#"{"a": [-1e131072]}"#, Some(("a[0]".to_owned(), Unstorable::LongNumber))),
        ];
        for (text, found) in cases {
            assert_eq!(unstorable(&serde_json::from_str(text).unwrap()), found, "{text}");
        }
    }

    /// The bounds are PostgreSQL's own, which `tests/foreign_text_test.rs` verifies.
    #[test]
    fn numbers_are_measured_as_they_are_written_out() {
        let limits = Limits { payload_bytes: 200_021, ..Configuration::load(None).unwrap().limits };
        let cases = [
            ("1e131071", true),
            ("1e131072", false),
            ("-12.5E+131070", true),
            ("-12.5E+131071", false),
            ("1e-16383", true),
            ("1.5e-16383", false),
            ("0e999999999999999999999999", false),
            ("[1e99999,1e99999]", true),
            ("[1e99999,1e99999,1e1]", false),
            ("\"1e999999\"", true),
        ];
        for (number, is_storable) in cases {
            assert_eq!(check(&format!(r#"{{"n":{number}}}"#), &limits).is_ok(), is_storable, "{number}");
        }
        for text in ["1e", "1e+", "1.", "1.e-", "1"] {
            assert_eq!(NumberLiteral::of(text.as_bytes()).length, text.len(), "{text}");
        }
    }

    #[test]
    fn a_name_reserved_by_the_json_library_is_rejected() {
        let limits = Configuration::load(None).unwrap().limits;
        for text in
            [r#"{"a":{"$serde_json::private::Number":"5"}}"#, r#"{"\u0024serde_json::private\u003a:RawValue":"5"}"#]
        {
            assert!(matches!(check(text, &limits), Err(PayloadProblem::ReservedName { .. })), "{text}");
        }
        assert_eq!(check(r#"{"$serde_json":"$serde","\u0024":1}"#, &limits), Ok(()));
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
            let is_storable = unstorable(&value).is_none() && depth(&value) <= payload_depth;
            prop_assert_eq!(check(&value.to_string(), &limits).is_ok(), is_storable, "{}", value);
        }

        #[test]
        fn no_text_breaks_the_scan(
            text in r#"\{["\\u0dDeE8{}\[\]a]{0,40}"#
        ) {
            let _ = check(&text, &Configuration::load(None).unwrap().limits);
        }
    }
}
