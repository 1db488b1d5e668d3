//! Reads a definition (the same keys from YAML and from the Ruby class) into checked steps.
//!
//! Invariant: every accepted key has an effect, every other key is an error that suggests the nearest known one, and
//! all errors are reported together. Neighbour: `workflow` compiles the result.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jsonschema::Validator;
use serde_json::{Map, Value};

use crate::configuration::schema::ANY;
use crate::configuration::{Configuration, RetryPolicy};
use crate::error::{Error, Problem, Problems};
use crate::suggestion::nearest;
use crate::workflow::reader::Reader;
use crate::workflow::step::{Dispatch, Step};
use crate::workflow::{graph, input_schema, job, payload};

// The comment above a key has its allowed values and, behind the semicolon, its meaning. docs/workflows.md is generated
// from them.
const WORKFLOW_KEYS: [&str; 7] = [
    // up to 100 lower-case letters, digits and underscores, not a digit first; the name of the workflow (required)
    "name",
    // like a name, default: `default`; groups workflows: a name is unique within its namespace
    "namespace",
    // 1 to 50 characters without spaces; identifies this content permanently; by default it is derived from the content
    "version",
    // a string; for readers of the definition
    "description",
    // worker or active_job, default: worker, or active_job for a queue in `dispatch.queues`; whether steps run in
    // workers or as jobs of the application's queue
    "dispatch",
    // a JSON Schema; validates a task's input, including formats, before the task is created
    "input",
    // an array of at most `limits.steps_per_workflow` steps; the graph (required)
    "steps",
];
const STEP_KEYS: [&str; 14] = [
    // like the workflow's name; the name of the step within its workflow (required)
    "name",
    // the name of a class; its `call(context)` runs the step (required in YAML, unless `job` is given)
    "handler",
    // the name of an Active Job class; its `perform` runs the step, and is never enqueued
    "job",
    // an array, or an object of keyword arguments, default: none; arguments of the job's `perform`: values, or paths to
    // values such as `$.input.order_id`, `$.results.STEP.total` and `$.config.account`
    "arguments",
    // an array of names of steps, default: none; all of them must be done before the step starts
    "depends_on",
    // the keys of the table below; when a failed attempt is retried
    "retry",
    // a duration in the range of `steps.timeout`, which is its default; time limit of one attempt
    "timeout",
    // true or false, default: true; false means exactly one attempt
    "retryable",
    // a name, default: `steps.queue`; selects the workers that run the step: `tasker work --queues`
    "queue",
    // like the workflow's, which is its default; whether the step runs in a worker or as a job
    "dispatch",
    // an integer from -32768 to 32767, default: 0; added to the task's priority: the smallest sum runs first
    "priority",
    // the name of a system in the settings; available as `context.system`; limits the handlers that use it at the same
    // time
    "system",
    // an object, default: empty; available to the handler as `context.config`
    "config",
    // a string; for readers of the definition
    "description",
];
const MAX_NAME_LENGTH: usize = 100;
const MAX_VERSION_LENGTH: usize = 50;
const DEFAULT_NAMESPACE: &str = "default";
/// Each suggestion compares with every step; a large graph that is wrong throughout is not worth the wait.
const MAX_SUGGESTIONS: usize = 10;

/// A definition without a fault, its steps in an order in which every parent comes first.
pub struct Definition {
    pub namespace: String,
    pub name: String,
    pub version: Option<String>,
    pub description: Option<String>,
    pub input_schema: Option<Value>,
    /// The schema, ready for use.
    pub input: Option<Validator>,
    pub steps: Vec<Step>,
}

/// A step as declared: its parents by name. One with a fault of its own still has its place in the graph, so that
/// the steps that depend on it are not blamed.
struct Declared<'a> {
    index: usize,
    name: &'a str,
    depends_on: Vec<&'a str>,
    config: Value,
    step: Option<Step>,
}

/// Reads and checks a definition.
///
/// # Errors
/// `Error::Definition` with every problem.
pub fn read(definition: &Value, settings: &Configuration) -> Result<Definition, Error> {
    let problems = RefCell::new(Vec::new());
    let whole = Reader::new("", definition, &problems);
    if !definition.is_object() {
        return Err(Error::Definition(Problems(problems.take())));
    }
    if let Some((field, problem)) = payload::unstorable(definition) {
        problems.borrow_mut().push(Problem::new(field, &Value::Null, problem.to_string()));
    }
    whole.reject_unknown_keys(&WORKFLOW_KEYS);
    let name = name_of(&whole, "name", "give the workflow a name");
    let namespace = whole.value("namespace").map_or(Some(DEFAULT_NAMESPACE), |_| name_of(&whole, "namespace", ""));
    let version = version_of(&whole);
    let description = whole.text("description");
    let input_schema = whole.value("input").cloned();
    let input = input_schema.as_ref().and_then(|schema| input_schema::compile(schema, &problems));
    let dispatch = dispatch_of(&whole);
    let declared = steps_of(&whole, &problems, settings, dispatch);
    let order = ordered(&declared, input_schema.as_ref(), &problems);

    let found = problems.take();
    match (name, namespace, order) {
        (Some(name), Some(namespace), Some(order)) if found.is_empty() => Ok(Definition {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.map(str::to_owned),
            description: description.map(str::to_owned),
            input_schema,
            input,
            steps: positioned(declared, &order),
        }),
        _ => Err(Error::Definition(Problems(found))),
    }
}

fn name_of<'a>(reader: &Reader<'a>, key: &str, remedy: &str) -> Option<&'a str> {
    if reader.value(key).is_none() {
        reader.report_missing(key, remedy);
        return None;
    }
    let text = reader.text(key)?;
    let named = text.len() <= MAX_NAME_LENGTH
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && text.chars().all(|other| other.is_ascii_lowercase() || other.is_ascii_digit() || other == '_');
    if !named {
        reader.report(
            key,
            &text.into(),
            format!("must be up to {MAX_NAME_LENGTH} lower-case letters, digits and underscores, not a digit first"),
        );
    }
    named.then_some(text)
}

fn version_of<'a>(reader: &Reader<'a>) -> Option<&'a str> {
    let version = reader.text("version")?;
    if version.is_empty() || version.chars().count() > MAX_VERSION_LENGTH || version.chars().any(char::is_whitespace) {
        let remedy = format!("must be 1 to {MAX_VERSION_LENGTH} characters without spaces, such as \"1.0.0\"");
        reader.report("version", &version.into(), remedy);
    }
    Some(version)
}

fn steps_of<'a>(
    whole: &Reader<'a>,
    problems: &'a RefCell<Vec<Problem>>,
    settings: &Configuration,
    dispatch: Option<Dispatch>,
) -> Vec<Declared<'a>> {
    let Some(value) = whole.value("steps") else {
        whole.report_missing("steps", "a workflow needs at least one step");
        return Vec::new();
    };
    let Some(items) = value.as_array() else {
        whole.report("steps", value, "must be an array of steps");
        return Vec::new();
    };
    if items.is_empty() {
        whole.report("steps", value, "must have at least one step");
    }
    if items.len() > settings.limits.steps_per_workflow {
        let limit = settings.limits.steps_per_workflow;
        whole.report_missing("steps", &format!("{} steps, and limits.steps_per_workflow is {limit}", items.len()));
        return Vec::new();
    }
    items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            let reader = Reader::new(format!("steps[{index}]"), item, problems);
            item.is_object().then(|| step_of(index, &reader, settings, dispatch)).flatten()
        })
        .collect()
}

fn step_of<'a>(
    index: usize,
    reader: &Reader<'a>,
    settings: &Configuration,
    workflow_dispatch: Option<Dispatch>,
) -> Option<Declared<'a>> {
    reader.reject_unknown_keys(&STEP_KEYS);
    let name = name_of(reader, "name", "give the step a name");
    let handler = handler_of(reader);
    let depends_on = reader.texts("depends_on").unwrap_or_default();
    let retry = match reader.section("retry") {
        Some(section) => RetryPolicy::read(&section, &settings.retry),
        None => settings.retry.clone(),
    };
    let retry = once_if_not_retryable(retry, reader);
    let timeout = reader.setting("timeout", "steps.timeout", "").and_then(|seconds| seconds.as_f64());
    let queue =
        reader.setting("queue", "steps.queue", "").map_or(settings.steps.queue.clone(), |queue| text_of(&queue));
    let system = reader.text("system").filter(|name| is_known_system(name, reader, settings));
    let dispatch = dispatch_of(reader).or(workflow_dispatch);
    let priority = reader.integer("priority", -32_768..=32_767);
    let mut config = config_of(reader);
    job::add_arguments(&mut config, reader);
    let description = reader.text("description");
    let declared_name = reader.value("name").and_then(Value::as_str)?;
    let step = name.zip(handler).map(|(name, handler)| Step {
        position: 0,
        name: name.to_owned(),
        handler,
        description: description.map(str::to_owned),
        queue,
        dispatch,
        priority: priority.unwrap_or(0),
        level: 0,
        dependencies: Vec::new(),
        dependents: Vec::new(),
        retry,
        timeout: timeout.map_or(settings.steps.timeout, Duration::from_secs_f64),
        system: system.map(str::to_owned),
        config: config.clone(),
    });
    Some(Declared { index, name: declared_name, depends_on, config, step })
}

fn handler_of(reader: &Reader<'_>) -> Option<String> {
    if reader.value("job").is_some() {
        return job::handler(reader);
    }
    if reader.value("handler").is_none() {
        reader.report_missing("handler", "name the handler's class");
    }
    let handler = reader.text("handler")?;
    if handler.is_empty() {
        reader.report("handler", &Value::from(""), "must name the handler's class");
    }
    if job::is_job(handler) {
        reader.report("handler", &handler.into(), "is not a class: name a job's class with `job`");
    }
    Some(handler.to_owned())
}

/// Where steps run, if that is declared.
fn dispatch_of(reader: &Reader<'_>) -> Option<Dispatch> {
    let name = reader.text("dispatch")?;
    let dispatch = Dispatch::of(name);
    if dispatch.is_none() {
        let remedy = match nearest(name, &Dispatch::NAMES) {
            Some(nearest) => format!("must be worker or active_job: did you mean `{nearest}`?"),
            None => "must be worker or active_job".to_owned(),
        };
        reader.report("dispatch", &name.into(), remedy);
    }
    dispatch
}

fn config_of(reader: &Reader<'_>) -> Value {
    let config = reader.value("config").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    if !config.is_object() {
        reader.report("config", &config, "must be an object with named fields");
    }
    config
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn is_known_system(name: &str, reader: &Reader<'_>, settings: &Configuration) -> bool {
    if settings.system(name).is_some() {
        return true;
    }
    let known: Vec<&str> = settings.systems.keys().map(String::as_str).filter(|known| *known != ANY).collect();
    let remedy = match nearest(name, &known) {
        Some(nearest) => format!("is not a configured system: did you mean `{nearest}`?"),
        None => format!("is not a configured system: set `systems.{name}.base_url`"),
    };
    reader.report("system", &name.into(), remedy);
    false
}

fn once_if_not_retryable(mut retry: RetryPolicy, reader: &Reader<'_>) -> RetryPolicy {
    if reader.boolean("retryable") == Some(false) {
        let declared = reader.value("retry").and_then(|retry| retry.get("max_attempts"));
        if let Some(declared) = declared.filter(|declared| declared.as_u64() != Some(1)) {
            reader.report(
                "retry.max_attempts",
                declared,
                "contradicts `retryable: false`, which means exactly one attempt",
            );
        }
        retry.max_attempts = 1;
    }
    retry
}

/// Checks the arrows between steps, and the arguments that follow them, and orders the steps; `None` when they cannot be
/// ordered.
fn ordered(declared: &[Declared<'_>], input: Option<&Value>, problems: &RefCell<Vec<Problem>>) -> Option<graph::Order> {
    let places = places(declared, problems);
    let parents = parents(declared, &places, problems);
    check_arguments(declared, &parents, input, problems);
    match graph::order(&parents) {
        Ok(order) => Some(order),
        Err(cycle) => {
            let path: Vec<&str> = cycle.iter().map(|&place| declared[place].name).collect();
            let message = format!("the dependencies form a cycle: {}", path.join(" → "));
            problems.borrow_mut().push(Problem::new("steps", &Value::Null, message));
            None
        }
    }
}

/// The place of each step in `declared`, by name. Reports names that appear twice.
fn places<'a>(declared: &[Declared<'a>], problems: &RefCell<Vec<Problem>>) -> HashMap<&'a str, usize> {
    let mut places = HashMap::new();
    for (place, step) in declared.iter().enumerate() {
        if places.insert(step.name, place).is_some() {
            let field = format!("steps[{}].name", step.index);
            report(problems, field, step.name, "is the name of an earlier step as well");
        }
    }
    places
}

/// The places of each step's parents. Reports names in `depends_on` that cannot be parents.
fn parents(
    declared: &[Declared<'_>],
    places: &HashMap<&str, usize>,
    problems: &RefCell<Vec<Problem>>,
) -> Vec<Vec<usize>> {
    let names: Vec<&str> = declared.iter().map(|step| step.name).collect();
    let mut unknown = 0;
    let mut parents = vec![Vec::new(); declared.len()];
    for (place, step) in declared.iter().enumerate() {
        let mut seen = HashSet::new();
        for (number, parent) in step.depends_on.iter().enumerate() {
            let field = format!("steps[{}].depends_on[{number}]", step.index);
            match places.get(parent) {
                None => {
                    unknown += 1;
                    let candidates = if unknown <= MAX_SUGGESTIONS { names.as_slice() } else { &[] };
                    report(problems, field, parent, &unknown_step(parent, candidates));
                }
                Some(&other) if other == place => report(problems, field, parent, "is the step itself"),
                Some(other) if !seen.insert(other) => report(problems, field, parent, "appears twice"),
                Some(&other) => parents[place].push(other),
            }
        }
    }
    parents
}

fn check_arguments(
    declared: &[Declared<'_>],
    parents: &[Vec<usize>],
    input: Option<&Value>,
    problems: &RefCell<Vec<Problem>>,
) {
    let steps: Vec<&str> = declared.iter().map(|step| step.name).collect();
    for (place, step) in declared.iter().enumerate().filter(|(_, step)| job::has_arguments(&step.config)) {
        let ancestors = graph::ancestors(parents, place).into_iter().map(|other| declared[other].name).collect();
        let scope = job::Scope { input, config: &step.config, ancestors: &ancestors, steps: &steps };
        job::check_arguments(&format!("steps[{}]", step.index), &scope, problems);
    }
}

fn unknown_step(name: &str, names: &[&str]) -> String {
    nearest(name, names).map_or_else(
        || "is not a step of this workflow".to_owned(),
        |nearest| format!("is not a step of this workflow: did you mean `{nearest}`?"),
    )
}

fn report(problems: &RefCell<Vec<Problem>>, field: String, value: &str, message: &str) {
    problems.borrow_mut().push(Problem::new(field, &value.into(), message));
}

/// Puts the steps at their positions and turns names into positions.
fn positioned(declared: Vec<Declared<'_>>, order: &graph::Order) -> Vec<Step> {
    let position_of: HashMap<&str, usize> =
        order.nodes.iter().enumerate().map(|(position, &place)| (declared[place].name, position)).collect();
    let mut dependents = vec![Vec::new(); declared.len()];
    let mut steps: Vec<Option<Step>> = declared.iter().map(|_| None).collect();
    for (place, Declared { name, depends_on, step, .. }) in declared.into_iter().enumerate() {
        let Some(mut step) = step else { continue };
        let position = position_of[name];
        step.position = position;
        step.level = order.levels[place];
        step.dependencies = depends_on.iter().map(|parent| position_of[parent]).collect();
        step.dependencies.sort_unstable();
        for &parent in &step.dependencies {
            dependents[parent].push(position);
        }
        steps[position] = Some(step);
    }
    steps
        .into_iter()
        .flatten()
        .zip(dependents)
        .map(|(mut step, mut dependents)| {
            dependents.sort_unstable();
            step.dependents = dependents;
            step
        })
        .collect()
}
