//! The settings in force: the gem's defaults, overridden by the application's sources layer by layer.
//!
//! Invariant: an unknown key, a wrong type and a value out of range are errors in every source, and all are reported
//! together. Neighbours: `schema` describes the settings; every module reads its section from here.

pub mod schema;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Environment, File, FileFormat};
use serde::{Deserialize, Serialize};
use serde_json::{json, Map, Value};

use crate::configuration::schema::{schema, variable, without_passwords, Schema, ANY};
use crate::error::{Error, Problem, Problems};
use crate::serde_seconds;
use crate::suggestion::nearest;

/// The key in a file below which the environments' own settings are.
const ENVIRONMENTS: &str = "environments";
const PREFIX: &str = "TASKER_CORE";
const SEPARATOR: &str = "__";

/// All settings, by section. `config/tasker-core.yaml` describes each, with its unit and range. As JSON, durations are
/// in seconds and sizes in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Configuration {
    pub database: Database,
    pub execution: Execution,
    pub retry: RetryPolicy,
    pub steps: Steps,
    pub systems: Systems,
    pub leases: Leases,
    pub dispatch: Dispatch,
    pub discovery: Discovery,
    pub maintenance: Maintenance,
    pub retention: Retention,
    pub events: Events,
    pub subscriptions: Subscriptions,
    pub correlation: Correlation,
    pub logging: Logging,
    pub api: Api,
    pub dashboard: Dashboard,
    pub limits: Limits,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Database {
    pub pool: Pool,
    #[serde(with = "serde_seconds")]
    pub connect_timeout: Duration,
    #[serde(with = "serde_seconds")]
    pub statement_timeout: Duration,
    #[serde(with = "serde_seconds")]
    pub lock_timeout: Duration,
    pub poll_only: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pool {
    pub max_connections: u32,
    pub min_connections: u32,
    #[serde(with = "serde_seconds")]
    pub acquire_timeout: Duration,
    #[serde(with = "serde_seconds")]
    pub idle_timeout: Duration,
    #[serde(with = "serde_seconds")]
    pub max_lifetime: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Execution {
    pub threads: usize,
    pub processes: usize,
    pub queues: Vec<String>,
    pub claim_batch: usize,
    pub claim_bytes: usize,
    pub claim_ahead: usize,
    #[serde(with = "serde_seconds")]
    pub claim_ahead_wait: Duration,
    pub hand_over_limit: usize,
    pub parallel_steps_per_task: usize,
    pub flush_size: usize,
    pub flush_bytes: usize,
    pub undelivered_bytes: usize,
    #[serde(with = "serde_seconds")]
    pub flush_delay: Duration,
    pub statements: usize,
    #[serde(with = "serde_seconds")]
    pub shutdown_timeout: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Steps {
    #[serde(with = "serde_seconds")]
    pub timeout: Duration,
    pub queue: String,
}

/// External systems by name; `*` has the defaults of all others.
pub type Systems = BTreeMap<String, System>;

/// An external system that steps depend on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct System {
    pub base_url: String,
    #[serde(with = "serde_seconds")]
    pub connect_timeout: Duration,
    #[serde(with = "serde_seconds")]
    pub read_timeout: Duration,
    pub concurrency: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Leases {
    #[serde(with = "serde_seconds")]
    pub heartbeat_interval: Duration,
    #[serde(with = "serde_seconds")]
    pub process_timeout: Duration,
    #[serde(with = "serde_seconds")]
    pub deadline_grace: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dispatch {
    pub queues: Vec<String>,
    pub in_flight: usize,
    pub batch: usize,
    #[serde(with = "serde_seconds")]
    pub start_timeout: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Discovery {
    #[serde(with = "serde_seconds")]
    pub poll_interval: Duration,
    #[serde(with = "serde_seconds")]
    pub poll_only_interval: Duration,
    pub poll_jitter: f64,
    #[serde(with = "serde_seconds")]
    pub notify_debounce: Duration,
    #[serde(with = "serde_seconds")]
    pub unknown_handler_delay: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Maintenance {
    #[serde(with = "serde_seconds")]
    pub sweep_interval: Duration,
    pub sweep_limit: usize,
    #[serde(with = "serde_seconds")]
    pub audit_interval: Duration,
    pub audit_limit: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Retention {
    pub enabled: bool,
    #[serde(with = "serde_seconds")]
    pub keep: Duration,
    #[serde(with = "serde_seconds")]
    pub interval: Duration,
    pub limit: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Events {
    pub buffer_capacity: usize,
    pub batch_size: usize,
    #[serde(with = "serde_seconds")]
    pub flush_interval: Duration,
    pub overflow: Overflow,
    pub notifications: bool,
}

/// The shape of the delays between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// No delay.
    None,
    /// `base`
    Fixed,
    /// `base` × the number of attempts so far.
    Linear,
    /// `base` × `factor` to the power of (attempts so far − 1)
    Exponential,
}

/// Attempts and delays of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Executions, the first one included; at least 1.
    pub max_attempts: u32,
    pub backoff: Backoff,
    #[serde(with = "serde_seconds")]
    pub base: Duration,
    pub factor: f64,
    /// Maximum delay, before jitter.
    #[serde(with = "serde_seconds")]
    pub cap: Duration,
    /// Fraction by which a delay varies in both directions.
    pub jitter: f64,
}

/// What happens to an event when the buffer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The publisher waits.
    Block,
    /// The oldest event is dropped.
    DropOldest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subscriptions {
    pub deliver: bool,
    #[serde(with = "serde_seconds")]
    pub poll_interval: Duration,
    pub batch_size: usize,
    #[serde(with = "serde_seconds")]
    pub commit_interval: Duration,
}

/// Read by Ruby.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Correlation {
    pub middleware: bool,
    pub header: String,
    pub jobs: bool,
}

/// `logger` means that Ruby's logger decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Logging {
    pub level: String,
    pub format: String,
    pub tags: bool,
    /// `NAME=VALUE`
    pub fields: Vec<String>,
    pub filter: Vec<String>,
    pub buffer_capacity: usize,
}

/// Read by Ruby.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Api {
    pub enabled: bool,
    pub page_size: usize,
    pub max_page_size: usize,
    pub body_bytes: usize,
    pub scan_limit: usize,
}

/// Read by Ruby.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dashboard {
    pub enabled: bool,
    pub page_size: usize,
    #[serde(with = "serde_seconds")]
    pub refresh_interval: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limits {
    pub payload_bytes: usize,
    pub payload_depth: usize,
    pub steps_per_workflow: usize,
}

/// The application's sources of settings, from the weakest to the strongest.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sources {
    /// Its `config/tasker-core.yaml`, if it has one.
    pub file: Option<PathBuf>,
    /// The name of the environment, whose section overrides the rest of the file.
    pub environment: Option<String>,
    /// The application's environments, if known: the file may have sections for these only.
    pub environments: Option<Vec<String>>,
    /// Environment variables. Those that begin with `TASKER_CORE__` are settings; others that spell a setting with
    /// single underscores are errors.
    pub variables: HashMap<String, String>,
    /// Settings of the program itself.
    pub overrides: Option<Value>,
}

impl Sources {
    /// Whether a section for an environment of this name can ever apply. If the environments are not known, any can.
    fn has_environment(&self, name: &str) -> bool {
        let Some(environments) = &self.environments else { return true };
        self.environment.as_deref() == Some(name) || environments.iter().any(|known| known == name)
    }

    fn remedy_for(&self, name: &str) -> String {
        let known: Vec<&str> = self.environments.iter().flatten().map(String::as_str).collect();
        match nearest(name, &known) {
            Some(nearest) => format!("is not an environment of this application: did you mean `{nearest}`?"),
            None => format!("is not an environment of this application: expected one of {}", known.join(", ")),
        }
    }
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Origin(String);

impl Origin {
    fn default() -> Self {
        Self("default".to_owned())
    }

    /// The source, unless it is the gem itself.
    fn source(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|_| *self != Self::default())
    }
}

/// One setting in force.
#[derive(Debug, Clone, Serialize)]
pub struct Effective {
    /// `execution.threads`
    pub path: String,
    /// Durations in seconds, sizes in bytes.
    #[serde(skip)]
    pub value: Value,
    /// As written in its source, without secrets.
    pub written: Value,
    pub allowed: &'static str,
    pub reason: &'static str,
    pub origin: Origin,
}

/// A value as converted, as written, and its source.
#[derive(Debug, Clone)]
struct Given {
    value: Value,
    written: Value,
    origin: Origin,
}

impl Effective {
    fn new(path: String, given: Given) -> Self {
        let setting = schema().setting(&path).expect("only settings are read");
        let Given { value, written, origin } = given;
        let written = setting.kind.without_secrets(written);
        Self { path, value, written, allowed: &setting.allowed, reason: &setting.reason, origin }
    }
}

/// Determines the settings in force and the source of each.
#[derive(Debug, Clone)]
pub struct ConfigurationManager {
    configuration: Configuration,
    effective: Vec<Effective>,
}

/// The settings of one source, by path.
struct Layer {
    values: BTreeMap<String, Given>,
}

impl ConfigurationManager {
    /// Reads every source and overrides each with the stronger ones.
    ///
    /// # Errors
    /// `Error::Configuration` with every file that cannot be read, unknown key, wrong type and value out of range, each
    /// with its source.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let mut values: BTreeMap<String, Given> = BTreeMap::new();
        for setting in &schema().settings {
            let value = setting.kind.read(&setting.default).expect("a test holds every default against its range");
            let given = Given { value, written: setting.default.clone(), origin: Origin::default() };
            values.insert(setting.path.clone(), given);
        }
        for layer in layers(sources, &mut problems) {
            values.extend(layer.values);
        }
        apply_system_defaults(&mut values);
        if problems.is_empty() {
            check_cross_constraints(&values, &mut problems);
        }
        if !problems.is_empty() {
            return Err(Error::Configuration { problems: Problems(problems) });
        }
        let mut effective: Vec<Effective> =
            values.into_iter().map(|(path, given)| Effective::new(path, given)).collect();
        effective.sort_by_key(|setting| schema().index_of(&setting.path));
        let configuration = serde_json::from_value(nested(&effective)).map_err(|error| Error::Configuration {
            problems: Problems(vec![Problem::new("the settings", &Value::Null, error.to_string())]),
        })?;
        Ok(Self { configuration, effective })
    }

    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Every setting in force, in the order of the schema.
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }
}

impl Configuration {
    /// The defaults overridden by `overrides`, an object of the same sections and keys, without any other source.
    ///
    /// # Errors
    /// `Error::Configuration` with every unknown key, wrong type and value out of range.
    pub fn load(overrides: Option<&Value>) -> Result<Self, Error> {
        let sources = Sources { overrides: overrides.cloned(), ..Sources::default() };
        ConfigurationManager::load(&sources).map(|manager| manager.configuration)
    }

    /// The external system with this name.
    pub fn system(&self, name: &str) -> Option<&System> {
        self.systems.get(name).filter(|_| name != ANY)
    }
}

fn layers(sources: &Sources, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let mut layers = Vec::new();
    if let Some(path) = &sources.file {
        from_file(path, sources, &mut layers, problems);
    }
    layers.push(from_env(&sources.variables, problems));
    if let Some(overrides) = &sources.overrides {
        layers.push(Layer::read(overrides, "", &|_| Origin("the application's code".to_owned()), None, problems));
    }
    layers
}

/// The settings of the file, then those of its section for the environment. The other sections are checked as well.
fn from_file(path: &Path, sources: &Sources, layers: &mut Vec<Layer>, problems: &mut Vec<Problem>) {
    let name = path.display().to_string();
    let source = File::from(path).format(FileFormat::Yaml);
    let read = Config::builder().add_source(source).build().and_then(Config::try_deserialize::<Value>);
    let mut content = match read {
        Ok(Value::Null) => return,
        Ok(content) => content,
        Err(error) => {
            problems.push(Problem::new(name, &Value::Null, format!("cannot be read as YAML: {error}")));
            return;
        }
    };
    let environments = content.as_object_mut().and_then(|content| content.remove(ENVIRONMENTS));
    let origin = |_: &str| Origin(name.clone());
    layers.push(Layer::read(&content, "", &origin, Some(&name), problems));
    let environments = environments.unwrap_or_else(|| json!({}));
    let Some(environments) = environments.as_object() else {
        let remedy = "must be an object with named environments";
        problems.push(problem(ENVIRONMENTS, &environments, remedy, Some(&name)));
        return;
    };
    for (known, content) in environments {
        if !sources.has_environment(known) {
            let field = format!("{ENVIRONMENTS}.{known}");
            problems.push(problem(field, content, sources.remedy_for(known), Some(&name)));
            continue;
        }
        let below = format!("{ENVIRONMENTS}.{known}");
        let origin = |_: &str| Origin(format!("{name}, {below}"));
        let layer = Layer::read(content, &below, &origin, Some(&name), problems);
        if sources.environment.as_ref() == Some(known) {
            layers.push(layer);
        }
    }
}

fn from_env(variables: &HashMap<String, String>, problems: &mut Vec<Problem>) -> Layer {
    let well_formed = format!("{PREFIX}{SEPARATOR}");
    let (variables, others): (HashMap<_, _>, HashMap<_, _>) = variables
        .clone()
        .into_iter()
        .partition(|(name, _)| name.starts_with(&well_formed) && intended_variable(name).is_none());
    for (name, value) in others {
        if let Some(meant) = intended_variable(&name) {
            let remedy = format!("is not a setting: did you mean `{meant}`?");
            problems.push(problem(name, &Value::from(value), remedy, Some("the environment")));
        }
    }
    let source =
        Environment::with_prefix(PREFIX).prefix_separator(SEPARATOR).separator(SEPARATOR).source(Some(variables));
    let read = Config::builder().add_source(source).build().and_then(Config::try_deserialize::<Value>);
    let content = read.unwrap_or_else(|error| {
        problems.push(Problem::new(format!("{PREFIX}{SEPARATOR}…"), &Value::Null, error.to_string()));
        Value::Null
    });
    if content.is_null() {
        return Layer { values: BTreeMap::new() };
    }
    let mut typed = content;
    parse_by_kind(&mut typed, "");
    let origin = |path: &str| Origin(variable(path));
    Layer::read(&typed, "", &origin, Some("the environment"), problems)
}

/// The variable that a name differs from only in underscores or case.
fn intended_variable(name: &str) -> Option<String> {
    let letters = |name: &str| name.replace('_', "").to_uppercase();
    let meant = letters(name);
    let settings = schema().settings.iter().map(|setting| variable(&setting.path));
    settings.filter(|variable| variable != name).find(|variable| letters(variable) == meant)
}

/// Converts text to the setting's type.
fn parse_by_kind(value: &mut Value, path: &str) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                parse_by_kind(value, &below(path, key));
            }
        }
        Value::String(text) => {
            if let Some(setting) = schema().setting(path) {
                *value = setting.kind.parse(text);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
    }
}

impl Layer {
    /// Reads an object of sections and settings. `within` is the object's place in the source, not part of the
    /// settings' paths.
    fn read(
        content: &Value,
        within: &str,
        origin: &dyn Fn(&str) -> Origin,
        source: Option<&str>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut layer = Self { values: BTreeMap::new() };
        let mut report = |path: &str, value: &Value, message: String| {
            let field = match (within, path) {
                ("", "") => "the settings".to_owned(),
                (within, "") => within.to_owned(),
                (within, path) => below(within, path),
            };
            problems.push(problem(field, value, message, source));
        };
        layer.read_section(schema(), content, "", origin, &mut report);
        layer
    }

    fn read_section(
        &mut self,
        schema: &Schema,
        content: &Value,
        path: &str,
        origin: &dyn Fn(&str) -> Origin,
        report: &mut dyn FnMut(&str, &Value, String),
    ) {
        let Some(object) = content.as_object() else {
            return report(path, content, "must be an object with named fields".to_owned());
        };
        for (key, value) in object {
            let path = below(path, key);
            if key.is_empty() || key.contains('.') {
                report(&path, value, "is not a valid name: it must not be empty or contain a dot".to_owned());
            } else if value.is_null() && (schema.is_section(&path) || schema.setting(&path).is_some()) {
                report(&path, value, "has no value: remove it to use the default".to_owned());
            } else if schema.is_section(&path) {
                self.read_section(schema, value, &path, origin, report);
            } else if let Some(setting) = schema.setting(&path) {
                match setting.kind.read(value) {
                    Ok(read) => {
                        let given = Given { value: read, written: value.clone(), origin: origin(&path) };
                        self.values.insert(path, given);
                    }
                    Err(remedy) => report(&path, value, remedy),
                }
            } else {
                let remedy = if looks_like_environment(schema, &path, value) {
                    format!("is an unknown setting: settings of one environment belong below `{ENVIRONMENTS}.{key}`")
                } else {
                    suggestion(key, &schema.names_below(parent(&path)))
                };
                report(&path, value, remedy);
            }
        }
    }
}

/// A problem with a setting, which does not show the password of a URL.
fn problem(field: impl Into<String>, value: &Value, message: impl Into<String>, source: Option<&str>) -> Problem {
    Problem::new(field, &without_passwords(value), message).from_source(source)
}

fn looks_like_environment(schema: &Schema, path: &str, value: &Value) -> bool {
    let holds_sections =
        |object: &Map<String, Value>| !object.is_empty() && object.keys().all(|key| schema.is_section(key));
    !path.contains('.') && value.as_object().is_some_and(holds_sections)
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

fn suggestion(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(nearest) => format!("is an unknown setting: did you mean `{nearest}`?"),
        None => format!("is an unknown setting: expected one of {}", known.join(", ")),
    }
}

/// Completes each named system with the defaults of `*`.
fn apply_system_defaults(values: &mut BTreeMap<String, Given>) {
    let shared: Vec<_> = values
        .iter()
        .filter_map(|(path, value)| path.strip_prefix("systems.*.").map(|key| (key.to_owned(), value.clone())))
        .collect();
    let names: Vec<String> = values
        .keys()
        .filter_map(|path| path.strip_prefix("systems.").and_then(|rest| rest.split('.').next()))
        .map(str::to_owned)
        .collect();
    for name in names {
        for (key, value) in &shared {
            values.entry(format!("systems.{name}.{key}")).or_insert_with(|| value.clone());
        }
    }
}

/// Checks settings against each other.
fn check_cross_constraints(values: &BTreeMap<String, Given>, problems: &mut Vec<Problem>) {
    let mut check = |path: &str, at_least: bool, factor: f64, other: &str, remedy: &str| {
        let number = |path: &str| values[path].value.as_f64().unwrap_or_default();
        let bound = number(other) * factor;
        if (at_least && number(path) < bound) || (!at_least && number(path) > bound) {
            let Given { written, origin, .. } = &values[path];
            problems.push(Problem::new(path, written, remedy).from_source(origin.source()));
        }
    };
    let pool = "must not exceed database.pool.max_connections";
    check("database.pool.min_connections", false, 1.0, "database.pool.max_connections", pool);
    let leases = "must be at least twice leases.heartbeat_interval";
    check("leases.process_timeout", true, 2.0, "leases.heartbeat_interval", leases);
    check("api.page_size", false, 1.0, "api.max_page_size", "must not exceed api.max_page_size");
    for (path, Given { value, origin, .. }) in values {
        let name = path.strip_prefix("systems.").and_then(|rest| rest.strip_suffix(".base_url"));
        if name.is_some_and(|name| name != ANY) && value == "" {
            problems.push(Problem::new(path, value, "is missing: set the system's URL").from_source(Some(&origin.0)));
        }
    }
}

/// Converts settings by path to nested objects.
fn nested(effective: &[Effective]) -> Value {
    let mut all = Map::new();
    for setting in effective {
        let mut names: Vec<&str> = setting.path.split('.').collect();
        let last = names.pop().unwrap_or_default();
        let mut object = &mut all;
        for name in names {
            let section = object.entry(name).or_insert_with(|| json!({}));
            object = section.as_object_mut().expect("no setting has the path of a section");
        }
        object.insert(last.to_owned(), setting.value.clone());
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests;
