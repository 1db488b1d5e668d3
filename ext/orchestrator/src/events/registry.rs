//! Which events there are: one table for ours, and the names that an application registers.
//!
//! Invariant: nobody publishes or listens to a name that is not here. `docs/events.md` is written from the table.

use std::collections::{BTreeMap, HashSet};
use std::sync::{RwLock, RwLockReadGuard};

use serde_json::Value;

use crate::error::{Error, Problem, Problems};
use crate::suggestion::nearest;

/// A kind of event of tasker_core's own.
#[derive(Debug)]
pub struct EventType {
    pub name: &'static str,
    /// When it is published.
    pub when: &'static str,
    pub payload: &'static [Field],
    /// Whether it is written down for durable subscriptions, in the transaction that it tells of.
    pub durable: bool,
    /// The version of the gem that has it first.
    pub since: &'static str,
}

/// A field of a payload.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    /// integer, number, string, boolean, uuid or object
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

const TASK_ID: Field = field("task_id", "integer", "the task");
const TASK_UUID: Field = field("task_uuid", "uuid", "its public id");
const NAMESPACE: Field = field("namespace", "string", "of its workflow");
const WORKFLOW: Field = field("workflow", "string", "its workflow");
const VERSION: Field = field("version", "string", "of its workflow");
const STEP: Field = field("step", "string", "the step");
const ATTEMPT: Field = field("attempt", "integer", "which execution of the step it is, from 1");
const MAX_ATTEMPTS: Field = field("max_attempts", "integer", "executions at most");
const DURATION: Field = field("duration_ms", "number", "how long the handler ran, in milliseconds");
const ERROR: Field = Field {
    fields: &["class", "message", "code"],
    ..field("error", "object", "`class`, `message` and `code` of what was raised")
};

const REASON: Field = field("reason", "string", "why, as the operator said");
const BY: Field = field("by", "string", "the operator");

const TASK_FIELDS: &[Field] = &[TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION];
const TASK_ACTION_FIELDS: &[Field] = &[TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, REASON, BY];
const STEP_ACTION_FIELDS: &[Field] = &[TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, STEP, REASON, BY];
const STEP_FIELDS: &[Field] = &[TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, STEP, ATTEMPT, MAX_ATTEMPTS];

/// All events of tasker_core.
pub const EVENT_TYPES: &[EventType] = &[
    EventType {
        name: "workflow.registered",
        when: "A version of a workflow was stored for the first time, before its first task is created.",
        payload: &[NAMESPACE, WORKFLOW, VERSION, field("steps", "integer", "how many it has")],
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.created",
        when: "A task was created, in the process that created it.",
        payload: TASK_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.completed",
        when: "All steps of a task are done, in the process that ended the last one.",
        payload: TASK_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.failed",
        when: "A step has failed for good and nothing else of the task is left to run, in the process that ended the last one.",
        payload: TASK_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "task.retried",
        when: "An operator gave failed steps of a task their attempts again.",
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
        when: "An operator declared a failed task to be dealt with.",
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
        when: "An attempt failed, and another one follows.",
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
            field("delay_ms", "number", "until the next attempt, in milliseconds"),
        ],
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "step.failed",
        when: "An attempt failed, and none follows.",
        payload: &[
            TASK_ID, TASK_UUID, NAMESPACE, WORKFLOW, VERSION, STEP, ATTEMPT, MAX_ATTEMPTS, DURATION, ERROR,
        ],
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "step.cancelled",
        when: "A step ended as an operator cancelled its task.",
        payload: STEP_ACTION_FIELDS,
        durable: true,
        since: "0.1.0",
    },
    EventType {
        name: "step.resolved_manually",
        when: "An operator left a step out, or gave its result.",
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
    /// Makes a name of the application's own known; a durable one is written down for durable subscriptions. Who says so once
    /// says it for all.
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
                "must not begin with task., step. or workflow.: these are tasker_core's".to_owned(),
            ));
        }
        *self.registered.write().expect("nobody panics with it").entry(name.to_owned()).or_default() |= durable;
        Ok(())
    }

    fn registered(&self) -> RwLockReadGuard<'_, BTreeMap<String, bool>> {
        self.registered.read().expect("nobody panics with it")
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

    /// The names that a pattern stands for: a name, `step.*`, or `*`.
    ///
    /// # Errors
    /// `Error::Event` with the nearest name when it stands for none.
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

    /// Whether whoever publishes an event of the application's own has to write it down.
    pub fn is_durable(&self, name: &str) -> bool {
        self.registered().get(name).copied().unwrap_or_default()
    }

    /// As `resolve`, those names only that a durable subscription can have.
    ///
    /// # Errors
    /// `Error::Event` also when the pattern stands for none of these.
    pub fn resolve_durable(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let mut names = self.resolve(pattern)?;
        names.retain(|name| {
            let own = EVENT_TYPES.iter().find(|own| own.name == name);
            own.map_or_else(|| self.is_durable(name), |own| own.durable)
        });
        if names.is_empty() {
            let remedy = if OWN_PREFIXES.iter().any(|own| pattern.starts_with(own)) {
                "is told where it happens and never written down: docs/events.md lists the events that are".to_owned()
            } else {
                format!("is not written down: declare it with `event \"{pattern}\", durable: true`")
            };
            return Err(event_error(pattern, remedy));
        }
        Ok(names)
    }

    /// Checks the fields of a filter (`workflow`, `error.code`) against the payloads of the events that some patterns select.
    /// Events of the application may have any field; so may `*`, which includes events that are registered later.
    ///
    /// # Errors
    /// `Error::Event` when a pattern stands for no name, or when none of the events has a field.
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
    let remedy = format!("is no field of {}: {suggestion}the fields are {}", patterns.join(", "), known.join(", "));
    Problem::new("filter", &Value::from(field), remedy)
}

fn event_error(name: &str, remedy: String) -> Error {
    Error::Event { problems: Problems(vec![Problem::new("event", &Value::from(name), remedy)]) }
}

/// `docs/events.md`.
pub fn markdown() -> String {
    let types = EVENT_TYPES.iter().map(|event| {
        let fields: String = event
            .payload
            .iter()
            .map(|field| format!("| `{}` | {} | {} |\n", field.name, field.kind, field.meaning))
            .collect();
        let EventType { name, when, since, durable, .. } = event;
        let durable = if *durable { "" } else { " Never durable." };
        format!("\n### {name}\n\n{when}{durable} Since {since}.\n\n| field | type | meaning |\n|---|---|---|\n{fields}")
    });
    format!(
        "# Events\n\n\
         Written from the table in `ext/orchestrator/src/events/registry.rs`: `UPDATE_DOCS=1 cargo test -p tasker_orchestrator \
         events`.\n\n\
         An event is told after the commit that it tells of, once, to those who listen in the process that made the change: \
         `TaskerCore.events.subscribe(\"step.failed\") {{ |event| … }}`, or a class of its own (`class Pager < \
         TaskerCore::Subscriber; subscribe_to \"step.failed\"; def call(event)`). `step.*` and `*` stand for several. Listeners \
         run in a thread of their own, in the order of the events; one that raises is reported and stops nobody. An event has \
         `id`, `name`, `occurred_at`, `correlation_id` and `payload`. With `events.notifications` ActiveSupport::Notifications gets \
         every event as well, as `step.failed.tasker_core`.\n\n\
         A listener object of [dry-events](https://dry-rb.org/gems/dry-events) is subscribed as a whole: \
         `TaskerCore.events.subscribe(Pager.new)` calls those of its methods that are named for events, `on_step_failed` for \
         `step.failed`, with a `Dry::Events::Event`, whose payload has `:event` beside the fields. `unsubscribe` and `subscribed?` \
         take the object. Subscribe objects of reloaded classes in `config.to_prepare`: a reload unsubscribes those that came before.\n\n\
         An application's own: `event \"order.shipped\"` in a workflow or handler, or `TaskerCore.events.register`, then `context.publish(\"order.shipped\", \
         order_id: 42)` in a handler or `TaskerCore.events.publish` elsewhere; inside a transaction it leaves after the commit. A \
         name that is not known is an error that tells the nearest one.\n\n\
         A filter selects events by fields of their payload: `subscribe_to \"step.failed\", workflow: \"order\", error: {{ code: \
         %w[card_declined card_expired] }}`, or `TaskerCore.events.subscribe(\"step.failed\", workflow: \"order\") {{ |event| … }}`. A \
         field must equal the value or be in the array, or the lambda must return true for it. A field that none of the events has is \
         an error that lists those that exist; payloads of an application's own events may have any field.\n\n\
         ## Durable subscriptions\n\n\
         A process that ends takes with it what its listeners were not told yet. A subscriber that must miss nothing says `durable`:\n\n\
         ```ruby\n\
         class Ledger < TaskerCore::Subscriber\n  durable\n  subscribe_to \"task.completed\", \"order.*\"\n\n  \
         def call(event) = Booking.create!(event: event.id, order_id: event[:order_id])\nend\n\
         ```\n\n\
         Its events are written to an outbox in the transaction that they tell of, whichever process makes it, and workers deliver \
         them: each at least once, those of a task in the order in which they happened, one at a time. What the subscriber writes with \
         the models of the same database commits with the note that the event is delivered, or not at all: such effects happen \
         exactly once. Other effects (a mail, a request) may happen again after a crash: `event.id` stays the same.\n\n\
         A subscriber that raises is given the same event again, with the delays of the settings in `retry`, and the events behind it \
         wait; nothing is passed over. An event that the database cannot return fails in the same way, and so does one whose \
         writes are refused at the commit. `tasker subscriptions` tells how each stands, and what it fails with; `tasker subscriptions \
         skip NAME` passes over the event that it fails with. A subscription begins when a worker first starts with its class, goes by \
         the name of the class or by another one (`durable \"ledger\"`), and stays, with its events, when the class is \
         gone, until `tasker subscriptions drop NAME` (a worker that still has the class begins it anew), or until the events are \
         older than `retention.keep`.\n\n\
         An event of the application's own is written down if it says so: `event \"order.shipped\", durable: true`; published in a \
         transaction it is part of it, under a transaction that is rolled back it never was. A transaction that goes on for long after \
         it has written something holds up all durable subscriptions until its end, as it may have an event that comes first.\n\n\
         ## All events\n{}",
        types.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), markdown(), "UPDATE_DOCS=1 writes it anew");
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
        let expected = "filter: \"workflw\" (string) is no field of task.*: did you mean `workflow`? \
                        the fields are task_id, task_uuid, namespace, workflow, version, reason, by";
        assert_eq!(verify(&["task.*"], &["workflow", "workflw"]), Err(expected.to_owned()));
        let expected = "filter: \"zzz\" (string) is no field of workflow.registered: \
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
    fn a_durable_subscription_can_have_what_is_written_down() {
        let registry = Registry::default();
        registry.register("order.shipped", true).unwrap();
        registry.register("order.shipped", false).unwrap();
        registry.register("order.seen", false).unwrap();
        assert!(registry.is_durable("order.shipped"));
        assert!(!registry.is_durable("order.seen") && !registry.is_durable("step.failed"), "SQL writes ours");
        assert_eq!(registry.resolve_durable("order.*").unwrap(), ["order.shipped"]);
        assert!(!registry.resolve_durable("step.*").unwrap().contains(&"step.started".to_owned()));
        for (pattern, message) in [
            ("order.seen", "declare it with `event \"order.seen\", durable: true`"),
            ("step.started", "is told where it happens and never written down"),
            ("step.faild", "did you mean `step.failed`?"),
        ] {
            let error = registry.resolve_durable(pattern).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
