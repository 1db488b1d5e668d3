//! The text of a line: one JSON object, or a sentence with fields for people.
//!
//! Invariants: the standard fields come first and always in this order; a line has no invisible characters and none
//! that move a terminal's text. Neighbours: `lib/tasker_core/logging/format.rb` and `visible_text.rb` write Ruby's
//! lines by the same rules; `spec/fixtures/logging/lines.json` tests both.

use std::borrow::Cow;
use std::fmt::Write;

use serde::ser::{SerializeMap, Serializer};
use serde::Deserialize;
use serde_json::Value;

use super::record::Record;

/// The fields after timestamp, level and message; missing ones are left out.
const STANDARD: [&str; 9] = [
    "correlation_id",
    "task_id",
    "workflow",
    "step",
    "attempt",
    "process",
    "duration_ms",
    "error.class",
    "error.message",
];

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object.
    Json,
    /// A sentence with fields, for people.
    Human,
}

/// Fields of every line.
pub type Constants = serde_json::Map<String, Value>;

type Entries<'a> = Vec<(Cow<'a, str>, Cow<'a, Value>)>;

impl Format {
    /// The line for a logger that itself adds time and level to the human format. `constants` are added to every line.
    pub fn line(self, record: &Record, constants: &Constants) -> String {
        visible(match self {
            Self::Json => json(record, constants),
            Self::Human => human(record, constants),
        })
    }

    /// The line with time and level in either format.
    pub fn stamped_line(self, record: &Record, constants: &Constants) -> String {
        match self {
            Self::Json => self.line(record, constants),
            Self::Human => format!("{} {} {}", timestamp(record), record.level, self.line(record, constants)),
        }
    }
}

/// Escapes invisible characters as JSON does: control characters, and marks that have no width or change the direction
/// of text. A JSON text has these only in strings, so its value stays the same.
fn visible(line: String) -> String {
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !line.chars().any(unseen) {
        return line;
    }
    let mut text = String::with_capacity(line.len() + 16);
    for char in line.chars() {
        match char {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            char if unseen(char) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    write!(text, "\\u{unit:04x}").expect("a String takes everything");
                }
            }
            char => text.push(char),
        }
    }
    text
}

/// The same characters as Ruby's `VisibleText::UNSEEN`.
fn unseen(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn timestamp(record: &Record) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_micros(record.at)
}

fn json(record: &Record, constants: &Constants) -> String {
    let mut text = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut text);
    let written = serializer.serialize_map(None).and_then(|mut map| {
        map.serialize_entry("timestamp", &timestamp(record).to_string())?;
        map.serialize_entry("level", &record.level.as_str().to_lowercase())?;
        map.serialize_entry("message", &record.message)?;
        for (name, value) in entries(record, constants) {
            map.serialize_entry(&name, &value)?;
        }
        map.end()
    });
    written.expect("text and JSON values can be written as JSON");
    String::from_utf8(text).expect("JSON is UTF-8")
}

fn human(record: &Record, constants: &Constants) -> String {
    let mut line = format!("tasker_core: {}", record.message);
    for (name, value) in entries(record, constants) {
        match value.as_ref() {
            Value::String(text) if plain(text) => write!(line, " {name}={text}"),
            value => write!(line, " {name}={value}"),
        }
        .expect("a String takes everything");
    }
    line
}

/// Whether a text needs no quotation marks.
fn plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || "_.:/+-".contains(char))
}

/// The standard fields, then the event's other fields, then the constants. An event's value overrides the context's,
/// and both override a constant.
fn entries<'a>(record: &'a Record, constants: &'a Constants) -> Entries<'a> {
    let own = |name: &str| record.fields.iter().find(|(own, _)| own == name).map(|(_, value)| Cow::Borrowed(value));
    let standard = STANDARD.iter().filter_map(|name| {
        let value = own(name).or_else(|| of_context(record, name).map(Cow::Owned))?;
        Some((Cow::Borrowed(*name), value))
    });
    let is_standard = |name: &str| STANDARD.contains(&name);
    let others = record.fields.iter().filter(|(name, _)| !is_standard(name));
    let constants = constants.iter().filter(|(name, _)| !is_standard(name) && own(name).is_none());
    let others = others
        .map(|(name, value)| (name, value))
        .chain(constants)
        .map(|(name, value)| (Cow::Borrowed(name.as_str()), Cow::Borrowed(value)));
    standard.chain(others).collect()
}

fn of_context(record: &Record, name: &str) -> Option<Value> {
    let context = &record.context;
    match name {
        "correlation_id" => context.correlation_id.map(|id| id.to_string().into()),
        "task_id" => context.task_id.map(Value::from),
        "workflow" => context.workflow.as_deref().map(Value::from),
        "step" => context.step.as_deref().map(Value::from),
        "attempt" => context.attempt.map(Value::from),
        "process" => Some(record.process.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::LogContext;
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};
    use tracing::Level;

    #[derive(Deserialize)]
    struct Case {
        about: String,
        microseconds: u64,
        level: String,
        message: String,
        process: u32,
        context: Context,
        fields: Vec<(String, Value)>,
        constants: Vec<(String, Value)>,
        json: String,
        human: String,
    }

    #[derive(Deserialize)]
    struct Context {
        correlation_id: Option<String>,
        task_id: Option<i64>,
        workflow: Option<String>,
        step: Option<String>,
        attempt: Option<u32>,
    }

    #[test]
    fn lines_are_written_as_the_fixture_shows_which_ruby_reads_too() {
        let path = format!("{}/../../spec/fixtures/logging/lines.json", env!("CARGO_MANIFEST_DIR"));
        let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let record = Record {
                at: UNIX_EPOCH + Duration::from_micros(case.microseconds),
                level: case.level.parse::<Level>().unwrap(),
                message: case.message,
                context: Arc::new(LogContext {
                    correlation_id: case.context.correlation_id.map(|id| id.parse().unwrap()),
                    task_id: case.context.task_id,
                    workflow: case.context.workflow,
                    step: case.context.step,
                    attempt: case.context.attempt,
                }),
                process: case.process,
                fields: case.fields,
            };
            let constants = case.constants.into_iter().collect();
            assert_eq!(Format::Json.line(&record, &constants), case.json, "{}", case.about);
            assert_eq!(Format::Human.line(&record, &constants), case.human, "{}", case.about);
            assert_eq!(Format::Json.stamped_line(&record, &constants), case.json, "{}", case.about);
        }
    }
}
