//! The known events: a table of those of tasker_core, and the names that an application registers.
//!
//! Invariant: only names that are known here can be published or subscribed to. The reference in `docs/events.md` is
//! generated from the table.

use std::collections::{BTreeMap, HashSet};
use std::sync::{RwLock, RwLockReadGuard};

use serde_json::Value;

use crate::error::{Error, Problem, Problems};
use crate::suggestion::nearest;

/// A type of event that tasker_core publishes.
#[derive(Debug)]
pub struct EventType {
    pub name: &'static str,
    /// When it is published.
    pub when: &'static str,
    pub payload: &'static [Field],
    /// Whether it is stored for durable subscriptions, in the transaction of its change.
    pub durable: bool,
    /// The first version of the gem that publishes it.
    pub since: &'static str,
}

/// A field of a payload.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    /// integer, number, string, uuid or object
    pub kind: &'static str,
    pub meaning: &'static str,
    /// Fields of an object.
    pub fields: &'static [&'static str],
}

impl EventType {
    /// Every field of the payload, those of objects as `error.code`.
    fn paths(&self) -> impl Iterator<Item = String> {
        self.payload.iter().flat_map(|field| {
            let inner = field.fields.iter().map(move |inner| format!("{}.{inner}", field.name));
            std::iter::once(field.name.to_owned()).chain(inner)
        })
    }
}

const fn field(name: &'static str, kind: &'static str, meaning: &'static str) -> Field {
    Field { name, kind, meaning, fields: &[] }
}

const TASK_ID: Field = field("task_id", "integer", "the number of the task");
const TASK_UUID: Field = field("task_uuid", "uuid", "the public id of the task");
const NAMESPACE: Field = field("namespace", "string", "the namespace of the workflow");
const WORKFLOW: Field = field("workflow", "string", "the name of the workflow");
const VERSION: Field = field("version", "string", "the version of the workflow");
const STEP: Field = field("step", "string", "the name of the step");
const ATTEMPT: Field = field("attempt", "integer", "the number of the attempt, from 1");
const MAX_ATTEMPTS: Field = field("max_attempts", "integer", "the maximum number of attempts");
const DURATION: Field = field("duration_ms", "number", "how long the handler ran, in milliseconds");
const ERROR: Field = Field {
    fields: &["class", "message", "code"],
    ..field("error", "object", "`class`, `message` and `code` of the error")
};

const REASON: Field = field("reason", "string", "the reason that the operator gave");
const BY: Field = field("by", "string", "the name of the operator");

const TASK_FIELDS: &[Field] = &[TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION];
const TASK_ACTION_FIELDS: &[Field] = &[TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, REASON, BY];
const STEP_ACTION_FIELDS: &[Field] = &[TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, STEP, REASON, BY];
const STEP_FIELDS: &[Field] = &[TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, STEP, ATTEMPT, MAX_ATTEMPTS];

/// All events of tasker_core.
pub const EVENT_TYPES: &[EventType] = &[
    EventType {
        name: "workflow.registered",
        when: "A version of a workflow was stored for the first time, before its first task is created.",
        payload: &[NAMESPACE, WORKFLOW, VERSION, field("steps", "integer", "the number of its steps")],
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.created",
        when: "A task was created. Published in the process that created it.",
        payload: TASK_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.completed",
        when: "All steps of a task are done. Published in the process that ended the last one.",
        payload: TASK_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.failed",
        when: "A step failed permanently and no other step of the task can run. Published in the process that ended the last step.",
        payload: TASK_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.retried",
        when: "An operator retried failed steps of a task.",
        payload: TASK_ACTION_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.cancelled",
        when: "An operator cancelled a task.",
        payload: TASK_ACTION_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.resolved_manually",
        when: "An operator marked a failed task as resolved.",
        payload: TASK_ACTION_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "step.started",
        when: "A process has claimed a step and will run its handler.",
        payload: STEP_FIELDS,
        durable: false,
        since: "0.1.0",
    },
    EventType {
        name: "step.completed",
        when: "A handler's result was stored.",
        payload: &[
            TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, STEP, ATTEMPT, MAX_ATTEMPTS, DURATION,
        ],
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "step.retry_scheduled",
        when: "An attempt failed, and another one is scheduled.",
        payload: &[
            TASK_ID,
            TASK_UUID,
            NAMESPACE,
            WORKFLOW,
            VERSION,
            STEP,
            ATTEMPT,
            MAX_ATTEMPTS,
            DURATION,
            ERROR,
            field("delay_ms", "number", "the delay until the next attempt, in milliseconds"),
        ],
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "step.failed",
        when: "A step failed permanently.",
        payload: &[
            TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, STEP, ATTEMPT, MAX_ATTEMPTS, DURATION, ERROR,
        ],
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "step.cancelled",
        when: "A step ended because an operator cancelled its task.",
        payload: STEP_ACTION_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "step.resolved_manually",
        when: "An operator marked a step as resolved, or completed it with a result.",
        payload: STEP_ACTION_FIELDS,
        durable: true,
        since: "0.1.0",
    },
];

/// Prefixes of our own names, which an application may not use.
const OWN_PREFIXES: [&str; 3] = ["task.", "step.", "workflow."];
const WILDCARD: &str = "*";

/// The names that are known in this process.
#[derive(Debug, Default)]
pub struct Registry {
    /// Of the application, and whether they are durable.
    registered: RwLock<BTreeMap<String, bool>>,
}

impl Registry {
    /// Registers an event of the application; a durable one is stored for durable subscriptions. Once durable, it stays
    /// durable.
    ///
    /// # Errors
    /// `Error::Event` unless it is of the form `order.shipped`, and for prefixes of ours.
    pub fn register(&self, name: &str, durable: bool) -> Result<(), Error> {
        if EVENT_TYPES.iter().any(|own| own.name == name) {
            return Ok(());
        }
        let is_word = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_lowercase())
                && text.chars().all(|other| other.is_ascii_lowercase() || other.is_ascii_digit() || other == '_')
        };
        if name.len() > 100 || name.split('.').count() < 2 || !name.split('.').all(is_word) {
            let remedy = "must be lower-case words with a dot between them, such as \"order.shipped\"";
            return Err(event_error(name, remedy.to_owned()));
        }
        if OWN_PREFIXES.iter().any(|own| name.starts_with(own)) {
            return Err(event_error(
                name,
                "must not begin with task., step. or workflow.: these prefixes are reserved for tasker_core".to_owned(),
            ));
        }
        *self
            .registered
            .write()
            .expect("no code that holds this lock can panic")
            .entry(name.to_owned())
            .or_default() |= durable;
        Ok(())
    }

    fn registered(&self) -> RwLockReadGuard<'_, BTreeMap<String, bool>> {
        self.registered.read().expect("no code that holds this lock can panic")
    }

    /// All names, ours and the application's.
    pub fn names(&self) -> Vec<String> {
        let own = EVENT_TYPES.iter().map(|own| own.name.to_owned());
        own.chain(self.registered().keys().cloned()).collect()
    }

    /// # Errors
    /// `Error::Event` with the nearest name when it is not known.
    pub fn verify(&self, name: &str) -> Result<(), Error> {
        if EVENT_TYPES.iter().any(|own| own.name == name) || self.registered().contains_key(name) {
            return Ok(());
        }
        Err(self.unknown(name))
    }

    /// The names that match a pattern: a name, `step.*`, or `*`.
    ///
    /// # Errors
    /// `Error::Event` with the nearest name if no name matches.
    pub fn resolve(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let names = self.names();
        let prefix = pattern.strip_suffix(WILDCARD).filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
        let found: Vec<String> = match prefix {
            Some(prefix) => names.into_iter().filter(|name| name.starts_with(prefix)).collect(),
            None => names.into_iter().filter(|name| name == pattern).collect(),
        };
        if found.is_empty() {
            return Err(self.unknown(pattern));
        }
        Ok(found)
    }

    /// Whether an event of the application must be stored in the outbox when it is published.
    pub fn is_durable(&self, name: &str) -> bool {
        self.registered().get(name).copied().unwrap_or_default()
    }

    /// Like `resolve`, for the names that a durable subscription can have.
    ///
    /// # Errors
    /// `Error::Event` also if none of these matches.
    pub fn resolve_durable(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let mut names = self.resolve(pattern)?;
        names.retain(|name| {
            let own = EVENT_TYPES.iter().find(|own| own.name == name);
            own.map_or_else(|| self.is_durable(name), |own| own.durable)
        });
        if names.is_empty() {
            let remedy = if OWN_PREFIXES.iter().any(|own| pattern.starts_with(own)) {
                "is published only in its own process and never stored: docs/events.md lists the events that are stored"
                    .to_owned()
            } else if pattern.ends_with(WILDCARD) {
                "selects no durable event: declare one of them with `durable: true`".to_owned()
            } else {
                format!("is not durable: declare it with `event \"{pattern}\", durable: true`")
            };
            return Err(event_error(pattern, remedy));
        }
        Ok(names)
    }

    /// Checks the fields of a filter (`workflow`, `error.code`) against the payloads of the events that some patterns
    /// select. Events of the application may have any field; so may `*`, which includes events that are registered
    /// later.
    ///
    /// # Errors
    /// `Error::Event` if a pattern matches no name, or if none of the events has a field.
    pub fn verify_filter(&self, patterns: &[String], fields: &[String]) -> Result<(), Error> {
        let mut names = Vec::new();
        for pattern in patterns {
            names.extend(self.resolve(pattern)?);
        }
        let own: Vec<&EventType> = EVENT_TYPES.iter().filter(|own| names.iter().any(|name| name == own.name)).collect();
        let is_open = names.iter().any(|name| !own.iter().any(|own| own.name == name));
        if is_open || patterns.iter().any(|pattern| pattern == WILDCARD) {
            return Ok(());
        }
        let mut known: Vec<String> = own.into_iter().flat_map(EventType::paths).collect();
        let mut seen = HashSet::new();
        known.retain(|path| seen.insert(path.clone()));
        let unknown = fields.iter().filter(|field| !known.contains(field));
        let problems: Vec<Problem> = unknown.map(|field| unknown_field(field, patterns, &known)).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Event { problems: Problems(problems) })
    }

    fn unknown(&self, name: &str) -> Error {
        let names = self.names();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let remedy = match nearest(name, &known) {
            Some(nearest) => format!("is an unknown event: did you mean `{nearest}`?"),
            None => "is an unknown event: register it, or see docs/events.md".to_owned(),
        };
        event_error(name, remedy)
    }
}

fn unknown_field(field: &str, patterns: &[String], known: &[String]) -> Problem {
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let suggestion = nearest(field, &names).map(|nearest| format!("did you mean `{nearest}`? ")).unwrap_or_default();
    let remedy = format!("is not a field of {}: {suggestion}the fields are {}", patterns.join(", "), known.join(", "));
    Problem::new("filter", &Value::from(field), remedy)
}

fn event_error(name: &str, remedy: String) -> Error {
    Error::Event { problems: Problems(vec![Problem::new("event", &Value::from(name), remedy)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section for each event, as `docs/events.md` has it.
    fn markdown() -> String {
        EVENT_TYPES.iter().map(section).collect::<String>() + "\n"
    }

    fn section(event: &EventType) -> String {
        let EventType { name, when, since, durable, .. } = event;
        let durable = if *durable { "" } else { " Never durable." };
        let rows: String = event
            .payload
            .iter()
            .map(|field| format!("| `{}` | {} | {} |\n", field.name, field.kind, field.meaning))
            .collect();
        format!("\n### {name}\n\n{when}{durable} Since {since}.\n\n| field | type | meaning |\n|---|---|---|\n{rows}")
    }

    #[test]
    fn the_document_has_the_events() {
        crate::document::verify("docs/events.md", &markdown());
    }

    #[test]
    fn a_pattern_resolves_to_known_names_only() {
        let registry = Registry::default();
        registry.register("order.shipped", false).unwrap();
        assert_eq!(registry.resolve("order.*").unwrap(), ["order.shipped"]);
        assert_eq!(registry.resolve("step.failed").unwrap(), ["step.failed"]);
        assert!(registry.resolve("step.*").unwrap().iter().all(|name| name.starts_with("step.")));
        assert_eq!(registry.resolve("*").unwrap().len(), EVENT_TYPES.len() + 1);
        for (unknown, message) in [
            ("step.faild", "did you mean `step.failed`?"),
            ("order.shiped", "did you mean `order.shipped`?"),
            ("zzz.*", "register it, or see docs/events.md"),
            ("step*", "is an unknown event"),
        ] {
            let error = registry.resolve(unknown).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            assert!(registry.verify(unknown).is_err());
        }
    }

    #[test]
    fn a_filter_names_fields_that_one_of_its_events_has() {
        let registry = Registry::default();
        let verify = |patterns: &[&str], fields: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            registry.verify_filter(&texts(patterns), &texts(fields)).map_err(|error| error.to_string())
        };
        assert_eq!(verify(&["step.failed"], &["workflow", "error", "error.code"]), Ok(()));
        assert_eq!(verify(&["task.failed", "step.failed"], &["step"]), Ok(()), "one of them has it");
        assert_eq!(verify(&["*"], &["order_id"]), Ok(()), "an event that is registered later may have it");
        let expected = "filter: \"workflw\" (string) is not a field of task.*: did you mean `workflow`? \
                        the fields are task_id, task_uuid, namespace, workflow, version, reason, by";
        assert_eq!(verify(&["task.*"], &["workflow", "workflw"]), Err(expected.to_owned()));
        let expected = "filter: \"zzz\" (string) is not a field of workflow.registered: \
                        the fields are namespace, workflow, version, steps";
        assert_eq!(verify(&["workflow.registered"], &["zzz"]), Err(expected.to_owned()));
        assert!(verify(&["step.failed"], &["error.cod"]).unwrap_err().contains("did you mean `error.code`?"));
        assert!(verify(&["step.failed"], &["task_id.code"]).is_err(), "an integer has no fields");
        registry.register("order.shipped", false).unwrap();
        assert!(verify(&["order.*", "step.faild"], &[]).unwrap_err().contains("did you mean `step.failed`?"));
        assert_eq!(verify(&["step.failed", "order.*"], &["order_id"]), Ok(()), "payloads of the application are open");
    }

    #[test]
    fn an_application_registers_names_of_its_own_form_and_prefix() {
        let registry = Registry::default();
        for (name, message) in [
            ("shipped", "with a dot between them"),
            ("Order.shipped", "must be lower-case words"),
            ("order.", "must be lower-case words"),
            ("step.mine", "must not begin with task., step. or workflow."),
        ] {
            let error = registry.register(name, false).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        registry.register("order.shipped", false).unwrap();
        registry.register("order.shipped", false).unwrap();
        registry.register("step.failed", true).unwrap();
        assert_eq!(registry.names().len(), EVENT_TYPES.len() + 1);
    }

    #[test]
    fn a_durable_subscription_selects_durable_events_only() {
        let registry = Registry::default();
        registry.register("order.shipped", true).unwrap();
        registry.register("order.shipped", false).unwrap();
        registry.register("order.seen", false).unwrap();
        registry.register("cart.filled", false).unwrap();
        assert!(registry.is_durable("order.shipped"));
        assert!(!registry.is_durable("order.seen") && !registry.is_durable("step.failed"), "SQL writes ours");
        assert_eq!(registry.resolve_durable("order.*").unwrap(), ["order.shipped"]);
        assert!(!registry.resolve_durable("step.*").unwrap().contains(&"step.started".to_owned()));
        for (pattern, message) in [
            ("order.seen", "is not durable: declare it with `event \"order.seen\", durable: true`"),
            ("cart.*", "selects no durable event: declare one of them with `durable: true`"),
            ("step.started", "is published only in its own process and never stored"),
            ("step.faild", "did you mean `step.failed`?"),
        ] {
            let error = registry.resolve_durable(pattern).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
