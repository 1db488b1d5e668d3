//! Registering workflows and creating tasks: what is stored, keys, and concurrent calls.

use serde_json::{json, Value};

use crate::session::{compile, content, quoted, register, request, stop_the_clock, text, waits_for, Session};
use crate::support::{with, workflow, World, DIAMOND};

#[test]
fn a_version_is_stored_once_and_rejected_with_other_content() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let definition = with(workflow("diamond", DIAMOND), 1, "queue", json!("slow"));
        let diamond = compile(&with(definition, 1, "config", json!({"deep": {"n": 1}})));
        let register = format!("register_workflow('{}')", diamond.definition_json());
        let registered = session.call(&register).await;
        let payload = json!({"namespace": "default", "workflow": "diamond", "version": diamond.version(), "steps": 4});
        let expected_events = json!([{"name": "workflow.registered", "correlation_id": null, "payload": payload}]);
        assert_eq!(registered["emitted"], expected_events);
        let id = registered["id"].clone();
        let stored = session.rows("select * from tasker_step_definitions order by position").await;
        let mut compiled: Vec<Value> =
            serde_json::from_str::<Value>(diamond.definition_json()).unwrap()["steps"].as_array().unwrap().clone();
        for step in &mut compiled {
            step["workflow_version_id"] = id.clone();
        }
        assert_eq!(stored.len(), 4);
        for (stored, compiled) in stored.iter().zip(&compiled) {
            for (column, value) in stored.as_object().unwrap() {
                let same = value == &compiled[column]
                    || value.as_f64().is_some_and(|number| Some(number) == compiled[column].as_f64());
                assert!(same, "{column}: {value}, and the definition says {}", compiled[column]);
            }
        }
        let before = content(&world).await;
        assert_eq!(session.call(&register).await, json!({"id": id, "emitted": []}), "it is there already");

        let mut other: Value = serde_json::from_str(diamond.definition_json()).unwrap();
        other["digest"] = json!("0123");
        let refusal = session.refusal(&format!("register_workflow({})", quoted(&other))).await;
        assert_eq!(refusal.code, "TC001");
        assert_eq!(refusal.facts["workflow"], "diamond");
        assert_eq!(refusal.facts["digest"], "0123");
        assert_eq!(refusal.facts["registered_digest"], diamond.digest());
        assert_eq!(content(&world).await, before);

        other["version"] = json!("another");
        assert_ne!(session.call(&format!("register_workflow({})", quoted(&other))).await["id"], id);
        other["namespace"] = json!("elsewhere");
        session.call(&format!("register_workflow({})", quoted(&other))).await;
        assert_eq!(session.count("tasker_workflow_versions").await, 3);
        assert_eq!(session.count("tasker_step_definitions").await, 12);
    });
}

#[test]
fn a_registration_waits_for_a_concurrent_one() {
    World::run(|world| async move {
        let register = format!("register_workflow('{}')", compile(&workflow("diamond", DIAMOND)).definition_json());
        let (mut first, second) = (Session::open(&world).await, Session::open(&world).await);
        first.run("begin").await;
        let id = first.call(&register).await["id"].clone();
        let (holder, waiter) = (first.backend, second.backend);
        let waiting = second.begin(&register);
        waits_for(&world, waiter, holder).await;
        first.run("commit").await;
        let (second, response) = waiting.await.unwrap();
        assert_eq!(response.unwrap(), json!({"id": id, "emitted": []}));

        first.run("truncate tasker_workflow_versions, tasker_step_definitions; begin").await;
        first.call(&register).await;
        let waiting = second.begin(&register);
        waits_for(&world, waiter, holder).await;
        first.run("rollback").await;
        let (mut second, response) = waiting.await.unwrap();
        let found = second.one("select array_agg(id) from tasker_workflow_versions").await;
        assert_eq!(found, json!([response.unwrap()["id"]]), "the second one has stored it");
        assert_eq!(second.count("tasker_step_definitions").await, 4);

        // One that cannot see what the first has committed gets a serialization failure.
        first.run("truncate tasker_workflow_versions, tasker_step_definitions").await;
        second.run("begin isolation level repeatable read; select 1 from tasker_tasks").await;
        first.call(&register).await;
        assert!(second.refusal(&register).await.is_serialization_failure());
    });
}

const CORRELATION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// Creates three tasks of a workflow with two roots and their common child: one with every option, one that waits until
/// one o'clock, and one whose time has come. Returns the response.
async fn create_three(world: &World, session: &mut Session) -> Vec<Value> {
    stop_the_clock(world).await;
    let definition = json!({"name": "w", "namespace": "shop", "version": "1", "steps": [
        {"name": "a", "handler": "h", "priority": 3}, {"name": "b", "handler": "h", "queue": "slow"},
        {"name": "c", "handler": "h", "depends_on": ["a", "b"]}]});
    let w = register(world, &definition).await;
    let options = json!({"input": {"n": 1}, "priority": 5, "tags": ["x", "y"], "correlation_id": CORRELATION,
                         "parent_correlation_id": CORRELATION});
    let requests = json!([
        request(&w, options),
        request(&w, json!({"wait_until": "2030-01-01T13:00:00Z"})),
        request(&w, json!({"wait_until": "2030-01-01T12:00:00Z"})),
    ]);
    let created = session.call(&format!("create_tasks({})", quoted(&requests))).await;
    created.as_array().unwrap().clone()
}

#[test]
fn a_created_task_stores_its_options_and_input() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let created = create_three(&world, &mut session).await;
        let tasks = session.rows("select * from tasker_tasks order by id").await;
        for (task, created) in tasks.iter().zip(&created) {
            assert_eq!((&created["existing"], &created["queues"]), (&json!(false), &json!(["default", "slow"])));
            assert_eq!(task["uuid"], created["uuid"]);
            assert_eq!((task["active"].as_i64(), task["remaining"].as_i64()), (Some(2), Some(3)));
            assert_eq!((text(&task["state"]).as_str(), &task["ended_at"]), ("pending", &Value::Null));
            assert_eq!(task["created_at"], "2030-01-01T12:00:00+00:00");
        }
        assert_eq!((tasks.len(), created.len()), (3, 3));
        assert_eq!((&tasks[0]["priority"], &tasks[0]["tags"]), (&json!(5), &json!(["x", "y"])));
        assert_eq!(tasks[0]["correlation_id"], CORRELATION);
        assert_eq!(tasks[0]["parent_correlation_id"], CORRELATION);
        assert_eq!((&tasks[1]["priority"], &tasks[1]["tags"]), (&json!(0), &json!([])));
        assert_ne!(tasks[1]["correlation_id"], tasks[2]["correlation_id"]);
        assert_eq!(tasks[1]["parent_correlation_id"], Value::Null);
        let inputs = session.one("select json_agg(input order by task_id) from tasker_task_inputs").await;
        assert_eq!(inputs, json!([{"n": 1}, {}, {}]));
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_created_task_has_all_steps_and_its_roots_ready_or_waiting() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let created = create_three(&world, &mut session).await;
        let ids: Vec<i64> = created.iter().map(|task| task["id"].as_i64().unwrap()).collect();
        let steps = session
            .rows("select task_id, position, pending_parents, attempts, state from tasker_workflow_steps order by 1, 2")
            .await;
        let pending_parents: Vec<i64> = steps.iter().map(|step| step["pending_parents"].as_i64().unwrap()).collect();
        assert_eq!(pending_parents, [0, 0, 2, 0, 0, 2, 0, 0, 2]);
        assert!(steps.iter().all(|step| step["state"] == "pending" && step["attempts"] == 0));
        let ready = session.rows("select queue, priority, task_id from tasker_ready_steps order by seq").await;
        assert_eq!(
            json!(ready),
            json!([{"queue": "default", "priority": 8, "task_id": ids[0]}, {"queue": "slow", "priority": 5, "task_id": ids[0]},
                   {"queue": "default", "priority": 3, "task_id": ids[2]}, {"queue": "slow", "priority": 0, "task_id": ids[2]}])
        );
        let waiting = session.rows("select distinct task_id, run_at, reason from tasker_waiting_steps").await;
        assert_eq!(
            json!(waiting),
            json!([{"task_id": ids[1], "run_at": "2030-01-01T13:00:00+00:00", "reason": "delay"}])
        );
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn an_empty_batch_creates_no_task() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let before = content(&world).await;
        assert_eq!(session.call("create_tasks('[]')").await, json!([]));
        assert_eq!(content(&world).await, before);
    });
}

#[test]
fn a_task_of_an_unknown_version_rejects_its_whole_batch() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        let mut unknown = request(&diamond, json!({"input": {"secret": 1}, "idempotency_key": "k"}));
        unknown["version"] = json!("9");
        let before = content(&world).await;
        let batch = json!([request(&diamond, json!({})), unknown]);
        let refusal = session.refusal(&format!("create_tasks({})", quoted(&batch))).await;
        assert_eq!(refusal.code, "TC002");
        assert!(refusal.message.contains("default.diamond version 9 is not registered"), "{}", refusal.message);
        assert_eq!(refusal.facts["version"], "9");
        assert_eq!(refusal.facts["input"], Value::Null, "what people enter is no fact for logs");
        assert_eq!(content(&world).await, before);
        for bad in [
            json!({"wait_until": "soon"}),
            json!({"priority": "high"}),
            json!({"correlation_id": "x"}),
            json!({"tags": 1}),
        ] {
            let batch = json!([request(&diamond, json!({})), request(&diamond, bad)]);
            let refusal = session.refusal(&format!("create_tasks({})", quoted(&batch))).await;
            assert!(refusal.code.starts_with("22"), "{refusal:?}");
            assert_eq!(content(&world).await, before);
        }
    });
}

#[test]
fn a_key_creates_one_task_per_workflow_and_returns_it_later() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        let line = register(&world, &workflow("line", DIAMOND)).await;
        let mut elsewhere = workflow("diamond", DIAMOND);
        elsewhere["namespace"] = json!("elsewhere");
        let elsewhere = register(&world, &elsewhere).await;
        let keyed = |key: &str| json!({"idempotency_key": key});
        let batch = json!([
            request(&diamond, keyed("b")),
            request(&diamond, json!({})),
            request(&diamond, keyed("a")),
            request(&diamond, keyed("b")),
            request(&line, keyed("b")),
            request(&elsewhere, keyed("b"))
        ]);
        let created = session.call(&format!("create_tasks({})", quoted(&batch))).await;
        let existing: Vec<&Value> = created.as_array().unwrap().iter().map(|task| &task["existing"]).collect();
        assert_eq!(json!(existing), json!([false, false, false, true, false, false]));
        assert_eq!((&created[3]["id"], &created[3]["uuid"]), (&created[0]["id"], &created[0]["uuid"]));
        assert_eq!(session.count("tasker_tasks").await, 5);
        assert_eq!(session.count("tasker_idempotency_keys").await, 4);

        let again = session.call(&format!("create_tasks({})", quoted(&batch))).await;
        for number in [0, 2, 3, 4, 5] {
            assert_eq!((&again[number]["id"], &again[number]["existing"]), (&created[number]["id"], &json!(true)));
        }
        assert_eq!(again[1]["existing"], false);
        assert_eq!(session.count("tasker_tasks").await, 6);
        assert_eq!(session.count("tasker_workflow_steps").await, 24);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_key_with_another_input_is_rejected_with_the_first_task() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        let keyed = |key: &str, n: u32| request(&diamond, json!({"idempotency_key": key, "input": {"n": n}}));
        let first = session.call(&format!("create_tasks({})", quoted(&json!([keyed("k", 1)])))).await;
        let before = content(&world).await;
        for batch in [json!([keyed("new", 1), keyed("k", 2)]), json!([keyed("k", 1), keyed("k", 2)])] {
            let refusal = session.refusal(&format!("create_tasks({})", quoted(&batch))).await;
            assert_eq!((refusal.code.as_str(), &refusal.facts["task"]["id"]), ("TC008", &first[0]["id"]));
            assert!(refusal.message.contains("idempotency key \"k\" belongs to task"), "{}", refusal.message);
            assert_eq!(content(&world).await, before);
        }
        let twice = session.refusal(&format!("create_tasks({})", quoted(&json!([keyed("x", 1), keyed("x", 2)])))).await;
        assert_eq!(twice.code, "TC008");
        assert_eq!(content(&world).await, before);
    });
}

#[test]
fn a_missing_or_different_version_returns_null_on_request() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        let create =
            |request: &Value, arguments: &str| format!("create_tasks({}{arguments})", quoted(&json!([request])));
        let known = request(&diamond, json!({}));
        let of = |digest: &str| request(&diamond, json!({"digest": digest}));
        assert_eq!(session.call(&create(&of(diamond.digest()), ", true")).await.as_array().map(Vec::len), Some(1));
        assert_eq!(session.call(&create(&known, ", true")).await.as_array().map(Vec::len), Some(1));
        let before = content(&world).await;
        assert_eq!(session.call(&create(&of("other"), ", true")).await, Value::Null);
        assert_eq!(session.refusal(&create(&of("other"), "")).await.code, "TC002");
        assert_eq!(content(&world).await, before);
    });
}

#[test]
fn a_creation_waits_for_a_concurrent_one_with_its_key() {
    World::run(|world| async move {
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        let create = format!("create_tasks({})", quoted(&json!([request(&diamond, json!({"idempotency_key": "k"}))])));
        let (mut first, second) = (Session::open(&world).await, Session::open(&world).await);
        let (holder, waiter) = (first.backend, second.backend);

        first.run("begin").await;
        first.call(&create).await;
        let waiting = second.begin(&create);
        waits_for(&world, waiter, holder).await;
        first.run("rollback").await;
        let (second, created) = waiting.await.unwrap();
        assert_eq!(created.unwrap()[0]["existing"], false, "the first one has not taken it after all");

        first.run("truncate tasker_idempotency_keys; begin").await;
        let task = first.call(&create).await;
        let waiting = second.begin(&create);
        waits_for(&world, waiter, holder).await;
        first.run("commit").await;
        let (mut second, found) = waiting.await.unwrap();
        let found = found.unwrap();
        assert_eq!((&found[0]["id"], &found[0]["existing"]), (&task[0]["id"], &json!(true)));

        first.run("truncate tasker_idempotency_keys").await;
        second.run("begin isolation level repeatable read; select 1 from tasker_tasks").await;
        first.call(&create).await;
        let refusal = second.refusal(&create).await;
        assert!(refusal.is_serialization_failure(), "a task that it cannot see is not returned: {refusal:?}");
        second.run("rollback").await;
        assert_eq!(second.call(&create).await[0]["existing"], true);
    });
}
