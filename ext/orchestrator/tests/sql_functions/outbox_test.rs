//! Durable subscriptions: which events are written to the outbox, in which transaction, and in which order they are
//! fetched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use tasker_orchestrator::Workflow;

use crate::session::{ended, failed, failed_for_good, on, quoted, register, stop_the_clock, text, Session};
use crate::support::{with, workflow, World};

const ALL: &[&str] = &[
    "task.created",
    "task.completed",
    "task.failed",
    "task.retried",
    "task.cancelled",
    "task.resolved_manually",
    "step.completed",
    "step.retry_scheduled",
    "step.failed",
    "step.cancelled",
    "step.resolved_manually",
];
const RETRY: &str = r#"{"backoff": "fixed", "base_ms": 10000, "factor": 1, "cap_ms": 60000, "jitter": 0}"#;
/// The transaction of the statement.
const THIS: &str = "pg_current_xact_id()::text::bigint";

impl Session {
    async fn subscribe(&mut self, name: &str, events: &[&str]) -> Value {
        let given = quoted(&json!([{"name": name, "events": events}]));
        self.call(&format!("register_subscriptions({given})")).await
    }

    /// Stores an event of an application's own.
    async fn store(&mut self, name: &str, payload: Value) -> Value {
        let given = quoted(&json!([{"name": name, "correlation_id": null, "payload": payload}]));
        self.call(&format!("store_events({given})")).await
    }

    async fn take(&mut self, process: i64, name: &str, limit: usize) -> Value {
        self.call(&format!("fetch_events({process}, '{name}', {limit})")).await
    }

    /// Fetches until events are returned, or none can be returned any more: the first fetch only sets a mark.
    pub async fn take_at_last(&mut self, process: i64, name: &str, limit: usize) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let response = self.take(process, name, limit).await;
            if response["events"] != json!([]) || response["pending"] == json!(false) {
                return response;
            }
            assert!(Instant::now() < deadline, "{response}");
        }
    }

    async fn taken(&mut self, process: i64, name: &str) -> Vec<Value> {
        self.take_at_last(process, name, 100).await["events"].as_array().unwrap().clone()
    }

    async fn delivered(&mut self, process: i64, name: &str, to: &Value) {
        self.call(&format!("ack_events({process}, '{name}', {THIS}, {to}, null, null)")).await;
    }

    async fn fails(&mut self, process: i64, name: &str, to: &Value) -> Value {
        let error = r#"{"class": "E", "message": "no"}"#;
        self.call(&format!("ack_events({process}, '{name}', {THIS}, {to}, '{error}', '{RETRY}')")).await
    }

    /// All events of a subscription in their order, each ended.
    async fn all(&mut self, process: i64, name: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let events = self.taken(process, name).await;
            let Some(last) = events.last() else { return all };
            self.delivered(process, name, &last["id"]).await;
            all.extend(events);
        }
    }
}

/// `name step`
fn outline(events: &[Value]) -> Vec<String> {
    let label = |event: &Value| match &event["payload"]["step"] {
        Value::Null => text(&event["name"]),
        step => format!("{} {}", text(&event["name"]), text(step)),
    };
    events.iter().map(label).collect()
}

fn numbers(events: &[Value]) -> Vec<i64> {
    events.iter().map(|event| event["payload"]["n"].as_i64().unwrap()).collect()
}

const CORRELATION: &str = "0199aaaa-0000-7000-8000-000000000001";

/// A workflow of a root and two children, of which the first is tried twice with a delay of 7 s.
async fn register_observed(world: &World) -> Workflow {
    stop_the_clock(world).await;
    let definition = workflow("observed", &[("a", &[]), ("b", &["a"]), ("c", &["a"])]);
    let retry = json!({"max_attempts": 2, "backoff": "fixed", "base": "7s", "jitter": 0});
    register(world, &with(definition, 1, "retry", retry)).await
}

#[test]
fn only_subscribed_events_of_committed_changes_are_stored() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let observed = register_observed(&world).await;
        // Without any subscription, and with one to another event.
        let before = session.create(&observed, json!({})).await;
        session.call(&format!("cancel_task({before}, 'x', 'y')")).await;
        session.subscribe("another", &["order.shipped"]).await;
        let before = session.create(&observed, json!({})).await;
        session.call(&format!("cancel_task({before}, 'x', 'y')")).await;
        assert_eq!(session.count("tasker_outbox_events").await, 0);
        assert_eq!(session.subscribe("all", ALL).await, 1);
        session.run("begin").await;
        session.create(&observed, json!({})).await;
        session.run("rollback").await;
        assert_eq!(session.count("tasker_outbox_events").await, 0, "a rolled-back change has no event");
        session.create(&observed, json!({})).await;
        assert_eq!(session.count("tasker_outbox_events").await, 1);
        assert_eq!(session.count("tasker_outbox_events where name = 'order.shipped'").await, 0);
    });
}

/// Runs a task whose children fail, are retried by an operator, and fail again, until an operator resolves the task;
/// returns its id.
async fn fail_twice_and_resolve(session: &mut Session, observed: &Workflow, process: i64) -> i64 {
    let task = session.create(observed, json!({"correlation_id": CORRELATION, "idempotency_key": "once"})).await;
    assert_eq!(session.create(observed, json!({"idempotency_key": "once"})).await, task);
    let root = session.claim_one(process).await;
    let outcome = ended(&root, json!({"outcome": "completed", "result": {}, "waited_us": 5, "ran_us": 1250}));
    session.finish(process, &[outcome], 0).await;
    let claims = session.claim(process, "*", 2).await;
    let coded = ended(
        on(&claims, "c"),
        json!({"outcome": "failed", "retryable": false, "ran_us": 10, "waited_us": 0,
               "error": {"class": "E", "message": "never", "code": "c1", "backtrace": ["x"]}}),
    );
    session.finish(process, &[failed(on(&claims, "b")), coded], 0).await;
    session.at("8 seconds").await;
    session.call("sweep(null, 10)").await;
    let again = session.claim_one(process).await;
    session.finish(process, &[failed_for_good(&again)], 0).await;
    session.call(&format!("retry_task({task}, 'why', 'ada')")).await;
    let again = session.claim(process, "*", 2).await;
    session.finish(process, &[failed_for_good(on(&again, "b")), failed_for_good(on(&again, "c"))], 0).await;
    session.call(&format!("resolve_task({task}, 'why', 'ada')")).await;
    task
}

#[test]
fn each_event_is_stored_once_in_order_with_all_fields() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let observed = register_observed(&world).await;
        let process = session.process("*").await;
        session.subscribe("all", ALL).await;
        let task = fail_twice_and_resolve(&mut session, &observed, process).await;
        let events = session.all(process, "all").await;
        let uuid = session.one(&format!("select uuid from tasker_tasks where id = {task}")).await;
        let of_task = json!({"task_id": task, "task_uuid": uuid, "namespace": "default", "workflow": "observed",
                             "version": observed.version()});
        let and = |more: Value| {
            let mut payload = of_task.clone();
            payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            payload
        };
        let retried = json!({"class": "E", "message": "no", "code": null});
        let coded = json!({"class": "E", "message": "never", "code": "c1"});
        let by_operator = json!({"reason": "why", "by": "ada"});
        // `None`: another event of the same kind shows the fields.
        let expected = [
            ("task.created", Some(of_task.clone())),
            ("step.completed a", Some(and(json!({"step": "a", "attempt": 1, "max_attempts": 3, "duration_ms": 1.25})))),
            (
                "step.retry_scheduled b",
                Some(and(json!({"step": "b", "attempt": 1, "max_attempts": 2, "error": retried, "delay_ms": 7000}))),
            ),
            (
                "step.failed c",
                Some(and(json!({"step": "c", "attempt": 1, "max_attempts": 3, "duration_ms": 0.01, "error": coded}))),
            ),
            ("step.failed b", None),
            ("task.failed", Some(of_task.clone())),
            ("task.retried", Some(and(by_operator.clone()))),
            ("step.failed b", None),
            ("step.failed c", None),
            ("task.failed", None),
            ("task.resolved_manually", Some(and(by_operator))),
        ];
        assert_eq!(outline(&events), expected.each_ref().map(|(name, _)| *name));
        for (event, (name, payload)) in events.iter().zip(&expected) {
            assert_eq!(event["correlation_id"], CORRELATION);
            assert!(payload.as_ref().is_none_or(|payload| event["payload"] == *payload), "{name}: {event}");
        }
    });
}

#[test]
fn a_lost_attempt_and_operator_actions_store_their_events() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let observed = register_observed(&world).await;
        let process = session.process("*").await;
        session.subscribe("all", ALL).await;
        let lost = session.create(&observed, json!({})).await;
        session.claim(process, "*", 1).await;
        session.at("2 hours").await;
        session.call("sweep(null, 10)").await;
        let done = session.call(&format!("complete_step({lost}, 1, '{{}}', 'why', 'ada')")).await;
        assert_eq!(outline(done["emitted"].as_array().unwrap()), ["step.resolved_manually b"]);
        assert_eq!(done["emitted"][0]["payload"]["by"], "ada");
        session.call(&format!("resolve_step({lost}, 2, 'why', 'ada')")).await;
        let done = session.call(&format!("resolve_step({lost}, 0, 'why', 'ada')")).await;
        assert_eq!(outline(done["emitted"].as_array().unwrap()), ["step.resolved_manually a", "task.completed"]);
        let cancelled = session.create(&observed, json!({})).await;
        let done = session.call(&format!("cancel_task({cancelled}, 'why', 'ada')")).await;
        let of_cancel = ["task.cancelled", "step.cancelled a", "step.cancelled b", "step.cancelled c"];
        assert_eq!(outline(done["emitted"].as_array().unwrap()), of_cancel);
        let process = session.process("*").await;
        let events = session.all(process, "all").await;
        let by_operator =
            ["step.resolved_manually b", "step.resolved_manually c", "step.resolved_manually a", "task.completed"];
        let expected: Vec<&str> = ["task.created", "step.retry_scheduled a"]
            .into_iter()
            .chain(by_operator)
            .chain(["task.created"])
            .chain(of_cancel)
            .collect();
        assert_eq!(outline(&events), expected);
        assert_eq!(events[1]["payload"]["error"]["class"], "TaskerCore::LostAttempt");
    });
}

#[test]
fn an_event_is_fetched_once_no_earlier_one_can_appear() {
    World::run(|world| async move {
        let (mut taker, mut slow, mut quick) =
            (Session::open(&world).await, Session::open(&world).await, Session::open(&world).await);
        let process = taker.process("*").await;
        taker.subscribe("all", &["order.shipped"]).await;
        for (end, expected) in [("commit", vec![1, 2]), ("rollback", vec![2])] {
            slow.run("begin").await;
            slow.store("order.shipped", json!({"n": 1})).await;
            quick.store("order.shipped", json!({"n": 2})).await;
            for _ in 0..3 {
                let response = taker.take(process, "all", 10).await;
                assert_eq!(
                    (&response["events"], &response["pending"]),
                    (&json!([]), &json!(true)),
                    "the first may come still"
                );
            }
            // What begins now is not waited for.
            quick.run("begin").await;
            quick.store("order.shipped", json!({"n": 3})).await;
            slow.run(end).await;
            let events = taker.taken(process, "all").await;
            assert_eq!(numbers(&events), expected, "{end}");
            taker.delivered(process, "all", &events.last().unwrap()["id"]).await;
            quick.run("rollback").await;
            assert_eq!(taker.taken(process, "all").await, [] as [Value; 0]);
        }

        // A mark of a server that was further on, as after a restore, holds up nothing.
        quick.store("order.shipped", json!({"n": 4})).await;
        taker.take(process, "all", 10).await;
        taker.run("update tasker_subscriptions set mark_xid = 4000000000000").await;
        assert_eq!(numbers(&taker.taken(process, "all").await), [4]);
        taker.run("begin; create temporary table t ()").await;
        let (observed, _) = taker.refused("TC006", &format!("fetch_events({process}, 'all', 1)")).await;
        assert_eq!(observed, "fetch_events must be called in a transaction that has written nothing");
    });
}

#[test]
fn writers_of_other_databases_do_not_delay_events() {
    World::run(|world| async move {
        let elsewhere = World::create().await;
        let (mut taker, mut other) = (Session::open(&world).await, Session::open(&elsewhere).await);
        let process = taker.process("*").await;
        taker.subscribe("all", &["order.shipped"]).await;
        other.run("begin; select pg_current_xact_id()").await;
        taker.store("order.shipped", json!({"n": 1})).await;
        let events = taker.taken(process, "all").await;
        assert_eq!(numbers(&events), [1]);
        taker.delivered(process, "all", &events[0]["id"]).await;
        other.run("rollback").await;
        elsewhere.remove().await;

        if taker.one("select current_setting('max_prepared_transactions')").await == "0" {
            return;
        }
        // A claim that no process holds any more, while it may still be committed.
        let mut session = Session::open(&world).await;
        session.run("begin").await;
        session.store("order.shipped", json!({"n": 2})).await;
        session.run("prepare transaction 'emitted'").await;
        taker.store("order.shipped", json!({"n": 3})).await;
        for _ in 0..3 {
            assert_eq!(taker.take(process, "all", 10).await["pending"], true);
        }
        session.run("commit prepared 'emitted'").await;
        assert_eq!(numbers(&taker.taken(process, "all").await), [2, 3]);
    });
}

#[test]
fn concurrent_writers_lose_no_event_and_keep_each_tasks_order() {
    World::run(|world| async move {
        let mut taker = Session::open(&world).await;
        let process = taker.process("*").await;
        taker.subscribe("all", &["order.shipped"]).await;
        taker.run("create table counter (task integer primary key, n integer); insert into counter select n, 0 from generate_series(0, 3) n").await;
        let writing = Arc::new(AtomicBool::new(true));
        let writers: Vec<_> = (0..6_u64)
            .map(|writer| {
                let world = world.clone();
                tokio::spawn(async move {
                    let mut session = Session::open(&world).await;
                    for round in 0..80_u64 {
                        let task = (writer + round * 7) % 4;
                        // It has its transaction's number before it waits for the task.
                        session.run("begin; select pg_current_xact_id()").await;
                        session.run(&format!("update counter set n = n + 1 where task = {task}")).await;
                        let n = session.one(&format!("select n from counter where task = {task}")).await;
                        session.store("order.shipped", json!({"task": task, "n": n})).await;
                        session.run(if (writer + round) % 5 == 0 { "rollback" } else { "commit" }).await;
                    }
                })
            })
            .collect();
        let still = writing.clone();
        let done = tokio::spawn(async move {
            for writer in writers {
                writer.await.unwrap();
            }
            still.store(false, Ordering::Release);
        });
        let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        loop {
            let last_round = !writing.load(Ordering::Acquire);
            for event in taker.all(process, "all").await {
                let payload = &event["payload"];
                seen.entry(payload["task"].as_i64().unwrap()).or_default().push(payload["n"].as_i64().unwrap());
            }
            if last_round {
                break;
            }
        }
        done.await.unwrap();
        for task in 0..4 {
            let count = taker.one(&format!("select n from counter where task = {task}")).await.as_i64().unwrap();
            assert!(count > 50, "{count}");
            assert_eq!(seen[&task], (1..=count).collect::<Vec<_>>(), "of task {task}");
        }
        taker.take(process, "all", 100).await;
        assert_eq!(taker.count("tasker_outbox_events").await, 0, "what all have been given is removed");
    });
}

#[test]
fn only_one_live_process_delivers_a_subscription() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let (first, second) = (session.process("*").await, session.process("*").await);
        session.subscribe("all", &["order.shipped"]).await;
        session.subscribe("rare", &["order.lost"]).await;
        for n in 1..=3 {
            session.store("order.shipped", json!({"n": n})).await;
        }
        assert_eq!(session.store("order.unheard_of", json!({})).await, 0);
        let response = session.take_at_last(first, "all", 2).await;
        assert_eq!(
            (numbers(response["events"].as_array().unwrap()), &response["to"]),
            (vec![1, 2], &response["events"][1]["id"])
        );
        assert!(response["events"][0]["occurred_at"].as_f64().unwrap() > 1.8e9, "{response}");
        assert_eq!(response["events"][0]["uuid"].as_str().unwrap().len(), 36);
        assert_eq!(session.take(second, "all", 2).await["pending"], true, "another process delivers");
        assert_eq!(
            session.take(first, "all", 2).await["events"],
            response["events"],
            "a process that lost a response asks again"
        );

        // The first falls silent and is taken off the list: another gives them again, and then the first can end
        // nothing.
        session.at("1 minute").await;
        session.call(&format!("heartbeat({second}, '[]')")).await;
        assert_eq!(
            session.take(second, "all", 2).await["pending"],
            true,
            "only a sweep takes anything from the silent"
        );
        session.call(&format!("sweep({second}, 10)")).await;
        let again = session.taken(second, "all").await;
        assert_eq!(numbers(&again), [1, 2, 3]);
        let to = &again[1]["id"];
        let (observed, facts) =
            session.refused("TC005", &format!("ack_events({first}, 'all', {THIS}, {to}, null, null)")).await;
        assert_eq!(observed, format!("subscription all: process {first} no longer delivers its events"));
        assert_eq!(facts, json!({"subscription": "all", "process": first}));
        let (observed, _) =
            session.refused("TC005", &format!("ack_events({second}, 'all', 3, {to}, null, null)")).await;
        assert_eq!(observed, "subscription all: transaction 3, which delivered its events, was lost");
        session.delivered(second, "all", to).await;
        session.refused("TC005", &format!("ack_events({second}, 'all', {THIS}, {to}, null, null)")).await;

        assert_eq!(numbers(&session.all(second, "all").await), [3]);
        assert_eq!(session.count("tasker_outbox_events").await, 3, "the other has not passed them yet");
        assert_eq!(session.all(second, "rare").await, [] as [Value; 0]);
        assert_eq!(session.count("tasker_outbox_events").await, 0);
        let idle = session.take(second, "all", 2).await;
        assert_eq!(idle, json!({"events": [], "pending": false, "wait_ms": null}));
        let unknown = json!({"events": [], "pending": false, "wait_ms": null, "known": false});
        assert_eq!(session.take(second, "unknown", 2).await, unknown);
    });
}

#[test]
fn a_fetch_is_bounded_by_bytes_and_returns_at_least_one_event() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        session.subscribe("all", &["order.shipped"]).await;
        for (n, bytes) in [(1, 400), (2, 400), (3, 5000), (4, 400), (5, 400), (6, 400)] {
            session.store("order.shipped", json!({"n": n, "text": "x".repeat(bytes)})).await;
        }
        session.take(process, "all", 10).await; // sets the mark
        for expected in [vec![1, 2], vec![3], vec![4, 5], vec![6]] {
            let fetched = session.call(&format!("fetch_events({process}, 'all', 10, true, 1000)")).await;
            let events = fetched["events"].as_array().unwrap();
            assert_eq!(numbers(events), expected);
            assert_eq!(fetched["to"], events.last().unwrap()["id"]);
            session.delivered(process, "all", &fetched["to"]).await;
        }

        for n in 7..=9 {
            session.store("order.shipped", json!({"n": n, "text": "x".repeat(1_500_000)})).await;
        }
        assert_eq!(numbers(&session.taken(process, "all").await), [7, 8], "4 MiB without another bound");
        let bare = session.call(&format!("fetch_events({process}, 'all', 10, false)")).await;
        let bare: Vec<_> = bare["events"].as_array().unwrap().iter().map(|event| &event["payload"]).collect();
        assert_eq!(bare, [&Value::Null; 3]);
    });
}

#[test]
fn an_event_with_a_textual_task_id_can_be_skipped() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        session.subscribe("all", &["order.shipped"]).await;
        session.store("order.shipped", json!({"task_id": "T-1"})).await;
        session.taken(process, "all").await;
        session.fails(process, "all", &json!(0)).await;
        let skipped = session.call("skip_event('all', 'no use', 'ada')").await;
        assert_eq!(skipped["payload"], json!({"task_id": "T-1"}));
        assert_eq!(session.count("tasker_task_events").await, 0);
    });
}

#[test]
fn a_failing_event_blocks_later_ones_until_done_or_skipped() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        session.subscribe("all", &["order.shipped", "task.cancelled"]).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let task = session.create(&one, json!({})).await;
        session.store("order.shipped", json!({"n": 1})).await;
        session.call(&format!("cancel_task({task}, 'x', 'y')")).await;
        session.store("order.shipped", json!({"n": 3})).await;
        session.refused("TC004", "skip_event('all', 'why', 'ada')").await;
        session.refused("TC003", "skip_event('none', 'why', 'ada')").await;

        let events = session.taken(process, "all").await;
        assert_eq!(session.fails(process, "all", &events[0]["id"]).await, json!({"failures": 1, "delay_ms": 10000}));
        let response = session.take(process, "all", 10).await;
        assert_eq!(response, json!({"events": [], "pending": false, "wait_ms": 10000}));
        session.at("10 seconds").await;
        let events = session.taken(process, "all").await;
        assert_eq!(text(&events[0]["name"]), "task.cancelled");
        assert_eq!(session.fails(process, "all", &json!(0)).await["failures"], 2, "it is the same event");

        let health = session.rows("select * from tasker_core_v1.subscription_health()").await;
        let observed = |field: &str| health[0][field].clone();
        assert_eq!((observed("name"), observed("waiting"), observed("failures")), (json!("all"), json!(2), json!(2)));
        assert_eq!(
            (observed("oldest_seconds").as_f64(), observed("last_error")["message"].clone()),
            (Some(10.0), json!("no"))
        );
        assert!(
            observed("process_id").is_null() && !observed("retry_at").is_null() && !observed("delivered_at").is_null()
        );
        assert_eq!(session.rows("select waiting from tasker_core_v1.subscription_health(1)").await[0]["waiting"], 1);

        session.refused("TC006", "skip_event('all', ' ', 'ada')").await;
        let skipped = session.call("skip_event('all', 'no use', 'ada')").await;
        assert_eq!((&skipped["name"], &skipped["payload"]["task_id"]), (&json!("task.cancelled"), &json!(task)));
        assert_eq!(session.events(task).await.last().unwrap(), "skip_event ada: no use");
        assert_eq!(numbers(&session.taken(process, "all").await), [3]);

        // One that is skipped while it is tried again is not delivered after all.
        session.fails(process, "all", &json!(0)).await;
        session.at("30 seconds").await;
        let events = session.taken(process, "all").await;
        session.call("skip_event('all', 'of no task', 'ada')").await;
        session
            .refused("TC005", &format!("ack_events({process}, 'all', {THIS}, {}, null, null)", events[0]["id"]))
            .await;
        assert_eq!(session.taken(process, "all").await, [] as [Value; 0]);
    });
}

#[test]
fn a_subscription_lasts_from_registration_until_it_is_dropped() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        session.subscribe("first", &["order.shipped"]).await;
        session.store("order.shipped", json!({"n": 1})).await;
        assert_eq!(session.subscribe("second", &["order.shipped"]).await, 1);
        assert_eq!(session.subscribe("second", &["order.shipped", "order.lost"]).await, 0, "it is there already");
        assert_eq!(
            session.one("select tasker_core_v1.subscribed_event_names()").await,
            json!(["order.lost", "order.shipped"])
        );
        session.store("order.lost", json!({"n": 2})).await;
        assert_eq!(numbers(&session.all(process, "second").await), [2]);
        assert_eq!(session.count("tasker_outbox_events").await, 2, "the first has been given nothing yet");
        assert_eq!(session.call("drop_subscription('first')").await, 1);
        assert_eq!(session.count("tasker_outbox_events").await, 0);
        session.store("order.lost", json!({"n": 3})).await;
        assert_eq!(session.call("drop_subscription('second')").await, 1);
        assert_eq!(session.count("tasker_outbox_events").await, 0, "the last one takes all with it");
        let (observed, _) = session.refused("TC003", "drop_subscription('second')").await;
        assert_eq!(observed, "durable subscription second does not exist");
        assert_eq!(session.one("select tasker_core_v1.subscribed_event_names()").await, json!([]));
    });
}
