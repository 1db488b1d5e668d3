//! Untrusted text: almost JSON, unusual JSON, very long numbers, truncated characters.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, Index};
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use serde_json::{Map, Number, Value};

/// Runs PROPTEST_CASES cases, by default `by_default`. A failure is reported in its smallest form, and its seed is
/// stored beside the test, so that the next run starts with it.
pub fn cases(by_default: u32) -> Config {
    let requested = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let seeds = FileFailurePersistence::WithSource("seeds");
    Config {
        cases: requested.unwrap_or(by_default),
        max_shrink_iters: 2000,
        failure_persistence: Some(Box::new(seeds)),
        source_file: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign_text_test.rs")),
        ..Config::default()
    }
}

/// Like `cases`, for properties that need a database: a fiftieth of them, each of many texts.
pub fn runner(by_default: u32) -> TestRunner {
    let config = cases(by_default * 50);
    TestRunner::new(Config { cases: (config.cases / 50).max(1), ..config })
}

/// Numbers of JSON, and malformed ones.
pub fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,8})?([eE][+-]?[0-9]{1,2})?",
        2 => r"-?[0-9](\.[0-9]{1,3})?[eE][+-]?[0-9]{1,7}",
        1 => r"-?0(\.0{0,9})?[eE][+-]?[0-9]{1,19}",
        1 => (1..3000_usize).prop_map(|digits| "7".repeat(digits)),
        1 => (1..20_000_usize).prop_map(|digits| format!("0.{}", "3".repeat(digits))),
        1 => select(&["1e400", "-1e400", "1e-400", "1e131071", "1e131072", "1e-16383", "1e-16384", "-0", "-0.0", "0e131072",
            "9223372036854775808", "18446744073709551616", "1e99999999999999999999"][..]).prop_map(str::to_owned),
        1 => select(&["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "0x10", "1e", "--1", "1_000", "1 2"][..])
            .prop_map(str::to_owned),
    ]
}

/// Strings of JSON with their quotation marks, and malformed ones: escapes, pairs and halves of surrogates, null
/// characters.
pub fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[ -~&&[^\"\\\\]]{0,6}",
        2 => any::<char>().prop_filter("a control character is escaped", |c| !c.is_control() && !"\"\\".contains(*c)).prop_map(String::from),
        2 => select(&[r"\n", r"\/", r"\\", "\\\"", r"\u0001", r"\u001f", r"\u00e9", r"\u007f", r"\uffff", r"\ud83d\ude00",
            r"\uD83D\uDE00", "\u{2028}", "\u{feff}", "é", "😀", "\u{7f}", "\u{85}"][..]).prop_map(str::to_owned),
        1 => select(&[r"\u0000", r"\ud800", r"\udc00", r"\ude00\ud83d", r"\ud83d\u0041", r"\u12", r"\x", "\\", "\n", "\t", "\0",
            r"\\u0000", r"\\\u0000", "\""][..]).prop_map(str::to_owned),
    ];
    vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 2 => select(&[" ", "\n", "\t", "\r\n"][..]), 1 => select(&["\u{a0}", "\u{b}", "\u{feff}", "//", ""][..])]
}

/// The text of one JSON value, or nearly.
pub fn json_text() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        3 => number(),
        3 => string(),
        2 => select(&["true", "false", "null"][..]).prop_map(str::to_owned),
        1 => select(&["nil", "True", "undefined", "'a'", "", "/**/1", "{", "]"][..]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            vec((space(), inner.clone()), 0..4).prop_map(|items| format!(
                "[{}]",
                items.iter().map(|(s, it)| format!("{s}{it}")).collect::<Vec<_>>().join(",")
            )),
            vec((key(), space(), inner), 0..4).prop_map(|fields| object(&fields)),
        ]
    })
    .boxed()
}

/// Names that often repeat; some have a meaning for the parser.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "\"[ab]\"",
        3 => string(),
        1 => select(&["\"$serde_json::private::Number\"", "\"$serde_json::private::RawValue\"", "\"__proto__\"", "\"\"", "a"][..])
            .prop_map(str::to_owned),
    ]
}

fn object(fields: &[(String, &str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, space, value)| format!("{name}{space}:{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// The text of an object, or nearly; in one of four, a piece is cut out, doubled, or replaced.
pub fn object_text() -> impl Strategy<Value = String> {
    let whole = vec((key(), space(), json_text()), 0..4).prop_map(|fields| object(&fields)).boxed();
    prop_oneof![3 => whole.clone(), 1 => (whole, any::<Index>(), any::<Index>(), any::<char>(), 0..3).prop_map(damaged)]
}

fn damaged((text, from, to, put, how): (String, Index, Index, char, i32)) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let (one, other) = (from.index(characters.len()), to.index(characters.len()));
    match how {
        0 => characters[one] = put,
        1 => drop(characters.drain(one.min(other)..one.max(other))),
        _ => characters.extend_from_within(one.min(other)..one.max(other)),
    }
    characters.into_iter().collect()
}

/// Text that nests `depth` deep, in arrays and objects.
pub fn nested(depth: usize) -> String {
    let open = r#"{"a":["#;
    format!("{}{}{}", open.repeat(depth / 2), "1", "]}".repeat(depth / 2))
}

/// Any value, like those of a user who guesses a definition or a setting.
pub fn value() -> BoxedStrategy<Value> {
    const WORDS: &[&str] = &[
        "",
        " ",
        "a",
        "b",
        "c",
        "1e308s",
        "-1s",
        "1.5h",
        "99999999999999999999y",
        "NaN",
        "inf",
        "1s",
        "5 m",
        "1ms 1ms",
        "300ms",
        "none",
        "exponentil",
        "*",
        "a\0b",
        "\u{0}",
        "é😀",
        "A",
        "A#b",
        "1.0.0",
        "integer",
        "#",
        "\u{202e}",
        "${x}",
        "a.b",
        "[0]",
        "\u{2028}",
        "---",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number().prop_filter_map("no number of JSON", |text| text.parse::<Number>().ok().map(Value::Number)),
        (-3..2000_i64).prop_map(Value::from),
        select(WORDS).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        (100..3000_usize).prop_map(|length| Value::from("x".repeat(length))),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z_]{0,8}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
    .boxed()
}

/// A change of one place of a value.
#[derive(Debug, Clone)]
pub enum Change {
    Replace(Value),
    Remove,
    Rename(String),
    Double,
    /// Replaces the value with one from another place.
    Copy(Index),
}

/// A change and the place it is made at.
pub fn change() -> impl Strategy<Value = (Index, Change)> {
    let change = prop_oneof![
        4 => value().prop_map(Change::Replace),
        1 => Just(Change::Remove),
        1 => prop_oneof!["[a-z_]{1,9}", any::<String>()].prop_map(Change::Rename),
        1 => Just(Change::Double),
        2 => any::<Index>().prop_map(Change::Copy),
    ];
    (any::<Index>(), change)
}

/// The value with changes made to it.
pub fn changed(mut value: Value, changes: Vec<(Index, Change)>) -> Value {
    for (place, change) in changes {
        let places = places(&value);
        let Some((parent, name)) = places.get(place.index(places.len().max(1))).cloned() else { return value };
        let elsewhere = match &change {
            Change::Copy(index) => {
                let (parent, name) = &places[index.index(places.len())];
                value.pointer(&format!("{parent}/{name}")).cloned()
            }
            Change::Replace(_) | Change::Remove | Change::Rename(_) | Change::Double => None,
        };
        match value.pointer_mut(&parent) {
            Some(Value::Object(fields)) => {
                change_field(fields, &name.replace("~1", "/").replace("~0", "~"), change, elsewhere)
            }
            Some(Value::Array(items)) => change_item(items, name.parse().unwrap(), change, elsewhere),
            _ => {}
        }
    }
    value
}

fn change_field(fields: &mut Map<String, Value>, name: &str, change: Change, elsewhere: Option<Value>) {
    let old = fields.remove(name).unwrap_or(Value::Null);
    match change {
        Change::Replace(new) => drop(fields.insert(name.to_owned(), new)),
        Change::Remove => {}
        Change::Rename(new) => drop(fields.insert(new, old)),
        Change::Double => drop(fields.insert(name.to_owned(), Value::from(vec![old.clone(), old]))),
        Change::Copy(_) => drop(fields.insert(name.to_owned(), elsewhere.unwrap_or(old))),
    }
}

fn change_item(items: &mut Vec<Value>, index: usize, change: Change, elsewhere: Option<Value>) {
    match change {
        Change::Replace(new) => items[index] = new,
        Change::Remove => drop(items.remove(index)),
        Change::Double => items.insert(index, items[index].clone()),
        Change::Rename(_) => items.swap(0, index),
        Change::Copy(_) => items[index] = elsewhere.unwrap_or(Value::Null),
    }
}

/// Every place below the top: the pointer to its container, and its own last part.
fn places(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), value)];
    while let Some((path, value)) = open.pop() {
        let below: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                fields.iter().map(|(name, it)| (name.replace('~', "~0").replace('/', "~1"), it)).collect()
            }
            Value::Array(items) => items.iter().enumerate().map(|(index, it)| (index.to_string(), it)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
        };
        for (name, it) in below {
            open.push((format!("{path}/{name}"), it));
            found.push((path.clone(), name));
        }
    }
    found
}
