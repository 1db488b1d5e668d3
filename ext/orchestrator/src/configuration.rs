//! Settings: the defaults of `config/tasker-core.yaml` with an application's own over them.
//!
//! Invariant: no default stands anywhere else; an unknown key, a wrong type or a value out of range is an error,
//! and all of them are told at once. Neighbours: every part takes its section from here.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use config::{Config, File, FileFormat};
use once_cell::sync::Lazy;
use serde::{Serialize, Serializer};
use serde_json::{json, Map, Value};

use crate::error::{Error, Problem, Problems};
use crate::reader::{nearest, Reader};
use crate::retry_policy::RetryPolicy;

const DEFAULTS: &str = include_str!("../../../config/tasker-core.yaml");

static DEFAULT_VALUES: Lazy<Value> = Lazy::new(|| {
    let defaults = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Yaml));
    defaults.build().and_then(Config::try_deserialize).expect("config/tasker-core.yaml is part of the build")
});

/// All settings. Serialized, durations are in seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Configuration {
    pub database: Database,
    pub execution: Execution,
    pub retry: RetryPolicy,
    pub steps: Steps,
    pub leases: Leases,
    pub discovery: Discovery,
    pub maintenance: Maintenance,
    pub retention: Retention,
    pub limits: Limits,
}

#[derive(Debug, Clone, Serialize)]
pub struct Database {
    pub pool: Pool,
    #[serde(serialize_with = "seconds")]
    pub statement_timeout: Duration,
    #[serde(serialize_with = "seconds")]
    pub lock_timeout: Duration,
    pub poll_only: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Pool {
    pub max_connections: u32,
    pub min_connections: u32,
    #[serde(serialize_with = "seconds")]
    pub acquire_timeout: Duration,
    #[serde(serialize_with = "seconds")]
    pub idle_timeout: Duration,
    #[serde(serialize_with = "seconds")]
    pub max_lifetime: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Execution {
    pub threads: usize,
    pub processes: usize,
    pub queues: Vec<String>,
    pub claim_batch: usize,
    pub claim_ahead: usize,
    #[serde(serialize_with = "seconds")]
    pub claim_ahead_wait: Duration,
    pub flush_size: usize,
    #[serde(serialize_with = "seconds")]
    pub flush_delay: Duration,
    pub statements: usize,
    #[serde(serialize_with = "seconds")]
    pub shutdown_timeout: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Steps {
    #[serde(serialize_with = "seconds")]
    pub timeout: Duration,
    pub queue: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Leases {
    #[serde(serialize_with = "seconds")]
    pub heartbeat_interval: Duration,
    #[serde(serialize_with = "seconds")]
    pub process_timeout: Duration,
    #[serde(serialize_with = "seconds")]
    pub deadline_grace: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Discovery {
    #[serde(serialize_with = "seconds")]
    pub poll_interval: Duration,
    #[serde(serialize_with = "seconds")]
    pub poll_only_interval: Duration,
    pub poll_jitter: f64,
    #[serde(serialize_with = "seconds")]
    pub notify_debounce: Duration,
    #[serde(serialize_with = "seconds")]
    pub unknown_handler_delay: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Maintenance {
    #[serde(serialize_with = "seconds")]
    pub sweep_interval: Duration,
    pub sweep_limit: usize,
    #[serde(serialize_with = "seconds")]
    pub audit_interval: Duration,
    pub audit_limit: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Retention {
    pub enabled: bool,
    #[serde(serialize_with = "seconds")]
    pub keep: Duration,
    #[serde(serialize_with = "seconds")]
    pub interval: Duration,
    pub limit: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    pub payload_bytes: usize,
    pub payload_depth: usize,
    pub steps_per_workflow: usize,
}

impl Configuration {
    /// The defaults with `overrides` (an object of the same sections and keys) over them.
    ///
    /// # Errors
    /// `Error::Configuration` with every unknown key, wrong type and value out of range.
    pub fn load(overrides: Option<&Value>) -> Result<Self, Error> {
        let problems = RefCell::new(Vec::new());
        if let Some(overrides) = overrides {
            unknown_keys(&DEFAULT_VALUES, overrides, "", &problems);
        }
        if overrides.is_none_or(Value::is_object) {
            let mut values = DEFAULT_VALUES.clone();
            put_over(&mut values, overrides.unwrap_or(&Value::Null));
            let configuration = Self::from_values(&values, &problems);
            if let Some(configuration) = configuration.filter(|_| problems.borrow().is_empty()) {
                return Ok(configuration);
            }
        }
        let mut problems = problems.into_inner();
        // A key that is unknown, or no section, is met again where its section is read.
        let mut seen = HashSet::new();
        problems.retain(|problem| seen.insert(problem.field.clone()));
        Err(Error::Configuration { problems: Problems(problems) })
    }

    fn from_values(values: &Value, problems: &RefCell<Vec<Problem>>) -> Option<Self> {
        let all = Reader::new("", values, problems);
        let database = database(&all);
        let execution = execution(&all);
        let retry = all.section("retry").map(|section| RetryPolicy::read(&section, None));
        let steps = steps(&all);
        let leases = leases(&all);
        let discovery = discovery(&all);
        let maintenance = maintenance(&all);
        let retention = retention(&all);
        let limits = limits(&all);
        Some(Self {
            database: database?,
            execution: execution?,
            retry: retry??,
            steps: steps?,
            leases: leases?,
            discovery: discovery?,
            maintenance: maintenance?,
            retention: retention?,
            limits: limits?,
        })
    }
}

/// Puts single settings over others, section by section.
fn put_over(values: &mut Value, given: &Value) {
    let (Some(values), Some(given)) = (values.as_object_mut(), given.as_object()) else { return };
    for (key, given) in given {
        match values.get_mut(key) {
            Some(section) if section.is_object() && given.is_object() => put_over(section, given),
            _ => drop(values.insert(key.clone(), given.clone())),
        }
    }
}

fn unknown_keys(known: &Value, given: &Value, path: &str, problems: &RefCell<Vec<Problem>>) {
    let Some(known) = known.as_object() else { return };
    let Some(given) = given.as_object() else {
        let field = if path.is_empty() { "the settings" } else { path };
        problems.borrow_mut().push(Problem::new(field, given, "must be an object with named fields"));
        return;
    };
    for (key, value) in given {
        let field = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match known.get(key) {
            Some(_) if value.is_null() => {
                problems.borrow_mut().push(Problem::new(
                    field,
                    value,
                    "has no value: leave it out to have the default",
                ));
            }
            Some(deeper) => unknown_keys(deeper, value, &field, problems),
            None => problems.borrow_mut().push(Problem::new(field, value, suggestion(key, known))),
        }
    }
}

fn suggestion(key: &str, known: &Map<String, Value>) -> String {
    let known: Vec<&str> = known.keys().map(String::as_str).collect();
    match nearest(key, &known) {
        Some(nearest) => format!("is an unknown setting: did you mean `{nearest}`?"),
        None => format!("is an unknown setting: known are {}", known.join(", ")),
    }
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn span(least_ms: u64, most_s: u64) -> RangeInclusive<Duration> {
    Duration::from_millis(least_ms)..=Duration::from_secs(most_s)
}

fn database(all: &Reader<'_>) -> Option<Database> {
    let section = all.section("database")?;
    let pool = section.section("pool")?;
    let (max_connections, min_connections) =
        (pool.integer("max_connections", 2..=1000), pool.integer("min_connections", 0..=1000));
    let acquire_timeout = pool.duration("acquire_timeout", span(10, 600));
    let idle_timeout = pool.duration("idle_timeout", span(1000, DAY));
    let max_lifetime = pool.duration("max_lifetime", span(10_000, DAY));
    let statement_timeout = section.duration("statement_timeout", span(100, HOUR));
    let lock_timeout = section.duration("lock_timeout", span(10, HOUR));
    let poll_only = section.boolean("poll_only");
    let (max_connections, min_connections): (u32, u32) = (max_connections?, min_connections?);
    if min_connections > max_connections {
        pool.wrong("min_connections", &min_connections.into(), "must not exceed database.pool.max_connections");
    }
    Some(Database {
        pool: Pool {
            max_connections,
            min_connections,
            acquire_timeout: acquire_timeout?,
            idle_timeout: idle_timeout?,
            max_lifetime: max_lifetime?,
        },
        statement_timeout: statement_timeout?,
        lock_timeout: lock_timeout?,
        poll_only: poll_only?,
    })
}

fn execution(all: &Reader<'_>) -> Option<Execution> {
    let section = all.section("execution")?;
    let threads = section.integer("threads", 1..=1000);
    let processes = section.integer("processes", 1..=256);
    let queues = section.texts("queues").filter(|queues| {
        let named = !queues.is_empty() && !queues.contains(&"");
        if !named {
            section.wrong("queues", &json!(queues), "must name a queue: [\"*\"] is every queue");
        }
        named
    });
    let claim_batch = section.integer("claim_batch", 1..=10_000);
    let claim_ahead = section.integer("claim_ahead", 0..=10_000);
    let claim_ahead_wait = section.duration("claim_ahead_wait", span(10, 600));
    let flush_size = section.integer("flush_size", 1..=10_000);
    let flush_delay = section.duration("flush_delay", span(0, 1));
    let statements = section.integer("statements", 1..=16);
    let shutdown_timeout = section.duration("shutdown_timeout", span(0, HOUR));
    Some(Execution {
        threads: threads?,
        processes: processes?,
        queues: queues?.into_iter().map(str::to_owned).collect(),
        claim_batch: claim_batch?,
        claim_ahead: claim_ahead?,
        claim_ahead_wait: claim_ahead_wait?,
        flush_size: flush_size?,
        flush_delay: flush_delay?,
        statements: statements?,
        shutdown_timeout: shutdown_timeout?,
    })
}

fn steps(all: &Reader<'_>) -> Option<Steps> {
    let section = all.section("steps")?;
    let timeout = section.duration("timeout", span(1, 20 * DAY));
    let queue = section.queue("queue");
    Some(Steps { timeout: timeout?, queue: queue?.to_owned() })
}

fn leases(all: &Reader<'_>) -> Option<Leases> {
    let section = all.section("leases")?;
    let heartbeat_interval = section.duration("heartbeat_interval", span(50, 600));
    let process_timeout = section.duration("process_timeout", span(100, HOUR));
    let deadline_grace = section.duration("deadline_grace", span(0, HOUR));
    let (heartbeat_interval, process_timeout) = (heartbeat_interval?, process_timeout?);
    if process_timeout < heartbeat_interval * 2 {
        let value = section.value("process_timeout")?;
        section.wrong("process_timeout", value, "must be at least twice leases.heartbeat_interval");
    }
    Some(Leases { heartbeat_interval, process_timeout, deadline_grace: deadline_grace? })
}

fn discovery(all: &Reader<'_>) -> Option<Discovery> {
    let section = all.section("discovery")?;
    let poll_interval = section.duration("poll_interval", span(10, 600));
    let poll_only_interval = section.duration("poll_only_interval", span(10, 600));
    let poll_jitter = section.number("poll_jitter", 0.0..=1.0);
    let notify_debounce = section.duration("notify_debounce", span(0, 1));
    let unknown_handler_delay = section.duration("unknown_handler_delay", span(0, HOUR));
    Some(Discovery {
        poll_interval: poll_interval?,
        poll_only_interval: poll_only_interval?,
        poll_jitter: poll_jitter?,
        notify_debounce: notify_debounce?,
        unknown_handler_delay: unknown_handler_delay?,
    })
}

fn maintenance(all: &Reader<'_>) -> Option<Maintenance> {
    let section = all.section("maintenance")?;
    let sweep_interval = section.duration("sweep_interval", span(50, 600));
    let sweep_limit = section.integer("sweep_limit", 1..=100_000);
    let audit_interval = section.duration("audit_interval", span(1000, DAY));
    let audit_limit = section.integer("audit_limit", 1..=10_000);
    Some(Maintenance {
        sweep_interval: sweep_interval?,
        sweep_limit: sweep_limit?,
        audit_interval: audit_interval?,
        audit_limit: audit_limit?,
    })
}

fn retention(all: &Reader<'_>) -> Option<Retention> {
    let section = all.section("retention")?;
    let enabled = section.boolean("enabled");
    let keep = section.duration("keep", span(60_000, 10_000 * DAY));
    let interval = section.duration("interval", span(1000, DAY));
    let limit = section.integer("limit", 1..=10_000);
    Some(Retention { enabled: enabled?, keep: keep?, interval: interval?, limit: limit? })
}

fn limits(all: &Reader<'_>) -> Option<Limits> {
    let section = all.section("limits")?;
    let payload_bytes = section.integer("payload_bytes", 1..=268_435_455);
    let payload_depth = section.integer("payload_depth", 1..=127);
    let steps_per_workflow = section.integer("steps_per_workflow", 1..=100_000);
    Some(Limits {
        payload_bytes: payload_bytes?,
        payload_depth: payload_depth?,
        steps_per_workflow: steps_per_workflow?,
    })
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete_and_in_range() {
        let configuration = Configuration::load(None).unwrap();
        assert_eq!(configuration.execution.queues, vec!["*"]);
        let shown = serde_json::to_value(&configuration).unwrap();
        assert_eq!(shown["leases"]["heartbeat_interval"], json!(5.0));
    }

    #[test]
    fn an_application_changes_single_settings() {
        let given =
            json!({"execution": {"threads": 9}, "leases": {"process_timeout": "1m", "heartbeat_interval": 2.5}});
        let configuration = Configuration::load(Some(&given)).unwrap();
        assert_eq!(configuration.execution.threads, 9);
        assert_eq!(configuration.leases.process_timeout, Duration::from_secs(60));
        assert_eq!(configuration.leases.heartbeat_interval, Duration::from_millis(2500));
        assert_eq!(configuration.execution.claim_batch, Configuration::load(None).unwrap().execution.claim_batch);
    }

    #[test]
    fn what_is_wrong_is_told_at_once_with_path_value_and_remedy() {
        let cases = [
            (json!({"exection": {}}), "exection: {} (object) is an unknown setting: did you mean `execution`?"),
            (
                json!({"execution": {"thread": 2}}),
                "execution.thread: 2 (integer) is an unknown setting: did you mean `threads`?",
            ),
            (json!({"execution": {"threads": 0}}), "execution.threads: 0 (integer) must be an integer from 1 to 1000"),
            (json!({"execution": {"threads": "5"}}), "execution.threads: \"5\" (string) must be an integer"),
            (json!({"retry": {"base": "soon"}}), "retry.base: \"soon\" (string) must be a duration"),
            (json!({"retry": {"backoff": "expontial"}}), "did you mean `exponential`?"),
            (json!({"leases": {"process_timeout": 6}}), "at least twice leases.heartbeat_interval"),
            (json!({"execution": {"queues": []}}), "must name a queue"),
            (json!({"execution": {"queues": [""]}}), "must name a queue"),
            (json!({"execution": {"threads": null}}), "execution.threads: has no value: leave it out"),
            (json!({"retry": null}), "retry: has no value: leave it out"),
            (json!({"retry": {"max_attempts": 0}}), "retry.max_attempts: 0 (integer) must be an integer from 1"),
            (json!({"steps": {"queue": "*"}}), "steps.queue: \"*\" (string) must be a name"),
            (
                json!({"database": {"pool": {"min_connections": 9}}}),
                "database.pool.min_connections: 9 (integer) must not exceed database.pool.max_connections",
            ),
            (json!({"limits": {"payload_depth": 128}}), "limits.payload_depth: 128 (integer) must be an integer"),
            (json!([]), "the settings: [] (array) must be an object"),
        ];
        for (given, told) in cases {
            let error = Configuration::load(Some(&given)).unwrap_err().to_string();
            assert!(error.contains(told), "{given}: {error}");
        }
        let two = json!({"execution": {"threads": 0, "flush_delay": "1h"}});
        let error = Configuration::load(Some(&two)).unwrap_err().to_string();
        assert!(error.contains("execution.threads") && error.contains("execution.flush_delay"), "{error}");
    }

    #[test]
    fn an_unknown_setting_hides_no_other_problem_and_is_told_once() {
        let given = json!({"exection": {}, "retry": {"bas": 1, "factor": 0}, "execution": {"threads": 0}, "steps": 3});
        let Error::Configuration { problems: Problems(problems) } = Configuration::load(Some(&given)).unwrap_err()
        else {
            panic!("another error");
        };
        let mut fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, vec!["exection", "execution.threads", "retry.bas", "retry.factor", "steps"]);
    }
}
