//! The schema of the settings, read from `config/tasker-core.yaml`.
//!
//! A setting is a line `key: default   # constraint; reason`. The constraint is `1 to 10` (integers, numbers, durations
//! or sizes, like the default), `one of a, b`, `true or false`, `a name`, `names`, `texts`, `texts NAME=VALUE`, `a URL`
//! or `a header`, with an explanation in brackets behind it. A line that ends with a colon opens a section, and the
//! comment above it describes the section. `"*"` matches every name that an application chooses.
//!
//! Invariant: no default, range or explanation of a setting is anywhere else. Neighbours: `configuration` applies
//! values over the defaults; `retry_policy` and workflow definitions read the settings of a step by the same rules.

use std::time::Duration;

use config::{Config, File, FileFormat};
use once_cell::sync::Lazy;
use serde::Serialize;
use serde_json::{json, Value};

use crate::suggestion::nearest;

const TEXT: &str = include_str!("../../../../config/tasker-core.yaml");

/// The name whose settings are the defaults of all others.
pub const ANY: &str = "*";

static SCHEMA: Lazy<Schema> = Lazy::new(|| Schema::read(TEXT));

/// The schema of this build.
pub fn schema() -> &'static Schema {
    &SCHEMA
}

/// All sections and settings, in the order of the file.
#[derive(Debug)]
pub struct Schema {
    pub sections: Vec<Section>,
    pub settings: Vec<Setting>,
    /// Every default, as an application would write them.
    pub defaults: Value,
}

/// A group of settings: `database.pool`.
#[derive(Debug, Serialize)]
pub struct Section {
    pub path: String,
    pub purpose: String,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// `database.pool.max_connections`
    pub path: String,
    pub default: Value,
    pub kind: Kind,
    /// The allowed values, in the words of the file.
    pub allowed: String,
    pub reason: String,
}

/// The allowed values of a setting. Ranges include both ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Boolean,
    Integer(i64, i64),
    Number(f64, f64),
    Duration(Duration, Duration),
    /// Bytes.
    Size(u64, u64),
    Choice(Vec<String>),
    /// The name of one queue.
    Name,
    /// Names of queues, or `*`.
    Names,
    /// Names of queues, without `*`.
    NamesOrNone,
    /// Any texts, or none.
    Texts,
    /// Any number of texts `NAME=VALUE`.
    Assignments,
    /// With the scheme `http` or `https`; empty for none.
    Url,
    /// The name of an HTTP header.
    Header,
}

const MAX_NAME_LENGTH: usize = 100;

impl Schema {
    fn read(text: &str) -> Self {
        let defaults: Value = Config::builder()
            .add_source(File::from_str(text, FileFormat::Yaml))
            .build()
            .and_then(Config::try_deserialize)
            .expect("config/tasker-core.yaml is part of the build");
        let mut schema = Self { sections: Vec::new(), settings: Vec::new(), defaults };
        let mut within: Vec<&str> = Vec::new();
        let mut above: Vec<&str> = Vec::new();
        for line in text.lines() {
            let content = line.trim_start();
            if let Some(comment) = content.strip_prefix('#') {
                above.push(comment.trim());
                continue;
            }
            let Some((key, rest)) = content.split_once(':') else {
                above.clear();
                continue;
            };
            within.truncate((line.len() - content.len()) / 2);
            within.push(key.trim_matches('"'));
            let path = within.join(".");
            match rest.split_once('#') {
                None => schema.sections.push(Section { path, purpose: above.join(" ") }),
                Some((_, comment)) => schema.settings.push(Setting::read(path, comment.trim(), &schema.defaults)),
            }
            above.clear();
        }
        schema
    }

    /// The setting with this path, which may have a name of the application in the place of `*`.
    pub fn setting(&self, path: &str) -> Option<&Setting> {
        self.index_of(path).map(|place| &self.settings[place])
    }

    /// The index of a path's setting, in the order of the file.
    pub fn index_of(&self, path: &str) -> Option<usize> {
        self.settings.iter().position(|setting| matches(&setting.path, path))
    }

    /// Whether a path is that of a section.
    pub fn is_section(&self, path: &str) -> bool {
        self.sections.iter().any(|section| matches(&section.path, path))
    }

    /// The names of the sections and settings directly below a section; the root is the empty path.
    pub fn names_below(&self, path: &str) -> Vec<&str> {
        let paths = self.sections.iter().map(|section| &section.path).chain(self.settings.iter().map(|it| &it.path));
        paths
            .filter_map(|candidate| match candidate.rsplit_once('.') {
                Some((parent, name)) => matches(parent, path).then_some(name),
                None => path.is_empty().then_some(candidate.as_str()),
            })
            .collect()
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut names = path.split('.');
    pattern.split('.').all(|part| names.next().is_some_and(|name| part == ANY || part == name))
        && names.next().is_none()
}

impl Setting {
    fn read(path: String, comment: &str, defaults: &Value) -> Self {
        let (allowed, reason) = comment.split_once(';').expect("a setting's comment has a constraint and a reason");
        let pointer = format!("/{}", path.replace('.', "/"));
        let default = defaults.pointer(&pointer).expect("a line of a setting is YAML").clone();
        let kind = Kind::of(allowed.split('(').next().unwrap_or(allowed).trim(), &default);
        Self { path, default, kind, allowed: allowed.to_owned(), reason: reason.trim().to_owned() }
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        variable(&self.path)
    }
}

/// The environment variable of a path.
pub fn variable(path: &str) -> String {
    format!("TASKER_CORE__{}", path.replace('.', "__").to_uppercase())
}

impl Kind {
    fn of(allowed: &str, default: &Value) -> Self {
        let range =
            || allowed.split_once(" to ").expect("a range, one of, true or false, a name, names, strings, or a URL");
        match (allowed, default) {
            ("true or false", _) => Self::Boolean,
            ("a name", _) => Self::Name,
            ("names", _) => Self::Names,
            ("names, or none", _) => Self::NamesOrNone,
            ("strings", _) => Self::Texts,
            ("strings NAME=VALUE", _) => Self::Assignments,
            ("a URL", _) => Self::Url,
            ("a header", _) => Self::Header,
            (_, Value::Number(number)) if number.is_i64() => {
                let bound = |text: &str| text.parse().expect("a range of integers");
                Self::Integer(bound(range().0), bound(range().1))
            }
            (_, Value::Number(_)) => {
                let bound = |text: &str| text.parse().expect("a range of numbers");
                Self::Number(bound(range().0), bound(range().1))
            }
            _ if allowed.starts_with("one of ") => {
                Self::Choice(allowed["one of ".len()..].split(", ").map(str::to_owned).collect())
            }
            _ if allowed.ends_with('B') => {
                let bound = |text: &str| size(text).expect("a range of sizes");
                Self::Size(bound(range().0), bound(range().1))
            }
            _ => {
                let bound = |text: &str| humantime::parse_duration(text).expect("a range of durations");
                Self::Duration(bound(range().0), bound(range().1))
            }
        }
    }

    /// The value in the form in which the program has it: durations in seconds, sizes in bytes.
    ///
    /// # Errors
    /// The allowed values, as the predicate of a sentence: "must be true or false".
    pub fn read(&self, value: &Value) -> Result<Value, String> {
        let read = match self {
            Self::Boolean => value.as_bool().map(Value::from),
            Self::Integer(min, max) => value.as_i64().filter(|number| (min..=max).contains(&number)).map(Value::from),
            Self::Number(min, max) => value.as_f64().filter(|number| (min..=max).contains(&number)).map(Value::from),
            Self::Duration(min, max) => {
                duration(value).filter(|it| (min..=max).contains(&it)).map(|it| json!(it.as_secs_f64()))
            }
            Self::Size(min, max) => {
                let bytes = value.as_u64().or_else(|| value.as_str().and_then(size));
                bytes.filter(|bytes| (min..=max).contains(&bytes)).map(Value::from)
            }
            Self::Choice(choices) => choices.iter().find(|choice| value == choice.as_str()).map(|it| json!(it)),
            Self::Name => value.as_str().filter(|name| is_name(name)).map(Value::from),
            Self::Names => names(value),
            Self::NamesOrNone => texts(value, is_name),
            Self::Texts => texts(value, |_| true),
            Self::Assignments => texts(value, |text| text.split_once('=').is_some_and(|(name, _)| is_name(name))),
            Self::Url => value.as_str().filter(|url| url.is_empty() || is_url(url)).map(Value::from),
            Self::Header => value.as_str().filter(|name| is_header(name)).map(Value::from),
        };
        read.ok_or_else(|| self.remedy(value))
    }

    /// A value from text, as environment variables have it.
    pub fn parse(&self, text: &str) -> Value {
        match self {
            Self::Boolean | Self::Integer(..) | Self::Number(..) => {
                serde_json::from_str(text).unwrap_or_else(|_| text.into())
            }
            Self::Duration(..) | Self::Size(..) => text.parse::<f64>().map_or_else(|_| text.into(), number),
            Self::Texts | Self::Assignments if text.is_empty() => json!([]),
            Self::Names | Self::NamesOrNone | Self::Texts | Self::Assignments => {
                text.split(',').map(str::trim).collect()
            }
            Self::Choice(_) | Self::Name | Self::Url | Self::Header => text.into(),
        }
    }

    /// The value without the user and the password of a URL.
    pub fn without_secrets(&self, value: Value) -> Value {
        match self {
            Self::Url => without_passwords(&value),
            _ => value,
        }
    }

    fn remedy(&self, value: &Value) -> String {
        match self {
            Self::Boolean => "must be true or false".to_owned(),
            Self::Integer(min, max) => format!("must be an integer from {min} to {max}"),
            Self::Number(min, max) => format!("must be a number from {min} to {max}"),
            Self::Duration(min, max) => format!(
                "must be a duration from {} to {}: seconds, or a string such as \"300ms\", \"30s\", \"5m\"",
                humantime::format_duration(*min),
                humantime::format_duration(*max)
            ),
            Self::Size(min, max) => {
                format!("must be a size from {min} to {max} bytes: a number, or a string such as \"512KiB\", \"1MiB\"")
            }
            Self::Choice(choices) => {
                let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
                match value.as_str().and_then(|word| nearest(word, &choices)) {
                    Some(nearest) => format!("must be one of {}: did you mean `{nearest}`?", choices.join(", ")),
                    None => format!("must be one of {}", choices.join(", ")),
                }
            }
            Self::Name => {
                format!("must be a name of 1 to {MAX_NAME_LENGTH} bytes without spaces and commas, other than `{ANY}`")
            }
            Self::Names => {
                format!("must name a queue, each name without spaces and commas: [\"{ANY}\"] is every queue")
            }
            Self::NamesOrNone => {
                format!("must be a list of names of queues without spaces and commas, other than `{ANY}`; [] for none")
            }
            Self::Texts => "must be a list of strings".to_owned(),
            Self::Assignments => "must be a list of strings such as [\"service=shop\"]".to_owned(),
            Self::Url => "must be a URL such as \"https://payments.example.com/v1\"".to_owned(),
            Self::Header => "must be the name of an HTTP header such as \"X-Request-ID\"".to_owned(),
        }
    }
}

/// The value without the users and passwords of the URLs in it, for messages: one may be the value of a misspelt
/// setting.
pub fn without_passwords(value: &Value) -> Value {
    match value {
        Value::String(text) => without_user(text).map_or_else(|| value.clone(), Value::from),
        Value::Array(items) => items.iter().map(without_passwords).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), without_passwords(field))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A URL with a user, without it; also one whose scheme is missing, if it has a password: `ada:secret@bank.example`.
fn without_user(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + "://".len()));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@')?;
    (!scheme.is_empty() || user.contains(':')).then(|| format!("{scheme}***@{host}{path}"))
}

fn duration(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) => humantime::parse_duration(text).ok(),
        Value::Number(number) => number.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number as an integer, which a size must be.
fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// Bytes: `268435455B`, `512KiB`, `1MB`.
fn size(text: &str) -> Option<u64> {
    let unit_at = text.find(|character: char| !character.is_ascii_digit())?;
    let factor: u64 = match text[unit_at..].trim() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        _ => return None,
    };
    text[..unit_at].parse::<u64>().ok()?.checked_mul(factor)
}

/// Not with commas, which separate names on command lines, or with spaces, which are invisible at the end of a name.
fn is_name(name: &str) -> bool {
    let separates = |character: char| character.is_whitespace() || character.is_control() || character == ',';
    !name.is_empty() && name != ANY && name.len() <= MAX_NAME_LENGTH && !name.contains(separates)
}

fn names(value: &Value) -> Option<Value> {
    let names = value.as_array().filter(|names| !names.is_empty())?;
    names.iter().all(|name| name.as_str().is_some_and(|name| name == ANY || is_name(name))).then(|| value.clone())
}

fn texts(value: &Value, fits: impl Fn(&str) -> bool) -> Option<Value> {
    let texts = value.as_array()?;
    texts.iter().all(|text| text.as_str().is_some_and(&fits)).then(|| value.clone())
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    host.is_some_and(|host| !host.is_empty()) && !text.contains(char::is_whitespace)
}

/// Only letters, digits and hyphens: servers change or drop the other characters that a header's name may have.
fn is_header(name: &str) -> bool {
    let edges = [name.bytes().next(), name.bytes().last()];
    name.len() <= MAX_NAME_LENGTH
        && edges.iter().all(|edge| edge.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_valid_default_and_a_reason() {
        assert!(schema().settings.len() > 40);
        for setting in &schema().settings {
            assert_eq!(setting.kind.read(&setting.default).err(), None, "{}", setting.path);
            assert!(!setting.reason.is_empty() && !setting.allowed.is_empty(), "{}", setting.path);
        }
        for section in &schema().sections {
            assert!(!section.purpose.is_empty(), "{} has no purpose", section.path);
        }
        let mut leaves = 0;
        fn count(value: &Value, leaves: &mut usize) {
            match value.as_object() {
                Some(object) => object.values().for_each(|value| count(value, leaves)),
                None => *leaves += 1,
            }
        }
        count(&schema().defaults, &mut leaves);
        assert_eq!(leaves, schema().settings.len(), "each value of the file is a setting");
    }

    /// A section for each group of settings, as `docs/configuration.md` has it.
    fn markdown() -> String {
        schema().sections.iter().map(section).collect::<String>() + "\n"
    }

    fn section(Section { path, purpose }: &Section) -> String {
        let of_section = |setting: &&Setting| setting.path.rsplit_once('.').is_some_and(|(parent, _)| parent == path);
        let rows: String = schema().settings.iter().filter(of_section).map(row).collect();
        let head =
            if rows.is_empty() { "" } else { "\n| setting | default | allowed | meaning |\n|---|---|---|---|\n" };
        format!("\n## {path}\n\n{purpose}\n{head}{rows}")
    }

    fn row(Setting { path, default, allowed, reason, .. }: &Setting) -> String {
        format!("| `{path}` | `{}` | {allowed} | {reason} |\n", default.to_string().trim_matches('"'))
    }

    #[test]
    fn the_document_has_the_settings() {
        crate::document::verify("docs/configuration.md", &markdown());
    }

    #[test]
    fn no_password_is_shown() {
        let shown = |url: &str| Kind::Url.without_secrets(url.into());
        assert_eq!(shown("https://ada:secret@x.example:1/y@z"), "https://***@x.example:1/y@z");
        assert_eq!(shown("https://x.example/a@b"), "https://x.example/a@b");
        assert_eq!(shown("ada:secret@x.example/y"), "***@x.example/y");
        assert_eq!(shown("ada@x.example"), "ada@x.example");
        assert_eq!(Kind::Name.without_secrets("a://b@c".into()), "a://b@c");
    }

    #[test]
    fn values_are_read_by_their_kind_and_refused_beyond_its_ends() {
        let second = Duration::from_secs(1);
        let cases = [
            (Kind::Boolean, json!(true), Ok(json!(true))),
            (Kind::Boolean, json!("true"), Err("true or false")),
            (Kind::Integer(1, 3), json!(3), Ok(json!(3))),
            (Kind::Integer(1, 3), json!(4), Err("an integer from 1 to 3")),
            (Kind::Integer(1, 3), json!(1.5), Err("an integer from 1 to 3")),
            (Kind::Number(0.0, 1.0), json!(1), Ok(json!(1.0))),
            (Kind::Number(0.0, 1.0), json!(1.01), Err("a number from 0 to 1")),
            (Kind::Duration(second, second * 60), json!("1m"), Ok(json!(60.0))),
            (Kind::Duration(second, second * 60), json!(1.5), Ok(json!(1.5))),
            (Kind::Duration(second, second * 60), json!("61s"), Err("a duration from 1s to 1m")),
            (Kind::Duration(second, second * 60), json!("soon"), Err("a duration from 1s to 1m")),
            (Kind::Size(1, 1 << 21), json!("2MiB"), Ok(json!(1 << 21))),
            (Kind::Size(1, 1 << 21), json!(10), Ok(json!(10))),
            (Kind::Size(1, 1 << 21), json!("3MB"), Err("a size from 1 to 2097152 bytes")),
            (Kind::Size(1, 1 << 21), json!("3 bananas"), Err("a size from 1 to 2097152 bytes")),
            (Kind::Choice(vec!["none".into(), "fixed".into()]), json!("fixd"), Err("did you mean `fixed`?")),
            (Kind::Name, json!("a"), Ok(json!("a"))),
            (Kind::Name, json!("*"), Err("other than `*`")),
            (Kind::Names, json!(["a", "*"]), Ok(json!(["a", "*"]))),
            (Kind::Names, json!([]), Err("must name a queue")),
            (Kind::Names, json!([""]), Err("must name a queue")),
            (Kind::Name, json!("high priority"), Err("without spaces and commas")),
            (Kind::Name, json!("high,low"), Err("without spaces and commas")),
            (Kind::Name, json!("high\n"), Err("without spaces and commas")),
            (Kind::NamesOrNone, json!([]), Ok(json!([]))),
            (Kind::NamesOrNone, json!(["payments"]), Ok(json!(["payments"]))),
            (Kind::NamesOrNone, json!(["*"]), Err("other than `*`; [] for none")),
            (Kind::Names, json!(["high", " low"]), Err("without spaces and commas")),
            (Kind::Texts, json!([]), Ok(json!([]))),
            (Kind::Texts, json!(["a b"]), Ok(json!(["a b"]))),
            (Kind::Texts, json!("a"), Err("a list of strings")),
            (Kind::Assignments, json!(["service=shop"]), Ok(json!(["service=shop"]))),
            (Kind::Assignments, json!(["service"]), Err(r#"such as ["service=shop"]"#)),
            (Kind::Assignments, json!(["=shop"]), Err(r#"such as ["service=shop"]"#)),
            (Kind::Url, json!("https://x.example/y"), Ok(json!("https://x.example/y"))),
            (Kind::Url, json!("x.example"), Err("must be a URL")),
            (Kind::Url, json!("https:///y"), Err("must be a URL")),
        ];
        for (kind, value, expected) in cases {
            match (kind.read(&value), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected),
                (Err(message), Err(part)) => assert!(message.contains(part), "{value}: {message}"),
                (read, expected) => panic!("{kind:?} of {value} is {read:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn text_of_the_environment_becomes_a_value_of_the_kind() {
        let second = Duration::from_secs(1);
        for (kind, text, value) in [
            (Kind::Boolean, "false", json!(false)),
            (Kind::Integer(1, 3), "2", json!(2)),
            (Kind::Integer(1, 3), "two", json!("two")),
            (Kind::Duration(second, second), "1.5", json!(1.5)),
            (Kind::Duration(second, second), "5m", json!("5m")),
            (Kind::Size(1, 2), "2", json!(2)),
            (Kind::Names, "a, b", json!(["a", "b"])),
            (Kind::Texts, "", json!([])),
            (Kind::Assignments, "a=b, c=", json!(["a=b", "c="])),
            (Kind::Name, "12", json!("12")),
        ] {
            assert_eq!(kind.parse(text), value);
        }
    }

    #[test]
    fn a_named_section_is_read_by_the_wildcards_schema() {
        assert_eq!(schema().setting("systems.payments.base_url").unwrap().path, "systems.*.base_url");
        assert!(schema().is_section("systems.payments") && schema().is_section("database.pool"));
        assert!(schema().setting("systems.payments").is_none() && schema().setting("execution.thread").is_none());
        assert!(schema().names_below("").contains(&"execution") && !schema().names_below("").contains(&"pool"));
        assert_eq!(schema().names_below("systems.x").len(), 4);
    }
}
