//! The plans of the functions' statements under any statistics: no scan of a whole table, no join without an index, and
//! no function that the planner cannot inline.
//!
//! The plans come from auto_explain, as notices to the session that calls the functions.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use serde_json::{json, Value};
use tasker_orchestrator::Workflow;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

use crate::session::{completed, ended, failed, finish, held_by, key, on, quoted, register, request, text, Session};
use crate::support::{files, with, workflow, World};

/// Intended scans of a whole table: the table, the function (any, if empty), and the reason.
const WHOLE_BY_DESIGN: &[(&str, &str, &str)] = &[
    ("tasker_processes", "", "as many rows as there are worker processes"),
    ("tasker_subscriptions", "", "as many rows as there are durable subscriptions"),
    ("tasker_claimed_steps", "sweep", "only for a process that has been silent for too long: whether it holds a claim"),
    ("tasker_claimed_steps", "deregister_process", "once in a worker's life"),
    ("tasker_claimed_steps", "register_process", "once after each fail-over, and when it was given up for dead"),
    ("tasker_workflow_versions", "unused_versions", "as many rows as versions are kept"),
    ("tasker_workflow_versions", "find_tasks", "as many rows as versions are kept"),
    (
        "tasker_step_definitions",
        "repair_task",
        "by step_readiness, which is free of the rules for plans; a repair is rare",
    ),
    ("tasker_step_definitions", "dispatch_queues", "once in a worker's life"),
    // A task's live rows have no index of their own, as every claim would pay for it: only operators look for them.
    ("tasker_claimed_steps", "find_tasks", "once for as many tasks as it looks at: whose first step runs"),
    ("tasker_outbox_events", "prune", "from its beginning, up to a limit"),
    ("tasker_outbox_events", "drop_subscription", "all that only it waited for"),
    ("tasker_ready_steps", "delete_live_rows", "a task's live rows"),
    ("tasker_claimed_steps", "delete_live_rows", "a task's live rows"),
    ("tasker_claimed_steps", "lock_and_clear_task", "a task's live rows"),
];

/// The correlation id of no task.
const CORRELATION: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

const LIVE: &[&str] = &["tasker_ready_steps", "tasker_claimed_steps", "tasker_waiting_steps"];

/// Functions in a plan that expand arguments.
const GIVEN: &[&str] = &[
    "unnest",
    "jsonb_to_recordset",
    "jsonb_to_record",
    "jsonb_array_elements",
    "json_array_elements",
    "jsonb_each_text",
    "generate_series",
    // The server's own, in memory.
    "pg_lock_status",
    "pg_stat_get_activity",
    "pg_prepared_xact",
    "pg_control_system",
];

/// Collects the plans that the server logs for a session. They arrive on the thread that reads the connection: the
/// test's own.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<Vec<Value>>>);

impl Subscriber for Notices {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::postgres::notice"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }

            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() == "message" {
                    value.clone_into(&mut self.0);
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        if let Some((_, plan)) = message.0.split_once("plan:\n") {
            self.0.lock().unwrap().push(serde_json::from_str(plan).unwrap());
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Notices {
    /// The plans since the last call.
    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn explain_everything(session: &mut Session) {
    session
        .run(
            "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on; \
             set auto_explain.log_format = json; set client_min_messages = log",
        )
        .await;
}

/// Every node of a plan.
fn nodes<'a>(plan: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(plan);
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, found);
    }
}

/// The faults of a statement's plan.
fn faults(function: &str, plan: &Value) -> Vec<String> {
    let mut all = Vec::new();
    nodes(&plan["Plan"], &mut all);
    let mut faults = Vec::new();
    for node in all {
        let kind = node["Node Type"].as_str().unwrap();
        let relation = node["Relation Name"].as_str().unwrap_or_default();
        let is_meant = |(table, within, _): &(&str, &str, &str)| *table == relation && [function, ""].contains(within);
        let whole_is_meant = WHOLE_BY_DESIGN.iter().any(is_meant);
        match kind {
            "Seq Scan" if relation.starts_with("tasker_") && !whole_is_meant => {
                faults.push(format!("{kind} of {relation}"))
            }
            // By its order alone, an index is read from its beginning to its end unless a limit stops it.
            "Index Scan" | "Index Only Scan" | "Bitmap Index Scan"
                if node.get("Index Cond").is_none()
                    && !whole_is_meant
                    && (!LIVE.contains(&relation) || function == "held_claims") =>
            {
                faults.push(format!("{kind} of all of {relation} {}", node["Index Name"]));
            }
            "Hash Join" | "Merge Join" => faults.push(kind.to_owned()),
            "Function Scan" if node["Function Name"].as_str().is_some_and(|called| !GIVEN.contains(&called)) => {
                faults.push(format!("{kind} of {}", node["Function Name"]));
            }
            _ => {}
        }
    }
    faults
}

/// The statements of each function, from its source, which identify the function of a plan.
fn sources() -> Vec<(String, String)> {
    files("../../db/functions", ".sql")
        .iter()
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), words(&std::fs::read_to_string(path).unwrap()))
        })
        .collect()
}

/// SQL without comments, with single spaces, and without `into …`, as plpgsql runs it.
fn words(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let mut words: Vec<&str> = Vec::new();
    let mut all = lines.flat_map(str::split_whitespace);
    while let Some(word) = all.next() {
        if word == "into" && words.last() != Some(&"insert") {
            while all.next().is_some_and(|target| target.ends_with(',')) {}
        } else {
            words.push(word);
        }
    }
    words.join(" ").replace(';', "")
}

/// The function whose source contains a statement.
fn owner<'a>(sources: &'a [(String, String)], query: &str) -> Option<&'a str> {
    // `perform` and expressions are run as a SELECT.
    let query = words(query.strip_prefix("SELECT").unwrap_or(query));
    sources.iter().find(|(_, source)| source.contains(&query)).map(|(name, _)| name.as_str())
}

fn diamond() -> Value {
    let mut definition = workflow("diamond", &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])]);
    for step in definition["steps"].as_array_mut().unwrap() {
        step["retry"] = json!({"max_attempts": 2, "backoff": "none", "jitter": 0});
    }
    with(definition, 2, "queue", json!("other"))
}

/// Every action of workers and operators, once; the results are not checked here.
async fn do_everything(session: &mut Session, world: &World) {
    let diamond = register(world, &diamond()).await;
    let subscription = quoted(&json!([{"name": "s", "events": ["task.cancelled", "step.completed", "step.failed"]}]));
    session.call(&format!("register_subscriptions({subscription})")).await;
    run_workers(session, &diamond).await;
    run_jobs(session, world).await;
    let process = session.process("*").await;
    operate(session, &diamond, process).await;
    deliver(session, process).await;
    session.call(&format!("deregister_process({process})")).await;
    for filter in [
        json!({}),
        json!({"workflow": "diamond"}),
        json!({"correlation_id": CORRELATION, "states": ["pending"], "input": {}}),
    ] {
        session.call(&format!("find_tasks({}, null, 2, 10)", quoted(&filter))).await;
    }
    session.call("prune('1 hour', null, 100, true)").await;
    session.call("prune('1 hour', null, 100, false)").await;
}

/// Two processes create, claim, finish, release and lose steps.
async fn run_workers(session: &mut Session, diamond: &Workflow) {
    let (process, silent) = (session.process("*").await, session.process("default,other").await);
    let requests: Vec<Value> =
        (0..6).map(|key| request(diamond, json!({"idempotency_key": format!("{process} {key}")}))).collect();
    session.create_all(&requests).await;
    session.create_all(&requests[..1]).await;
    session.create(diamond, json!({"wait_until": "2100-01-01T00:00:00Z"})).await;
    let roots = session.claim(process, "*", 6).await;
    let outcomes: Vec<Value> = roots.iter().map(completed).collect();
    session.finish(process, &outcomes[..5], 4).await;
    session.finish(process, &outcomes[5..], 0).await;
    let claims = session.claim(silent, "default,other", 4).await;
    session.call(&format!("release_steps({silent}, {}, '0', 'shutdown', true)", held_by(&claims[..1]))).await;
    session.call(&format!("release_steps({silent}, {}, '1 h', 'unknown_handler')", held_by(&claims[1..2]))).await;
    session.call(&finish(silent, &[failed(&claims[2])], 3)).await;
    session.at("80 years").await;
    session.call(&format!("heartbeat({process}, {})", held_by(&roots[..1]))).await;
    session.call(&format!("sweep({process}, 100)")).await;
    session.at("0").await;
    session.call("wake_workers('{default,other}')").await;
}

/// A dispatcher enqueues jobs; one starts, one is not accepted, and one is not started in time.
async fn run_jobs(session: &mut Session, world: &World) {
    let jobs = register(world, &with(workflow("jobs", &[("s", &[])]), 0, "dispatch", json!("active_job"))).await;
    session.create_all(&vec![request(&jobs, json!({})); 4]).await;
    let (dispatcher, process) = (session.dispatcher().await, session.job_process().await);
    let dispatched = session.call(&format!("dispatch_steps({dispatcher}, '{{default}}', 3, 4, '5 minutes')")).await;
    let claims = dispatched["claims"].as_array().unwrap();
    session.call(&format!("confirm_dispatch({dispatcher}, {})", held_by(&claims[..2]))).await;
    let refused = held_by(&claims[2..]);
    session.call(&format!("release_steps({dispatcher}, {refused}, '1 h', 'not_enqueued', false, '{{}}')")).await;
    let adopted = session.call(&format!("adopt_claim({process}, {}, 1000)", quoted(&key(&claims[0])))).await;
    session.finish(process, &[completed(&adopted["claims"][0])], 0).await;
    session.call(&format!("dispatch_steps({dispatcher}, '{{*}}', 1, 1, '5 minutes')")).await;
    session.at("10 minutes").await;
    session.call(&format!("sweep({process}, 100)")).await;
    session.at("0").await;
    for queues in [json!(["default"]), json!([])] {
        session.call(&format!("dispatch_queues({})", quoted(&queues))).await;
    }
}

/// A task from its failure to its cancellation, with the reads of a handler.
async fn operate(session: &mut Session, diamond: &Workflow, process: i64) {
    let task = session.create(diamond, json!({"priority": -100})).await;
    let scheduled = session.create(diamond, json!({"wait_until": "2100-01-01T00:00:00Z"})).await;
    let claims = session.claim(process, "default", 1).await;
    let never = ended(&claims[0], json!({"outcome": "failed", "retryable": false}));
    session.finish(process, &[never], 0).await;
    session.call(&format!("retry_step({task}, 0, 'x', 'y')")).await;
    let claims = session.claim(process, "default", 1).await;
    session.finish(process, &[completed(on(&claims, "a"))], 0).await;
    session.call(&format!("ancestor_results({task}, 3)")).await;
    session.call(&format!("ancestor_results({task}, 3, '{{a}}', -1, 10)")).await;
    session.call(&format!("task_input({task})")).await;
    session.call(&format!("next_task({task}, null)")).await;
    session.call("next_task(null, null)").await;
    let lean = session.call(&format!("claim_steps({process}, '{{*}}', 1, 1000)")).await;
    let version = lean["versions"].as_object().unwrap().keys().next().unwrap();
    session.call(&format!("workflow_definition({version})")).await;
    let held = held_by(lean["claims"].as_array().unwrap());
    session.call(&format!("task_input({task}, {process}, ({held}::jsonb)->0)")).await;
    session.call(&format!("release_steps({process}, {held}, '0', 'shutdown')")).await;
    session.call(&format!("update_result({task}, 0, '{{}}', 'x', 'y')")).await;
    session.call(&format!("complete_step({task}, 1, '{{}}', 'x', 'y')")).await;
    session.try_call(&format!("retry_task({task}, 'x', 'y')")).await.unwrap_err();
    session.call(&format!("retry_task({scheduled}, 'x', 'y')")).await;
    session.call(&format!("repair_task({task}, 'x', 'y')")).await;
    session.call(&format!("cancel_task({task}, 'x', 'y')")).await;
    session.try_call(&format!("resolve_task({task}, 'x', 'y')")).await.unwrap_err();
}

/// Fetches events, fails to deliver one, skips it, and removes the subscription.
async fn deliver(session: &mut Session, process: i64) {
    let taken = session.take_at_last(process, "s", 5).await;
    let retry = quoted(&json!({"backoff": "none", "base_ms": 0, "factor": 1, "cap_ms": 0, "jitter": 0}));
    let ack =
        format!("ack_events({process}, 's', pg_current_xact_id()::text::bigint, {}, '{{}}', {retry})", taken["to"]);
    session.call(&ack).await;
    session.call("skip_event('s', 'x', 'y')").await;
    session.call("drop_subscription('s')").await;
}

/// Twenty thousand tasks that were created one after the other and have ended, with their steps, inputs and attempts.
async fn fill(session: &mut Session, world: &World) {
    let one = register(world, &workflow("one", &[("s", &[]), ("t", &["s"])])).await;
    let process = session.process("*").await;
    let task = session.create(&one, json!({})).await;
    session.complete_all(process).await;
    session
        .run(&format!(
            "insert into tasker_tasks (active, remaining, state, ended_at, workflow_version_id, uuid, priority, correlation_id, tags, created_at) \
               select active, remaining, state, ended_at, workflow_version_id, tasker_core_v1.uuid_v7(now() - (20000 - n) * interval '10 ms'), priority, correlation_id, tags, \
                 created_at from tasker_tasks, generate_series(1, 20000) n where id = {task}; \
             insert into tasker_task_inputs select id, 2, '{{}}' from tasker_tasks where id > {task}; \
             insert into tasker_workflow_steps select t.id, s.position, s.pending_parents, s.attempts, s.result_bytes, s.state, s.result \
               from tasker_tasks t, tasker_workflow_steps s where t.id > {task} and s.task_id = {task}; \
             insert into tasker_step_attempts select t.id, a.position, a.attempt, a.token, a.process_id, a.ready_at, a.claimed_at, a.started_at, \
                 a.finished_at, a.outcome from tasker_tasks t, tasker_step_attempts a where t.id > {task} and a.task_id = {task}"
        ))
        .await;
}

/// Functions of which a plan must be seen.
const PLANNED: &[&str] = &[
    "ready_scan_starts",
    "claim_steps",
    "lock_queued_steps",
    "insert_claims",
    "describe_claims",
    "workflow_definition",
    "task_input",
    "ancestor_results",
    "next_task",
    "finish_steps",
    "advance_tasks",
    "return_claims",
    "held_claims",
    "register_process",
    "heartbeat",
    "claim_scan_start",
    "waiting_scan_start",
    "sweep",
    "create_tasks",
    "find_versions",
    "take_idempotency_keys",
    "check_idempotency_keys",
    "describe_created_tasks",
    "enqueue_steps",
    "prune",
    "delete_live_rows",
    "override_step",
    "requeue_failed_steps",
    "repair_task",
    "build_events",
    "store_events",
    "fetch_events",
    "ack_events",
    "find_tasks",
    "count_task",
    "fold_counts",
    "delete_processes",
    "adopt_claim",
    "confirm_dispatch",
    "dispatch_steps",
    "dispatch_queues",
];

/// Functions in plain SQL, which become a part of the statement that calls them.
const INLINED: &[&str] = &["retry_delay", "scan_mark", "step_readiness", "parent_results", "step_event"];

/// What the planner knows of the tables.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistics {
    OfFewRows,
    /// Many rows were added since.
    Outdated,
    OfPresentRows,
    OfManyReadySteps,
}

impl Statistics {
    const ALL: [Self; 4] = [Self::OfFewRows, Self::Outdated, Self::OfPresentRows, Self::OfManyReadySteps];

    async fn prepare(self, session: &mut Session, world: &World) {
        match self {
            Self::OfFewRows => do_everything(session, world).await,
            Self::Outdated => fill(session, world).await,
            Self::OfPresentRows => {}
            Self::OfManyReadySteps => {
                let one = register(world, &workflow("one", &[("s", &[]), ("t", &["s"])])).await;
                session.create_all(&vec![request(&one, json!({"priority": 5})); 5000]).await;
            }
        }
        if self != Self::Outdated {
            session.run("analyze").await;
        }
    }
}

#[test]
fn no_statement_reads_a_whole_table_under_any_statistics() {
    World::run(|world| async move {
        let notices = Notices::default();
        let _listening = tracing::subscriber::set_default(notices.clone());
        let sources = sources();
        let mut session = Session::open(&world).await;
        for table in crate::session::tables(&world).await {
            session.run(&format!("alter table {table} set (autovacuum_enabled = false)")).await;
        }
        let mut planned: BTreeSet<String> = BTreeSet::new();
        let mut faulty: Vec<String> = Vec::new();
        for statistics in Statistics::ALL {
            statistics.prepare(&mut session, &world).await;
            let mut observed = Session::open(&world).await;
            explain_everything(&mut observed).await;
            do_everything(&mut observed, &world).await;
            for plan in notices.take() {
                let query = text(&plan["Query Text"]);
                let Some(function) = owner(&sources, &query) else {
                    assert!(query.starts_with("select to_json(tasker_core_v1."), "whose statement is this? {query}");
                    continue;
                };
                planned.insert(function.to_owned());
                let found = faults(function, &plan).join("; ");
                if !found.is_empty() {
                    faulty.push(format!("{function}, {statistics:?}: {found}\n{query}\n{:#}", plan["Plan"]));
                }
            }
        }
        assert!(faulty.is_empty(), "{}", faulty.join("\n\n"));
        for function in PLANNED {
            assert!(planned.contains(*function), "no plan of {function} was seen: {planned:?}");
        }
        for function in INLINED {
            assert!(!planned.contains(*function), "{function} was called, not inlined");
        }
    });
}

#[test]
fn a_report_on_one_task_is_planned_inline() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        fill(&mut session, &world).await;
        session.run("analyze").await;
        // The question, whether it is a report (asked for as a whole), and how many pages it may read.
        for (question, report, pages) in [
            ("step_states(array[5]) where state = 'ready'", false, 60),
            ("step_states(array[5, 6, 7, 4711]) where attempts > 0", false, 150),
            ("step_readiness(5) where may_run", false, 60),
            ("task_execution_context(5) where execution_status = 'blocked_by_failures'", false, 80),
            ("tasker_tasks t cross join lateral tasker_core_v1.task_execution_context(t.id) where t.id = 5", false, 80),
            ("dependency_levels(1) where level = 0", false, 20),
            ("slowest_steps(now() + interval '1 minute', 5) where attempt = 1", true, 100),
            ("slowest_tasks(now() + interval '1 minute', 5) where state = 'error'", true, 100),
            ("analytics(now() + interval '1 minute') where error > 0", true, 100),
            ("system_health(100) where silent_processes > 0", true, 100),
        ] {
            let from = if question.starts_with("tasker_") {
                question.to_owned()
            } else {
                format!("tasker_core_v1.{question}")
            };
            session.run(&format!("select 1 from {from}")).await;
            let rows = sqlx::query_scalar::<_, Value>(sqlx::AssertSqlSafe(format!(
                "explain (analyze, buffers, format json) select 1 from {from}"
            )))
            .fetch_one(&mut session.connection)
            .await
            .unwrap();
            let plan = &rows[0];
            let mut all = Vec::new();
            nodes(&plan["Plan"], &mut all);
            for node in all {
                let called = node["Function Name"].as_str().unwrap_or_default();
                assert!(called.is_empty() || GIVEN.contains(&called) || report, "{question} calls {called}: {plan:#}");
            }
            let read = plan["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
                + plan["Plan"]["Shared Read Blocks"].as_i64().unwrap();
            assert!(read <= pages, "{question} reads {read} pages: {plan:#}");
        }
    });
}

#[test]
fn a_list_reads_only_the_tasks_it_shows_under_every_filter() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let rare = register(&world, &workflow("rare", &[("s", &[])])).await;
        session.create(&rare, json!({})).await;
        fill(&mut session, &world).await;
        session.create_all(&vec![request(&rare, json!({})); 100]).await;
        let old = session.one("select uuid from tasker_tasks where id = 100").await;
        for when in ["of a few rows", "of the present rows"] {
            if when == "of the present rows" {
                session.run("analyze").await;
            }
            // The plans of another session would be kept.
            let mut calling = Session::open(&world).await;
            for (filter, pages) in [
                (json!({}), 60),
                (json!({"workflow": "one"}), 60),
                (json!({"workflow": "rare"}), 60),
                (json!({"namespace": "default"}), 120),
                (json!({"correlation_id": CORRELATION}), 10),
                (json!({"states": ["complete", "error"]}), 300),
            ] {
                for before in [Value::Null, old.clone()] {
                    let before = before.as_str().map_or_else(|| "null".to_owned(), |uuid| format!("'{uuid}'"));
                    let question =
                        format!("select tasker_core_v1.find_tasks({}, {before}, 50, 10000)", quoted(&filter));
                    calling.run(&question).await;
                    let plan = sqlx::query_scalar::<_, Value>(sqlx::AssertSqlSafe(format!(
                        "explain (analyze, buffers, format json) {question}"
                    )))
                    .fetch_one(&mut calling.connection)
                    .await
                    .unwrap();
                    let plan = &plan[0]["Plan"];
                    let read =
                        plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap();
                    assert!(read <= pages, "{filter} before {before} reads {read} pages, with statistics {when}");
                }
            }
        }
    });
}
