//! The life of a step: register, create, claim, finish, release, heartbeat, and the functions that report on it.

use std::collections::BTreeSet;

use serde_json::{json, Value};
use sqlx::postgres::PgListener;

use crate::session::{
    compile, completed, content, ended, failed, failed_for_good, finish, held_by, key, on, quoted, register, request,
    steps, stop_the_clock, text, token, tokens, waits_for, Refusal, Session,
};
use crate::support::{with, workflow, World};

const DIAMOND: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];

fn serialization_failure(refusal: &Refusal) -> bool {
    refusal.code == "40001"
}

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
        assert!(serialization_failure(&second.refusal(&register).await));
    });
}

#[test]
fn a_created_task_has_all_steps_and_its_roots_ready_or_waiting() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let definition = json!({"name": "w", "namespace": "shop", "version": "1", "steps": [
            {"name": "a", "handler": "h", "priority": 3}, {"name": "b", "handler": "h", "queue": "slow"},
            {"name": "c", "handler": "h", "depends_on": ["a", "b"]}]});
        let w = register(&world, &definition).await;
        let correlation = "01890a5d-ac96-774b-bcce-b302099a8057";
        let requests = json!([
            request(
                &w,
                json!({"input": {"n": 1}, "priority": 5, "tags": ["x", "y"], "correlation_id": correlation,
                               "parent_correlation_id": correlation})
            ),
            request(&w, json!({"wait_until": "2030-01-01T13:00:00Z"})),
            request(&w, json!({"wait_until": "2030-01-01T12:00:00Z"})),
        ]);
        let created = session.call(&format!("create_tasks({})", quoted(&requests))).await;
        let ids: Vec<i64> = created.as_array().unwrap().iter().map(|task| task["id"].as_i64().unwrap()).collect();
        for task in created.as_array().unwrap() {
            assert_eq!((&task["existing"], &task["queues"]), (&json!(false), &json!(["default", "slow"])));
        }

        let tasks = session.rows("select * from tasker_tasks order by id").await;
        for (task, created) in tasks.iter().zip(created.as_array().unwrap()) {
            assert_eq!(task["uuid"], created["uuid"]);
            assert_eq!((task["active"].as_i64(), task["remaining"].as_i64()), (Some(2), Some(3)));
            assert_eq!((text(&task["state"]).as_str(), &task["ended_at"]), ("pending", &Value::Null));
            assert_eq!(task["created_at"], "2030-01-01T12:00:00+00:00");
        }
        assert_eq!((&tasks[0]["priority"], &tasks[0]["tags"]), (&json!(5), &json!(["x", "y"])));
        assert_eq!(tasks[0]["correlation_id"], correlation);
        assert_eq!(tasks[0]["parent_correlation_id"], correlation);
        assert_eq!((&tasks[1]["priority"], &tasks[1]["tags"]), (&json!(0), &json!([])));
        assert_ne!(tasks[1]["correlation_id"], tasks[2]["correlation_id"]);
        assert_eq!(tasks[1]["parent_correlation_id"], Value::Null);
        assert_eq!(
            session.one("select json_agg(input order by task_id) from tasker_task_inputs").await,
            json!([{"n": 1}, {}, {}])
        );

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
        assert_eq!(session.call("create_tasks('[]')").await, json!([]));
        assert!(world.broken_invariants().await.is_empty());
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
fn a_key_that_is_being_taken_elsewhere_is_waited_for() {
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
        assert!(serialization_failure(&refusal), "a task that it cannot see is not returned: {refusal:?}");
        second.run("rollback").await;
        assert_eq!(second.call(&create).await[0]["existing"], true);
    });
}

#[test]
fn a_claim_carries_all_that_a_handler_needs() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let definition = json!({"name": "w", "namespace": "shop", "version": "2", "steps": [
            {"name": "z", "handler": "Z"},
            {"name": "a", "handler": "A"},
            {"name": "join", "handler": "J", "depends_on": ["z", "a"], "queue": "slow", "system": "bank", "timeout": "90s", "config": {"k": [1]},
             "retry": {"max_attempts": 7}}]});
        let w = register(&world, &definition).await;
        let process = session.process("*").await;
        let task = session.create(&w, json!({"input": {"big": 1}, "tags": ["t"]})).await;
        let roots = session.claim(process, "default", 2).await;
        assert_eq!(steps(&roots), ["z", "a"], "in the order in which they became ready");
        assert_eq!((&roots[0]["results"], &roots[0]["dependencies"]), (&json!({}), &json!([])));
        session.finish(process, &[completed(&roots[0]), completed(&roots[1])], 0).await;
        let claims = session.claim(process, "slow", 5).await;
        let row = session.rows(&format!("select * from tasker_tasks where id = {task}")).await.remove(0);
        let position = session.position(task, "join").await;
        assert_eq!(
            json!(claims),
            json!([{"token": claims[0]["token"], "task_id": task, "task_uuid": row["uuid"], "position": position, "step": "join",
                    "workflow": "w", "namespace": "shop", "version": "2", "handler": "J", "attempt": 1, "max_attempts": 7,
                    "timeout_ms": 90_000, "queue": "slow", "system": "bank", "correlation_id": row["correlation_id"], "parent_correlation_id": null,
                    "tags": ["t"], "input": {"big": 1}, "config": {"k": [1]}, "dependencies": ["z", "a"],
                    "results": {"z": {"from": "z"}, "a": {"from": "a"}}}])
        );
        // The lease: the step's limit, and the process's grace.
        let lease =
            session.rows("select process_id, attempt, claimed_at, deadline, ready_at from tasker_claimed_steps").await;
        assert_eq!(
            json!(lease),
            json!([{"process_id": process, "attempt": 1, "claimed_at": "2030-01-01T12:00:00+00:00",
                    "deadline": "2030-01-01T12:02:00+00:00", "ready_at": "2030-01-01T12:00:00+00:00"}])
        );
    });
}

#[test]
fn steps_are_claimed_by_priority_then_age_across_queues() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = |queue: &str, priority: i32| {
            with(
                with(workflow(&format!("{queue}{}", priority + 10), &[("s", &[])]), 0, "queue", json!(queue)),
                0,
                "priority",
                json!(priority),
            )
        };
        let mut expected = Vec::new();
        for (number, (queue, priority)) in
            [("a", 5), ("b", 1), ("c", 1), ("a", 1), ("b", 5), ("c", -3), ("a", 0)].into_iter().enumerate()
        {
            let w = register(&world, &one(queue, priority)).await;
            let task = session.create(&w, json!({"priority": 2})).await;
            expected.push((priority, number, task, queue));
        }
        expected.sort_unstable();
        let order =
            |claims: &[Value]| claims.iter().map(|claim| claim["task_id"].as_i64().unwrap()).collect::<Vec<_>>();
        let of = |queues: &[&str]| -> Vec<i64> {
            expected.iter().filter(|it| queues.contains(&it.3)).map(|it| it.2).collect()
        };
        let process = session.process("*").await;
        for (queues, named, limit) in [
            ("*", vec!["a", "b", "c"], 100),
            ("*", vec!["a", "b", "c"], 3),
            ("a,b,c", vec!["a", "b", "c"], 4),
            ("b", vec!["b"], 10),
            ("c,a", vec!["a", "c"], 3),
            ("a,a,b,a", vec!["a", "b"], 9),
            ("*,a", vec!["a", "b", "c"], 5),
            ("unused", vec![], 5),
            ("unused,c", vec!["c"], 5),
            ("", vec![], 5),
        ] {
            session.run("begin").await;
            let claims = session.claim(process, queues, limit).await;
            let mut wanted = of(&named);
            wanted.truncate(limit);
            assert_eq!(order(&claims), wanted, "{limit} of {{{queues}}}");
            session.run("rollback").await;
        }
    });
}

#[test]
fn an_empty_claim_marks_its_process_idle_and_a_full_one_busy() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let other = session.process("*").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let idle = format!("select idle from tasker_processes where id = {process}");
        assert_eq!(session.one(&idle).await, false);
        assert_eq!(session.claim(process, "*", 3).await.len(), 0);
        assert_eq!(session.one(&idle).await, true);
        session.create_all(&vec![request(&one, json!({})); 4]).await;
        assert_eq!(session.claim(process, "*", 3).await.len(), 3);
        assert_eq!(session.one(&idle).await, false, "there may be more");
        assert_eq!(session.claim(process, "*", 3).await.len(), 1);
        assert_eq!(session.one(&idle).await, false, "neither full nor empty changes nothing");
        session.claim(process, "*", 3).await;
        assert_eq!(session.one(&idle).await, true);
        session.create_all(&vec![request(&one, json!({})); 4]).await;
        session.claim(process, "*", 3).await;
        let busy = session.one(&format!("select idle from tasker_processes where id = {other}")).await;
        assert_eq!(busy, false, "another one's mark is its own");
    });
}

#[test]
fn a_process_that_is_not_registered_claims_nothing() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        session.create(&one, json!({})).await;
        let before = content(&world).await;
        let (message, facts) = session.refused("TC005", "claim_steps(4711, '{*}', 1)").await;
        assert!(message.contains("process 4711 is not registered"), "{message}");
        assert_eq!(facts, json!({"process": 4711}));
        assert_eq!(content(&world).await, before);
        let process = session.process("*").await;
        session.call(&format!("deregister_process({process})")).await;
        session.refused("TC005", &format!("claim_steps({process}, '{{*}}', 1)")).await;
    });
}

#[test]
fn a_claim_skips_rows_that_others_have_locked() {
    World::run(|world| async move {
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let (mut first, mut second) = (Session::open(&world).await, Session::open(&world).await);
        let tasks = first.create_all(&vec![request(&one, json!({})); 5]).await;
        let (ours, theirs) = (first.process("*").await, second.process("*").await);
        second.run("set lock_timeout = '1ms'").await;
        first.run("begin").await;
        let taken = first.claim(ours, "*", 2).await;
        let rest = second.claim(theirs, "default", 10).await;
        let ids = |claims: &[Value]| claims.iter().map(|claim| claim["task_id"].as_i64().unwrap()).collect::<Vec<_>>();
        assert_eq!((ids(&taken), ids(&rest)), (tasks[..2].to_vec(), tasks[2..].to_vec()));
        assert!(second.claim(theirs, "*", 10).await.is_empty());
        first.run("rollback").await;
        let again = second.claim(theirs, "*", 10).await;
        assert_eq!(ids(&again), tasks[..2], "what was not taken after all");
        assert!(token(&again[0]) > token(&taken[1]), "a token is never given again");

        // In a transaction with one snapshot, a step that another session has claimed since then is not returned.
        second.run(&format!("select tasker_core_v1.return_claims({}, '0', 'shutdown')", tokens(&again))).await;
        first.run("begin isolation level repeatable read; select 1 from tasker_ready_steps").await;
        assert_eq!(second.claim(theirs, "*", 1).await.len(), 1);
        assert!(serialization_failure(&first.refusal(&format!("claim_steps({ours}, '{{*}}', 1)")).await));
    });
}

#[test]
fn a_claim_skips_locked_rows_and_fills_up_from_other_queues() {
    World::run(|world| async move {
        let (mut first, mut second) = (Session::open(&world).await, Session::open(&world).await);
        let on_queue = |queue: &str| with(workflow(queue, &[("s", &[])]), 0, "queue", json!(queue));
        for (queue, priority) in [("a", 0), ("b", 1), ("c", 2)] {
            let w = register(&world, &on_queue(queue)).await;
            first.create_all(&vec![request(&w, json!({"priority": priority})); 3]).await;
        }
        let (ours, theirs) = (first.process("*").await, second.process("*").await);
        second.run("set lock_timeout = '1ms'").await;
        first.run("begin").await;
        first.claim(ours, "*", 3).await;
        for (queues, limit, expected) in
            [("*", 2, vec!["b", "b"]), ("b,a,c", 3, vec!["b", "c", "c"]), ("a", 1, vec![]), ("*", 9, vec!["c"])]
        {
            let claims = second.claim(theirs, queues, limit).await;
            let found: Vec<String> = claims.iter().map(|claim| text(&claim["queue"])).collect();
            assert_eq!(found, expected, "{limit} of {{{queues}}}");
        }
        first.run("commit").await;
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_batch_of_mixed_outcomes_follows_each_retry_policy() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let retry = json!({"max_attempts": 2, "backoff": "linear", "base": "10s", "jitter": 0});
        let one = with(workflow("one", &[("s", &[]), ("after", &["s"])]), 0, "retry", retry);
        let one = register(&world, &one).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 9]).await;
        let (process, other) = (session.process("*").await, session.process("*").await);
        let claims = session.claim(process, "*", 9).await;
        let with_delay = |claim: &Value, seconds: f64| {
            let mut outcome = failed(claim);
            outcome["retry_after"] = json!(seconds);
            outcome
        };
        let mut timed = completed(&claims[0]);
        timed["waited_us"] = json!(1_500_000);
        timed["ran_us"] = json!(2_000_000);
        let lost = ended(&claims[5], json!({"outcome": "lost", "error": {"class": "L"}}));
        // The last one's claim has been released, so another process may hold the step.
        session.call(&format!("return_claims('{{{}}}', '0', 'shutdown')", token(&claims[8]))).await;
        let outcomes = [
            lost,
            failed_for_good(&claims[2]),
            timed,
            failed(&claims[1]),
            with_delay(&claims[3], 42.5),
            with_delay(&claims[4], -7.0),
            completed(&claims[6]),
            failed(&claims[6]),
            completed(&claims[8]),
            json!({"token": 999_999, "outcome": "completed"}),
        ];
        let all: Vec<i64> = outcomes.iter().map(token).collect();
        assert_eq!(
            session.finish(other, &outcomes, 0).await["stale"],
            json!(all),
            "another process holds none of them"
        );
        let response = session.finish(process, &outcomes, 0).await;
        let mut stale: Vec<i64> = response["stale"].as_array().unwrap().iter().map(|it| it.as_i64().unwrap()).collect();
        stale.sort_unstable();
        assert_eq!(stale, [999_999, token(&claims[8])]);
        let mut retries: Vec<(i64, i64)> = response["retries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["token"].as_i64().unwrap(), it["delay_ms"].as_i64().unwrap()))
            .collect();
        retries.sort_unstable();
        let token_of = |number: usize| token(&claims[number]);
        assert_eq!(retries, [(token_of(1), 10_000), (token_of(3), 42_500), (token_of(4), 0), (token_of(5), 10_000)]);
        assert_eq!((&response["kept"], &response["claimed"]), (&Value::Null, &Value::Null));
        assert_eq!(response["ready_queues"], json!(["default"]));
        let ended = response["ended"].as_array().unwrap();
        assert_eq!(ended.len(), 1, "{response}");
        assert_eq!((&ended[0]["task_id"], &ended[0]["state"]), (&json!(tasks[2]), &json!("error")));

        let states =
            ["complete", "waiting", "error", "waiting", "waiting", "waiting", "complete", "in_progress", "ready"];
        for (number, state) in states.into_iter().enumerate() {
            assert_eq!(session.state(tasks[number], "s").await, state, "task {number}");
            let after = if state == "complete" { "ready" } else { "pending" };
            assert_eq!(session.state(tasks[number], "after").await, after, "task {number}");
        }
        let history = session
            .rows(
                "select token, attempt, process_id, outcome, error->>'message' as message, started_at, finished_at \
                   from tasker_step_attempts order by token",
            )
            .await;
        let noon = "2030-01-01T12:00:00+00:00";
        let row = |number: usize, outcome: &str, message: Value| {
            json!({"token": token_of(number), "attempt": 1, "process_id": process, "outcome": outcome, "message": message,
                   "started_at": noon, "finished_at": noon})
        };
        let mut first = row(0, "completed", Value::Null);
        first["started_at"] = json!("2030-01-01T12:00:01.5+00:00");
        first["finished_at"] = json!("2030-01-01T12:00:03.5+00:00");
        assert_eq!(
            json!(history),
            json!([
                first,
                row(1, "failed", json!("no")),
                row(2, "failed", json!("never")),
                row(3, "failed", json!("no")),
                row(4, "failed", json!("no")),
                row(5, "lost", Value::Null),
                row(6, "completed", Value::Null)
            ])
        );
        let waiting = session.rows("select task_id, run_at, reason from tasker_waiting_steps order by 1").await;
        let wait = |number: usize, time: &str| json!({"task_id": tasks[number], "run_at": format!("2030-01-01T{time}+00:00"), "reason": "retry"});
        assert_eq!(
            json!(waiting),
            json!([wait(1, "12:00:10"), wait(3, "12:00:42.5"), wait(4, "12:00:00"), wait(5, "12:00:10")])
        );
        assert!(world.broken_invariants().await.is_empty());

        // The same batch again is stale as a whole and changes nothing.
        let before = content(&world).await;
        let response = session.finish(process, &outcomes[..8], 0).await;
        assert_eq!(response["stale"].as_array().unwrap().len(), 8);
        assert_eq!((&response["ended"], &response["retries"]), (&json!([]), &json!([])));
        assert_eq!(content(&world).await, before);
        // The second failure of two is the last.
        session.at("10 seconds").await;
        session.call("sweep(null, 100)").await;
        let claims = session.claim(process, "*", 100).await;
        let second: Vec<Value> = claims.iter().filter(|claim| claim["attempt"] == 2).map(failed).collect();
        assert_eq!(second.len(), 3, "the fourth has asked for more time");
        let response = session.finish(process, &second, 0).await;
        assert_eq!(response["ended"].as_array().unwrap().len(), 3);
        assert_eq!(session.state(tasks[1], "s").await, "error");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn an_unknown_outcome_does_not_affect_its_batch() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        session.create_all(&vec![request(&one, json!({})); 2]).await;
        let process = session.process("*").await;
        let claims = session.claim(process, "*", 2).await;
        let before = content(&world).await;
        for outcome in ["excellent", ""] {
            let strange = ended(&claims[1], json!({"outcome": outcome}));
            let refusal = session.refusal(&finish(process, &[completed(&claims[0]), strange], 0)).await;
            assert_eq!(refusal.code, "23514", "{outcome}: {refusal:?}");
            assert_eq!(content(&world).await, before);
        }
        let response = session.finish(process, &[], 0).await;
        assert_eq!(
            response,
            json!({"stale": [], "retries": [], "ready_queues": [], "kept": null, "claimed": null, "ended": []})
        );
        assert_eq!(content(&world).await, before);
    });
}

#[test]
fn a_child_of_two_parents_is_ready_once_however_they_end() {
    World::run(|world| async move {
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        let (mut first, mut second) = (Session::open(&world).await, Session::open(&world).await);
        let process = first.process("*").await;
        let (together, apart) = (first.create(&diamond, json!({})).await, first.create(&diamond, json!({})).await);
        let roots = first.claim(process, "*", 2).await;
        first.finish(process, &[completed(&roots[0]), completed(&roots[1])], 0).await;
        let claims = first.claim(process, "*", 4).await;
        let of = |task: i64| -> Vec<Value> {
            claims.iter().filter(|claim| claim["task_id"] == task).map(completed).collect()
        };
        first.finish(process, &of(together), 0).await;
        assert_eq!(first.count(&format!("tasker_ready_steps where task_id = {together}")).await, 1);

        let parents = of(apart);
        first.run("begin").await;
        first.finish(process, &parents[..1], 0).await;
        assert_eq!(first.state(apart, "d").await, "pending");
        let (holder, waiter) = (first.backend, second.backend);
        let waiting = second.begin(&finish(process, &parents[1..], 0));
        waits_for(&world, waiter, holder).await;
        first.run("commit").await;
        let response;
        (second, response) = waiting.await.unwrap();
        assert_eq!(response.unwrap()["ready_queues"], json!(["default"]), "the second parent has released it");
        assert_eq!(second.state(apart, "d").await, "ready");
        assert_eq!(second.count(&format!("tasker_ready_steps where task_id = {apart}")).await, 1);
        assert_eq!(second.claim(process, "*", 9).await[1]["results"], json!({"b": {"from": "b"}, "c": {"from": "c"}}));
        assert!(world.broken_invariants().await.is_empty());

        // With one snapshot, the second cannot count what the first has done: it begins again.
        second.run(&format!("select tasker_core_v1.cancel_task({together}, 'x', 'y')")).await;
        let task = first.create(&diamond, json!({})).await;
        first.finish(process, &[completed(&claim_scan_start(&mut second, process).await)], 0).await;
        let claims = second.claim(process, "*", 2).await;
        first.run("begin isolation level repeatable read; select 1 from tasker_workflow_steps").await;
        second.finish(process, &[completed(&claims[0])], 0).await;
        assert!(serialization_failure(&first.refusal(&finish(process, &[completed(&claims[1])], 0)).await));
        first.run("rollback").await;
        first.finish(process, &[completed(&claims[1])], 0).await;
        assert_eq!(first.state(task, "d").await, "ready");
    });
}

async fn claim_scan_start(session: &mut Session, process: i64) -> Value {
    session.claim(process, "*", 1).await.remove(0)
}

/// A root with children on several queues and of several priorities.
fn fan() -> Value {
    json!({"name": "fan", "steps": [
        {"name": "root", "handler": "h", "queue": "a"},
        {"name": "plain", "handler": "h", "queue": "a", "depends_on": ["root"]},
        {"name": "late", "handler": "h", "queue": "a", "depends_on": ["root"], "priority": 5},
        {"name": "early", "handler": "h", "queue": "a", "depends_on": ["root"], "priority": -5},
        {"name": "elsewhere", "handler": "h", "queue": "b", "depends_on": ["root"]}]})
}

#[test]
fn a_process_keeps_ready_children_up_to_its_limit() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let fan = register(&world, &fan()).await;
        let names = |claims: &Value| steps(claims.as_array().unwrap_or(&Vec::new()));
        for (limit, kept) in [("0", vec![]), ("1", vec!["early"]), ("null", vec!["early", "plain"])] {
            session.run("begin").await;
            let process = session.process("a").await;
            session.create(&fan, json!({})).await;
            let root = session.claim(process, "*", 1).await;
            let call = finish(process, &[completed(&root[0])], 2).replace(", 2)", &format!(", 2, {limit})"));
            let response = session.call(&call).await;
            assert_eq!(names(&response["kept"]), kept, "{limit}");
            let claimed: Vec<String> = ["early", "plain"].map(str::to_owned).into_iter().skip(kept.len()).collect();
            assert_eq!(names(&response["claimed"]), claimed, "what it does not keep is claimed in its turn");
            session.run("rollback").await;
        }
    });
}

#[test]
fn a_ready_child_fills_a_free_slot_unless_others_are_urgent() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let fan = register(&world, &fan()).await;
        let mut urgent = workflow("urgent", &[("now", &[])]);
        urgent["steps"][0]["queue"] = json!("a");
        let urgent = register(&world, &urgent).await;
        // Queues; priority of a step that waits in queue a; slots; kept; claimed besides; left for others.
        type Case = (
            &'static str,
            Option<i32>,
            usize,
            &'static [&'static str],
            &'static [&'static str],
            &'static [&'static str],
        );
        let cases: &[Case] = &[
            ("a", None, 0, &[], &[], &["plain", "late", "early", "elsewhere"]),
            ("a", None, 2, &["early", "plain"], &[], &["late", "elsewhere"]),
            ("a", None, 9, &["early", "plain", "late"], &[], &["elsewhere"]),
            ("b", None, 9, &["elsewhere"], &[], &["early", "plain", "late"]),
            ("*", None, 9, &["early", "plain", "elsewhere", "late"], &[], &[]),
            ("c", None, 9, &[], &[], &["early", "plain", "late", "elsewhere"]),
            // What waits is more urgent than all children but one, and is claimed before them.
            ("a", Some(-1), 1, &["early"], &[], &["plain", "late", "elsewhere", "now"]),
            ("a", Some(-1), 2, &["early"], &["now"], &["plain", "late", "elsewhere"]),
            ("a", Some(-1), 3, &["early"], &["now", "plain"], &["late", "elsewhere"]),
            ("a", Some(-9), 1, &[], &["now"], &["early", "plain", "late", "elsewhere"]),
            // As urgent is not more urgent, and less urgent is claimed when a slot is left.
            ("a", Some(0), 2, &["early", "plain"], &[], &["late", "elsewhere", "now"]),
            ("a", Some(9), 9, &["early", "plain", "late"], &["now"], &["elsewhere"]),
            // What this process does not serve is not urgent for it.
            ("b", Some(-9), 9, &["elsewhere"], &[], &["early", "plain", "late", "now"]),
        ];
        for (queues, waiting, slots, kept, claimed, left) in cases {
            session.run("begin").await;
            let process = session.process(queues).await;
            session.create(&fan, json!({})).await;
            let root = session.claim(process, "*", 1).await;
            if let Some(priority) = waiting {
                session.create(&urgent, json!({"priority": priority})).await;
            }
            let response = session.finish(process, &[completed(&root[0])], *slots).await;
            let names = |claims: &Value| steps(claims.as_array().unwrap_or(&Vec::new()));
            let case = format!("queues {queues}, {waiting:?} waits, {slots} slots");
            assert_eq!(names(&response["kept"]), *kept, "{case}");
            assert_eq!(names(&response["claimed"]), *claimed, "{case}");
            let ready = session
                .rows("select d.name from tasker_ready_steps r join tasker_tasks t on t.id = r.task_id join tasker_step_definitions d \
                       on d.workflow_version_id = t.workflow_version_id and d.position = r.position").await;
            let ready: BTreeSet<String> = ready.iter().map(|row| text(&row["name"])).collect();
            assert_eq!(ready, left.iter().map(|name| (*name).to_owned()).collect(), "{case}");
            let ours = session.count(&format!("tasker_claimed_steps where process_id = {process}")).await;
            assert_eq!(ours as usize, kept.len() + claimed.len(), "{case}");
            session.run("commit").await;
            assert!(world.broken_invariants().await.is_empty(), "{case}");
            session.run("truncate tasker_tasks, tasker_task_inputs, tasker_workflow_steps, tasker_ready_steps, tasker_claimed_steps, \
                         tasker_step_attempts").await;
        }
    });
}

#[test]
fn a_process_given_up_finishes_its_claims_and_gets_no_more() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let line = register(&world, &workflow("line", &[("a", &[]), ("b", &["a"])])).await;
        let tasks = session.create_all(&vec![request(&line, json!({})); 2]).await;
        let process = session.process("*").await;
        let claim = claim_scan_start(&mut session, process).await;
        session.run("delete from tasker_processes").await;
        let response = session.finish(process, &[completed(&claim)], 5).await;
        assert_eq!(
            (&response["stale"], &response["kept"], &response["claimed"]),
            (&json!([]), &Value::Null, &json!([]))
        );
        assert_eq!(response["ready_queues"], json!(["default"]));
        assert_eq!(
            (session.state(tasks[0], "a").await, session.state(tasks[0], "b").await),
            ("complete".into(), "ready".into())
        );
        session.refused("TC005", &format!("claim_steps({process}, '{{*}}', 1)")).await;
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_task_in_which_nothing_is_active_ends_with_its_last_step() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        let task = session.create(&diamond, json!({})).await;
        let counters = format!("select active, remaining, state, ended_at from tasker_tasks where id = {task}");
        let root = claim_scan_start(&mut session, process).await;
        session.finish(process, &[completed(&root)], 0).await;
        let both = session.claim(process, "*", 2).await;
        assert_eq!(
            session.rows(&counters).await,
            [json!({"active": 2, "remaining": 3, "state": "pending", "ended_at": null})]
        );
        let response = session.finish(process, &[failed_for_good(on(&both, "b"))], 0).await;
        assert_eq!(response["ended"], json!([]), "the other branch continues");
        session.at("1 hour").await;
        let response = session.finish(process, &[completed(on(&both, "c"))], 0).await;
        let row =
            session.rows(&format!("select uuid, correlation_id from tasker_tasks where id = {task}")).await.remove(0);
        assert_eq!(
            response["ended"],
            json!([{"name": "task.failed", "task_id": task, "uuid": row["uuid"], "state": "error", "correlation_id": row["correlation_id"],
                    "namespace": "default", "workflow": "diamond", "version": diamond.version()}])
        );
        assert_eq!(
            session.rows(&counters).await,
            [json!({"active": 0, "remaining": 2, "state": "error", "ended_at": "2030-01-01T13:00:00+00:00"})]
        );
        let task = session.create(&diamond, json!({})).await;
        session.complete_all(process).await;
        let sql = format!("select active, remaining, state from tasker_tasks where id = {task}");
        assert_eq!(session.rows(&sql).await, [json!({"active": 0, "remaining": 0, "state": "complete"})]);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_claim_that_is_given_back_spends_no_attempt() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let one = register(&world, &with(workflow("one", &[("s", &[])]), 0, "queue", json!("q"))).await;
        let tasks = session.create_all(&vec![request(&one, json!({"priority": 4})); 4]).await;
        let claims = session.claim(process, "*", 3).await;
        session.at("1 minute").await;
        let token_of = |number: usize| token(&claims[number]);
        let response = session.call(&format!("return_claims('{{{0},{0},777}}', '0', 'shutdown')", token_of(0))).await;
        assert_eq!(response, json!({"ready_queues": ["q"]}));
        assert_eq!(
            session.call(&format!("return_claims('{{{}}}', '5 s', 'unknown_handler')", token_of(1))).await,
            json!({"ready_queues": []})
        );
        assert_eq!(session.count("tasker_step_attempts").await, 0);
        session.call(&format!("return_claims('{{{}}}', '0', 'shutdown', true)", token_of(2))).await;
        let history = session.rows("select token, outcome, attempt, started_at, finished_at, error->>'class' as class from tasker_step_attempts").await;
        assert_eq!(
            json!(history),
            json!([{"token": token_of(2), "outcome": "released", "attempt": 1, "class": "TaskerCore::StoppedError",
                    "started_at": "2030-01-01T12:00:00+00:00", "finished_at": "2030-01-01T12:01:00+00:00"}])
        );
        for call in ["return_claims('{}', '0', 'shutdown')", "return_claims('{777}', '5 s', 'shutdown', true)"] {
            assert_eq!(session.call(call).await, json!({"ready_queues": []}));
        }
        // It keeps its priority and its age, but comes after those that were ready when it was claimed.
        let ready =
            session.rows("select task_id, priority, ready_at from tasker_ready_steps order by priority, seq").await;
        let row =
            |number: usize| json!({"task_id": tasks[number], "priority": 4, "ready_at": "2030-01-01T12:00:00+00:00"});
        assert_eq!(json!(ready), json!([row(3), row(0), row(2)]));
        let waiting = session.rows("select task_id, run_at, reason from tasker_waiting_steps").await;
        assert_eq!(
            json!(waiting),
            json!([{"task_id": tasks[1], "run_at": "2030-01-01T12:01:05+00:00", "reason": "unknown_handler"}])
        );
        assert_eq!(session.one("select max(attempts) from tasker_workflow_steps").await, 0);
        let again = session.claim(process, "*", 9).await;
        assert!(again.iter().all(|claim| claim["attempt"] == 1));
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_finish_and_a_release_of_one_claim_serialize_and_one_wins() {
    World::run(|world| async move {
        let (mut first, mut second) = (Session::open(&world).await, Session::open(&world).await);
        let process = first.process("*").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        for commit in [true, false] {
            let task = first.create(&one, json!({})).await;
            let claim = claim_scan_start(&mut first, process).await;
            let (holder, waiter) = (first.backend, second.backend);
            first.run("begin").await;
            first.finish(process, &[completed(&claim)], 0).await;
            let waiting = second.begin(&format!("return_claims('{{{}}}', '0', 'shutdown')", token(&claim)));
            waits_for(&world, waiter, holder).await;
            first.run(if commit { "commit" } else { "rollback" }).await;
            let response;
            (second, response) = waiting.await.unwrap();
            let (queues, state) = if commit { (json!([]), "complete") } else { (json!(["default"]), "ready") };
            assert_eq!(response.unwrap(), json!({"ready_queues": queues}));
            assert_eq!(second.state(task, "s").await, state);
        }
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_heartbeat_returns_revoked_tokens_and_releases_lost_claims() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let (process, other) = (session.process("*").await, session.process("*").await);
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 4]).await;
        let ours = session.claim(process, "*", 3).await;
        let theirs = session.claim(other, "*", 1).await;
        session.call(&format!("cancel_task({}, 'x', 'y')", tasks[0])).await;
        let held = quoted(&json!([key(&ours[0]), key(&ours[1]), {"token": 999}]));
        session.at("20 seconds").await;
        let response = session.call(&format!("heartbeat({process}, {held})")).await;
        assert_eq!((&response["known"], &response["revoked"]), (&json!(true), &json!([token(&ours[0]), 999])));
        assert_eq!(session.state(tasks[2], "s").await, "in_progress", "its response may still be on its way");
        let query = format!("select heartbeat_at from tasker_processes where id = {process}");
        assert_eq!(session.one(&query).await, "2030-01-01T12:00:20+00:00");
        session.at("20.001 seconds").await;
        assert_eq!(session.call(&format!("heartbeat({process}, {held})")).await["known"], true);
        assert_eq!(session.state(tasks[2], "s").await, "ready", "no process will ever finish it");
        let expected_events = format!(
            "select outcome || ': ' || (error->>'message') from tasker_step_attempts where token = {}",
            token(&ours[2])
        );
        let expected = format!("released: process {process} did not know of its claim");
        assert_eq!(session.one(&expected_events).await, expected, "it may have begun it after all");
        assert_eq!(session.state(tasks[1], "s").await, "in_progress");
        assert_eq!(session.state(tasks[3], "s").await, "in_progress", "another one's claim is its own");
        for (process, held, known, revoked) in [
            (other, held_by(&theirs), true, json!([])),
            (other, "'[]'".to_owned(), true, json!([])),
            (process, held_by(&theirs), true, json!([token(&theirs[0])])),
            (4711, r#"'[{"token": 1}]'"#.to_owned(), false, json!([1])),
        ] {
            let response = session.call(&format!("heartbeat({process}, {held})")).await;
            assert_eq!((&response["known"], &response["revoked"]), (&json!(known), &revoked), "{process} {held}");
        }
        assert_eq!(session.count("tasker_step_attempts where outcome <> 'released'").await, 0);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_process_registers_and_releases_its_claims_on_leaving() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let entry = json!({"name": "n", "hostname": "h", "pid": 7, "queues": ["a", "b"], "heartbeat_timeout_ms": 1500,
                           "lease_grace_ms": 250});
        let register_process = format!("register_process({})", quoted(&entry));
        let process = session.call(&register_process).await.as_i64().unwrap();
        let row = session.rows("select * from tasker_processes").await;
        assert_eq!(
            json!(row),
            json!([{"id": process, "name": "n", "hostname": "h", "pid": 7, "queues": ["a", "b"], "idle": false,
                    "started_at": "2030-01-01T12:00:00+00:00", "heartbeat_at": "2030-01-01T12:00:00+00:00",
                    "heartbeat_timeout": "00:00:01.5", "lease_grace": "00:00:00.25"}])
        );
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 3]).await;
        let other = session.process("*").await;
        session.claim(process, "*", 2).await;
        session.claim(other, "*", 1).await;
        assert_eq!(session.call(&format!("deregister_process({process})")).await, json!({"ready_queues": ["default"]}));
        assert_eq!(session.one("select json_agg(id) from tasker_processes").await, json!([other]));
        let mut states = Vec::new();
        for task in &tasks {
            states.push(session.state(*task, "s").await);
        }
        assert_eq!(states, ["ready", "ready", "in_progress"]);
        assert_eq!(session.count("tasker_step_attempts where outcome = 'released'").await, 2);
        assert_eq!(session.one("select max(attempts) from tasker_workflow_steps").await, 0);
        assert_eq!(session.call(&format!("deregister_process({process})")).await, json!({"ready_queues": []}));
        assert_ne!(session.call(&register_process).await, json!(process), "an id is never given again");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn only_queues_with_an_idle_process_are_notified_once_each() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let mut listener = PgListener::connect_with(&world.pool).await.unwrap();
        listener.listen("tasker_ready").await.unwrap();
        assert_eq!(session.call("wake_workers('{a,b}')").await, 0);
        let (idle, _busy) = (session.process("a,b").await, session.process("c").await);
        session.claim(idle, "a,b", 1).await;
        assert_eq!(session.call("wake_workers('{c}')").await, 0);
        assert_eq!(session.call("wake_workers('{}')").await, 0);
        assert_eq!(session.call("wake_workers('{a,c,a,d}')").await, 1);
        assert_eq!(listener.recv().await.unwrap().payload(), "a");
        let all = session.process("*").await;
        session.claim(all, "*", 1).await;
        assert_eq!(session.call("wake_workers('{d}')").await, 1);
        assert_eq!(listener.recv().await.unwrap().payload(), "d");
    });
}

#[test]
fn results_of_ancestors_only_are_returned_by_name() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let graph: &[(&str, &[&str])] =
            &[("a", &[]), ("z", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"]), ("e", &["d"])];
        let w = register(&world, &workflow("w", graph)).await;
        let task = session.create(&w, json!({})).await;
        session.complete_all(process).await;
        for (step, ancestors) in [
            ("a", vec![]),
            ("z", vec![]),
            ("c", vec!["a"]),
            ("d", vec!["a", "b", "c"]),
            ("e", vec!["a", "b", "c", "d"]),
        ] {
            let position = session.position(task, step).await;
            let results = session.call(&format!("ancestor_results({task}, {position})")).await;
            let expected: Value = ancestors
                .iter()
                .map(|name| ((*name).to_owned(), json!({"from": name})))
                .collect::<serde_json::Map<_, _>>()
                .into();
            assert_eq!(results, json!({"results": expected, "after": null, "names": ancestors}), "{step}");
        }
        let other = session.create(&w, json!({})).await;
        let position = session.position(other, "d").await;
        assert_eq!(
            session.call(&format!("ancestor_results({other}, {position})")).await,
            json!({"results": {"a": null, "b": null, "c": null}, "after": null, "names": ["a", "b", "c"]})
        );
        let none = json!({"results": {}, "after": null, "names": []});
        assert_eq!(session.call("ancestor_results(4711, 0)").await, none);
        assert_eq!(session.call(&format!("ancestor_results({task}, 99)")).await, none);
    });
}

#[test]
fn results_come_in_parts_of_the_size_that_is_asked_for() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let graph: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &[]), ("join", &["a", "b", "c"])];
        let w = register(&world, &workflow("w", graph)).await;
        let task = session.create(&w, json!({})).await;
        let claims = session.claim(process, "*", 3).await;
        let outcomes: Vec<Value> = claims.iter().map(completed).collect(); // {"from": "a"}: 13 characters
        session.finish(process, &outcomes, 0).await;
        let try_call = |rest: &str| format!("ancestor_results({task}, 3, {rest})");
        let names = json!(["a", "b", "c"]);
        let of = |names: &[&str]| -> Value {
            names
                .iter()
                .map(|name| ((*name).to_owned(), json!({"from": name})))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        for (arguments, results, after) in [
            ("null, null, 26", of(&["a", "b"]), json!(1)),
            ("null, null, 25", of(&["a"]), json!(0)),
            ("null, null, 1", of(&["a"]), json!(0)),
            ("null, null, 39", of(&["a", "b", "c"]), Value::Null),
            ("'{c,b}', null, 1", of(&["b"]), json!(1)),
            ("'{c,unused}', null, 100", of(&["c"]), Value::Null),
            ("'{}', null, 100", of(&[]), Value::Null),
        ] {
            let response = session.call(&try_call(arguments)).await;
            assert_eq!(response, json!({"results": results, "after": after, "names": names}), "{arguments}");
        }
        let rest = session.call(&try_call("null, 1, 26")).await;
        assert_eq!(rest, json!({"results": of(&["c"]), "after": null, "names": null}));
    });
}

#[test]
fn a_claim_carries_payloads_up_to_its_share_and_defers_others() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let graph: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("join", &["a", "b"])];
        let w = register(&world, &workflow("w", graph)).await;
        let task = session.create(&w, json!({"input": {"n": 1}})).await; // 8 characters
        let claims = session.claim(process, "*", 2).await;
        let long = ended(&claims[1], json!({"outcome": "completed", "result": {"x": "y".repeat(100)}}));
        session.finish(process, &[completed(&claims[0]), long], 0).await;
        let ready = "claim_steps({}, '{*}', 1, {})";
        for (bytes, input, results, deferred) in [
            (0, Value::Null, Value::Null, json!({"input": true, "results": [0, 1]})),
            (7, Value::Null, Value::Null, json!({"input": true, "results": [0, 1]})),
            (33, json!({"n": 1}), Value::Null, json!({"input": false, "results": [0, 1]})),
            (34, json!({"n": 1}), json!({"0": {"from": "a"}}), json!({"input": false, "results": [1]})),
            (1000, json!({"n": 1}), json!({"0": {"from": "a"}, "1": {"x": "y".repeat(100)}}), Value::Null),
        ] {
            let call = ready.replacen("{}", &process.to_string(), 1).replacen("{}", &bytes.to_string(), 1);
            let response = session.call(&call).await;
            let claim = &response["claims"][0];
            assert_eq!(
                (&claim["input"], &claim["results"], &claim["deferred"]),
                (&input, &results, &deferred),
                "{bytes}"
            );
            let version = claim["version_id"].to_string();
            let definition = session.call(&format!("workflow_definition({version})")).await;
            assert_eq!(response["versions"], json!({version: definition["digest"]}));
            assert_eq!(definition["steps"][2]["step"], json!("join"));
            assert_eq!(definition["steps"][2]["dependencies"], json!([0, 1]));
            let held = held_by(std::slice::from_ref(claim));
            session.call(&format!("release_steps({process}, {held}, '0', 'shutdown')")).await;
        }
        assert_eq!(session.call(&format!("task_input({task})")).await, json!({"n": 1}));
        assert_eq!(session.call("task_input(4711)").await, Value::Null);
        assert_eq!(session.call("workflow_definition(4711)").await, Value::Null);
        // Whole, for those that keep no definitions.
        let whole = session.claim(process, "*", 1).await.remove(0);
        assert_eq!(whole["results"], json!({"a": {"from": "a"}, "b": {"x": "y".repeat(100)}}));
        assert_eq!(
            session.call(&format!("claim_steps({process}, '{{*}}', 1, 10)")).await,
            json!({"versions": {}, "claims": []})
        );
    });
}

#[test]
fn sizes_are_stored_as_the_payloads_text_is_long() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let w = register(&world, &workflow("w", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])).await;
        let task = session.create(&w, json!({"input": {"n": [1, 2]}})).await;
        let claims = session.claim(process, "*", 1).await;
        session.finish(process, &[completed(&claims[0])], 0).await;
        session.call(&format!("complete_step({task}, 1, '{{\"n\": 1e3}}', 'x', 'y')")).await;
        session.call(&format!("update_result({task}, 0, '{{\"replaced\": 1}}', 'x', 'y')")).await;
        let wrong = "tasker_workflow_steps where octet_length(result::text) is distinct from result_bytes";
        assert_eq!(session.count(wrong).await, 0);
        assert_eq!(session.count("tasker_workflow_steps where result_bytes > 0").await, 2);
        let wrong = "tasker_task_inputs where octet_length(input::text) <> input_bytes";
        assert_eq!(session.count(wrong).await, 0);
    });
}

#[test]
fn levels_are_those_of_the_longest_way_from_a_root() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let graph: &[(&str, &[&str])] =
            &[("a", &[]), ("z", &[]), ("b", &["a"]), ("c", &["a", "b"]), ("d", &["c", "z"]), ("e", &["z"])];
        let w = register(&world, &workflow("w", graph)).await;
        let version =
            session.one(&format!("select id from tasker_workflow_versions where name = '{}'", w.name())).await;
        let levels =
            session.rows(&format!("select name, level from tasker_core_v1.dependency_levels({version})")).await;
        let mut found: Vec<(i64, String)> =
            levels.iter().map(|row| (row["level"].as_i64().unwrap(), text(&row["name"]))).collect();
        let sorted = {
            let mut sorted = found.clone();
            sorted.sort_by_key(|it| it.0);
            sorted
        };
        assert_eq!(found, sorted, "by level");
        found.sort();
        let expected =
            [(0, "a"), (0, "z"), (1, "b"), (1, "e"), (2, "c"), (3, "d")].map(|(level, name)| (level, name.to_owned()));
        assert_eq!(found, expected);
        assert_eq!(session.rows("select * from tasker_core_v1.dependency_levels(4711)").await, Vec::<Value>::new());
    });
}

#[test]
fn what_runs_is_an_attempt_that_has_begun_and_has_no_end() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let retry = json!({"max_attempts": 3, "backoff": "fixed", "base": "10s", "jitter": 0});
        let one = register(&world, &with(workflow("one", &[("s", &[])]), 0, "retry", retry)).await;
        let task = session.create(&one, json!({})).await;
        let step =
            format!("select state, attempts, claimed_by, claimed_at from tasker_core_v1.step_states(array[{task}])");
        let attempts = format!(
            "select attempt, outcome, started_at, finished_at, seconds from tasker_core_v1.step_attempts(array[{task}]) \
             order by token"
        );
        let spent =
            format!("select elapsed_seconds, running_seconds from tasker_core_v1.task_execution_context({task})");
        assert_eq!(
            json!(session.rows(&step).await),
            json!([{"state": "ready", "attempts": 0, "claimed_by": null, "claimed_at": null}])
        );
        assert_eq!(json!(session.rows(&attempts).await), json!([]));
        let first = session.claim(process, "*", 1).await;
        session.at("40 seconds").await;
        let noon = "2030-01-01T12:00:00+00:00";
        assert_eq!(
            json!(session.rows(&step).await),
            json!([{"state": "in_progress", "attempts": 1, "claimed_by": process, "claimed_at": noon}])
        );
        let running =
            json!({"attempt": 1, "outcome": "running", "started_at": noon, "finished_at": null, "seconds": 40});
        assert_eq!(json!(session.rows(&attempts).await), json!([running]));
        assert_eq!(json!(session.rows(&spent).await), json!([{"elapsed_seconds": 40, "running_seconds": 40}]));
        session.finish(process, &[failed(&first[0])], 0).await;
        let of_first = session.rows(&attempts).await[0]["seconds"].as_f64().unwrap();
        assert_eq!(
            json!(session.rows(&step).await),
            json!([{"state": "waiting", "attempts": 1, "claimed_by": null, "claimed_at": null}])
        );
        session.at("100 seconds").await;
        session.call("sweep(null, 10)").await;
        let other = session.process("*").await;
        session.claim(other, "*", 1).await;
        session.at("103 seconds").await;
        assert_eq!(session.rows(&step).await[0]["attempts"], 2);
        let outcomes: Vec<Value> = session.rows(&attempts).await.iter().map(|row| row["outcome"].clone()).collect();
        assert_eq!(json!(outcomes), json!(["failed", "running"]));
        let spent = session.rows(&spent).await;
        assert_eq!(spent[0]["elapsed_seconds"], 103);
        assert!((spent[0]["running_seconds"].as_f64().unwrap() - of_first - 3.0).abs() < 0.001, "{spent:?}");
    });
}

#[test]
fn the_gravest_wait_of_a_tasks_steps_is_its_status() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let four = register(&world, &workflow("four", &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])])).await;
        let later = session.create(&four, json!({"wait_until": "2030-01-01T13:00:00Z"})).await;
        let status = format!("select execution_status from tasker_core_v1.task_execution_context({later})");
        assert_eq!(session.one(&status).await, "scheduled");
        for (position, reason, expected) in [
            (0, "limited", "waiting_for_capacity"),
            (1, "retry", "waiting_for_retry"),
            (2, "unknown_handler", "waiting_for_handler"),
            (3, "unreadable", "waiting_for_repair"),
        ] {
            session.call(&format!("retry_step({later}, {position}, 'x', 'y')")).await;
            assert_eq!(session.one(&status).await, "has_ready_steps");
            let claims = session.claim(process, "*", 1).await;
            assert_eq!(session.one(&status).await, "processing");
            if reason == "retry" {
                session.finish(process, &[failed(&claims[0])], 0).await;
            } else {
                let held = held_by(&claims[..1]);
                session.call(&format!("release_steps({process}, {held}, '1 hour', '{reason}')")).await;
            }
            assert_eq!(session.one(&status).await, expected);
        }
    });
}

#[test]
fn a_tasks_status_is_that_of_its_worst_step() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let retry = json!({"max_attempts": 2, "backoff": "fixed", "base": "10s", "jitter": 0});
        let mut definition = workflow("four", &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a", "b", "c"])]);
        for step in 0..4 {
            definition = with(definition, step, "retry", retry.clone());
        }
        let four = register(&world, &definition).await;
        let task = session.create(&four, json!({})).await;
        let context = format!(
            "select task_id, state, execution_status, total_steps, completed_steps, failed_steps, ready_steps, \
             in_progress_steps, waiting_steps, next_run_at from tasker_core_v1.task_execution_context({task})"
        );
        let expected = |state: &str, status: &str, counts: [i32; 5], next: Value| {
            json!({"task_id": task, "state": state, "execution_status": status, "total_steps": 4, "completed_steps": counts[0],
                   "failed_steps": counts[1], "ready_steps": counts[2], "in_progress_steps": counts[3], "waiting_steps": counts[4],
                   "next_run_at": next})
        };
        let due = json!("2030-01-01T12:00:10+00:00");
        assert_eq!(
            session.rows(&context).await,
            [expected("pending", "has_ready_steps", [0, 0, 3, 0, 0], Value::Null)]
        );
        let claims = session.claim(process, "*", 2).await;
        assert_eq!(
            session.rows(&context).await,
            [expected("in_progress", "has_ready_steps", [0, 0, 1, 2, 0], Value::Null)]
        );
        let third = session.claim(process, "*", 1).await;
        assert_eq!(session.rows(&context).await, [expected("in_progress", "processing", [0, 0, 0, 3, 0], Value::Null)]);
        session.finish(process, &[failed(&claims[0])], 0).await;
        assert_eq!(session.rows(&context).await, [expected("in_progress", "processing", [0, 0, 0, 2, 1], due.clone())]);
        session.finish(process, &[completed(&claims[1])], 0).await;
        session.finish(process, &[failed(&third[0])], 0).await;
        assert_eq!(
            session.rows(&context).await,
            [expected("in_progress", "waiting_for_retry", [1, 0, 0, 0, 2], due.clone())]
        );
        let step = session
            .rows(&format!(
                "select state, attempts, max_attempts, pending_parents, run_at, waiting_reason, last_error->>'message' as error \
                                          from tasker_core_v1.step_states(array[{task}]) where name = 'a'"
            ))
            .await;
        assert_eq!(
            json!(step),
            json!([{"state": "waiting", "attempts": 1, "max_attempts": 2, "pending_parents": 0, "run_at": due, "waiting_reason": "retry", "error": "no"}])
        );
        session.at("10 seconds").await;
        session.call("sweep(null, 10)").await;
        let again = session.claim(process, "*", 1).await;
        session.finish(process, &[failed(&again[0])], 0).await;
        assert_eq!(
            session.rows(&context).await,
            [expected("in_progress", "blocked_by_failures", [1, 1, 1, 0, 0], Value::Null)],
            "blocked outranks ready"
        );
        let again = session.claim(process, "*", 1).await;
        let claimed_by = session
            .rows(&format!(
                "select name, claimed_by from tasker_core_v1.step_states(array[{task}]) where claimed_by is not null"
            ))
            .await;
        assert_eq!(json!(claimed_by), json!([{"name": again[0]["step"], "claimed_by": process}]));
        session.finish(process, &[completed(&again[0])], 0).await;
        assert_eq!(
            session.rows(&context).await,
            [expected("error", "blocked_by_failures", [2, 1, 0, 0, 0], Value::Null)]
        );
        session.call(&format!("resolve_task({task}, 'x', 'y')")).await;
        assert_eq!(
            session.rows(&context).await,
            [expected("resolved_manually", "resolved_manually", [2, 1, 0, 0, 0], Value::Null)]
        );

        let whole = session.create(&four, json!({})).await;
        session.complete_all(process).await;
        let row = session
            .rows(&format!(
                "select state, execution_status, completed_steps from tasker_core_v1.task_execution_context({whole})"
            ))
            .await;
        assert_eq!(
            json!(row),
            json!([{"state": "complete", "execution_status": "all_complete", "completed_steps": 4}])
        );
        let cancelled = session.create(&four, json!({})).await;
        session.call(&format!("cancel_task({cancelled}, 'x', 'y')")).await;
        let row = session
            .rows(&format!("select state, execution_status from tasker_core_v1.task_execution_context({cancelled})"))
            .await;
        assert_eq!(json!(row), json!([{"state": "cancelled", "execution_status": "cancelled"}]));
        assert_eq!(
            session.rows("select * from tasker_core_v1.task_execution_context(4711)").await,
            Vec::<Value>::new()
        );
        assert_eq!(session.rows("select * from tasker_core_v1.step_states('{}')").await, Vec::<Value>::new());
        assert_eq!(
            session.count(&format!("tasker_core_v1.step_states(array[{whole}, {cancelled}, {whole}, 4711])")).await,
            8
        );
    });
}

#[test]
fn recomputed_readiness_matches_every_intermediate_state() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        // Ten layers of six: each step depends on some of the layer before, and now and then on one far above.
        let parents = |layer: usize, column: usize| -> Vec<(usize, usize)> {
            let mut parents: Vec<(usize, usize)> = (0..6)
                .filter(|parent| layer > 0 && (column * 7 + parent * 5 + layer).is_multiple_of(3))
                .map(|parent| (layer - 1, parent))
                .collect();
            if layer > 3 && (column + layer).is_multiple_of(4) {
                parents.push((layer - 4, column));
            }
            parents
        };
        let name = |(layer, column): (usize, usize)| format!("s{layer}_{column}");
        let mut steps = Vec::new();
        for layer in 0..10 {
            for column in 0..6 {
                let depends_on: Vec<String> = parents(layer, column).into_iter().map(name).collect();
                steps.push(json!({"name": name((layer, column)), "handler": "h", "depends_on": depends_on,
                                  "retry": {"max_attempts": 2, "backoff": "none", "jitter": 0}}));
            }
        }
        let graph: Vec<(String, BTreeSet<String>)> = (0..10)
            .flat_map(|layer| (0..6).map(move |column| (layer, column)))
            .map(|(layer, column)| (name((layer, column)), parents(layer, column).into_iter().map(name).collect()))
            .collect();
        assert!(graph.iter().any(|(_, parents)| parents.len() > 2));
        let w = register(&world, &json!({"name": "layers", "steps": steps})).await;
        let task = session.create(&w, json!({})).await;

        let (mut done, mut failed_ones) = (BTreeSet::new(), BTreeSet::new());
        let mut checks = 0;
        loop {
            // What the graph says, against what the database says.
            let rows = session.rows(&format!("select * from tasker_core_v1.step_readiness({task})")).await;
            assert_eq!(rows.len(), 60);
            let states = session.states(task).await;
            for (step, parents) in &graph {
                let row = rows.iter().find(|row| row["name"] == **step).unwrap();
                let missing: BTreeSet<&String> = parents.difference(&done).collect();
                let blocked_by: BTreeSet<String> = row["blocked_by"].as_array().unwrap().iter().map(text).collect();
                assert_eq!(blocked_by.iter().collect::<BTreeSet<_>>(), missing, "{step}");
                assert_eq!(row["parents"], parents.len());
                assert_eq!(row["parents_done"], parents.len() - missing.len(), "{step}");
                assert_eq!(row["dependencies_satisfied"], missing.is_empty(), "{step}");
                let over = done.contains(step) || failed_ones.contains(step);
                assert_eq!(row["may_run"], missing.is_empty() && !over, "{step}");
                let attempts_left = if failed_ones.contains(step) {
                    0
                } else if done.contains(step) {
                    1
                } else {
                    2
                };
                assert_eq!(row["attempts_left"], attempts_left, "{step}");
                let state = match (done.contains(step), failed_ones.contains(step), missing.is_empty()) {
                    (true, ..) => "complete",
                    (_, true, _) => "error",
                    (.., true) => "ready",
                    _ => "pending",
                };
                assert_eq!(states[step], state, "{step}");
            }
            checks += 1;
            // One step at a time; one of them fails to the end and blocks what is below it.
            let claims = session.claim(process, "*", 1).await;
            let Some(claim) = claims.first() else { break };
            let step = text(&claim["step"]);
            if step == "s4_1" {
                session.finish(process, &[failed(claim)], 0).await;
                session.call("sweep(null, 10)").await;
                let again = loop {
                    let next = claim_scan_start(&mut session, process).await;
                    if next["step"] == "s4_1" {
                        break next;
                    }
                    session.finish(process, &[completed(&next)], 0).await;
                    done.insert(text(&next["step"]));
                };
                session.finish(process, &[failed(&again)], 0).await;
                failed_ones.insert(step);
            } else {
                session.finish(process, &[completed(claim)], 0).await;
                done.insert(step);
            }
        }
        assert!(checks > 20, "{checks} checks");
        assert_eq!(session.task_state(task).await, "error");
        assert!(done.len() > 24 && done.len() < 59, "{} are done", done.len());
        // An operator takes the blocking step's place, and the rest follows.
        let position = session.position(task, "s4_1").await;
        session.call(&format!("resolve_step({task}, {position}, 'x', 'y')")).await;
        session.complete_all(process).await;
        assert_eq!(session.task_state(task).await, "complete");
        assert_eq!(
            session
                .count(&format!("tasker_core_v1.step_readiness({task}) where may_run or parents_done < parents"))
                .await,
            0
        );
        assert_eq!(session.rows("select * from tasker_core_v1.step_readiness(4711)").await, Vec::<Value>::new());
    });
}

#[test]
fn a_retry_waits_by_its_policy_up_to_its_cap() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        // Backoff, attempt, base, factor, cap, and the delay in ms.
        for (backoff, attempt, base, factor, cap, delay) in [
            ("none", 1, 1000, 2.0, 60_000, 0.0),
            ("none", 9, 1000, 2.0, 60_000, 0.0),
            ("fixed", 1, 1000, 2.0, 60_000, 1000.0),
            ("fixed", 9, 1000, 2.0, 60_000, 1000.0),
            ("fixed", 1, 1000, 2.0, 999, 999.0),
            ("linear", 1, 1000, 2.0, 60_000, 1000.0),
            ("linear", 7, 1000, 2.0, 60_000, 7000.0),
            ("linear", 61, 1000, 2.0, 60_000, 60_000.0),
            ("exponential", 1, 1000, 2.0, 60_000, 1000.0),
            ("exponential", 4, 1000, 2.0, 60_000, 8000.0),
            ("exponential", 3, 1000, 1.5, 60_000, 2250.0),
            ("exponential", 7, 1000, 2.0, 60_000, 60_000.0),
            ("exponential", 500, 1000, 1.0, 60_000, 1000.0),
            ("exponential", 201, 1000, 1.01, 60_000, 7316.018),
            ("exponential", 1000, 1, 100.0, 1_728_000_000, 1_728_000_000.0),
            ("exponential", 1000, 0, 2.0, 60_000, 0.0),
            ("linear", 1000, 604_800_000, 1.0, 1_728_000_000, 1_728_000_000.0),
        ] {
            let call = |jitter: f64| {
                format!("extract(epoch from tasker_core_v1.retry_delay('{backoff}', {attempt}, {base}, {factor}, {cap}, {jitter})) * 1000")
            };
            let given = session.one(&format!("select {}", call(0.0))).await.as_f64().unwrap();
            assert!((given - delay).abs() < 0.01, "{backoff} {attempt} {base} {factor} {cap}: {given}");
            let spread = session
                .rows(&format!("select min({0}) as low, max({0}) as high from generate_series(1, 200)", call(0.25)))
                .await
                .remove(0);
            let (low, high) = (spread["low"].as_f64().unwrap(), spread["high"].as_f64().unwrap());
            assert!(low >= delay * 0.7499 && high <= delay * 1.2501, "{backoff} {attempt}: {low} to {high}");
            assert!(delay == 0.0 || high - low > delay * 0.3, "{backoff} {attempt}: {low} to {high} is no spread");
        }
    });
}

#[test]
fn a_delay_that_a_handler_asks_for_is_a_year_at_most() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let process = session.process("*").await;
        session.create(&one, json!({})).await;
        let claims = session.claim(process, "*", 1).await;
        let mut outcome = failed(&claims[0]);
        outcome["retry_after"] = json!(1e9);
        let response = session.finish(process, &[outcome], 0).await;
        assert_eq!(response["retries"][0]["delay_ms"], json!(365_u64 * 86_400 * 1000));
        let due =
            "tasker_waiting_steps where run_at between now() + interval '364 days' and now() + interval '366 days'";
        assert_eq!(session.count(due).await, 1);
    });
}

#[test]
fn the_clock_is_the_databases_and_a_session_can_move_it() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let off = "extract(epoch from tasker_core_v1.current_time() - clock_timestamp())";
        let seconds = |value: Value| value.as_f64().unwrap().round() as i64;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), 0);
        session.at("1 hour").await;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), 3600);
        session.at("-2 days").await;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), -172_800);
        session.run("begin; set local tasker_core.clock_offset = '5 s'").await;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), 5);
        session.run("rollback; reset tasker_core.clock_offset").await;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), 0);
        assert_eq!(
            session.one("select distinct tasker_core_v1.current_time() > now() from pg_sleep(0.001)").await,
            true,
            "not the transaction's"
        );
    });
}

#[test]
fn a_uuid_encodes_its_millisecond_and_sorts_after_its_floor() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let uuids = session
            .rows("select tasker_core_v1.uuid_v7('2030-01-01 12:00:00.123456Z') as uuid from generate_series(1, 100)")
            .await;
        let uuids: Vec<String> = uuids.iter().map(|row| text(&row["uuid"])).collect();
        assert_eq!(uuids.iter().collect::<BTreeSet<_>>().len(), 100);
        let millisecond = format!("{:012x}", 1_893_499_200_123_i64);
        let floor = session.one("select tasker_core_v1.uuid_v7_floor('2030-01-01 12:00:00.123456Z')").await;
        assert_eq!(floor, format!("{}-{}-7000-8000-000000000000", &millisecond[..8], &millisecond[8..]));
        let next = text(&session.one("select tasker_core_v1.uuid_v7_floor('2030-01-01 12:00:00.124Z')").await);
        for uuid in uuids {
            assert_eq!(uuid.replace('-', "")[..12], millisecond);
            assert_eq!(&uuid[14..15], "7", "the version of {uuid}");
            assert!("89ab".contains(&uuid[19..20]), "the variant of {uuid}");
            assert!(uuid >= text(&floor) && uuid < next);
        }
        let floor = text(&session.one("select tasker_core_v1.uuid_v7_floor('1970-01-01Z')").await);
        assert_eq!(floor, "00000000-0000-7000-8000-000000000000");
    });
}

#[test]
fn a_refusal_has_a_code_a_sentence_and_facts() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let (message, facts) = session.refused("TC004", "raise_error('TC004', '100% of \"it\"', '{\"a\": [1]}')").await;
        assert_eq!((message.as_str(), facts), ("100% of \"it\"", json!({"a": [1]})));
        let fan = register(&world, &fan()).await;
        let root = session.create(&fan, json!({})).await;
        let process = session.process("*").await;

        // Claims on steps that the caller has made sure of; none for none.
        let noon = format!("array['{}'::timestamptz]", crate::session::NOON);
        let claims =
            session.call(&format!("insert_claims({process}, array[{root}]::bigint[], array[0], {noon})")).await;
        assert_eq!(steps(claims.as_array().unwrap()), ["root"]);
        assert_eq!(session.call(&format!("insert_claims({process}, '{{}}', '{{}}', '{{}}')")).await, json!([]));
        session.refused("TC005", "insert_claims(4711, '{}', '{}', '{}')").await;
    });
}

/// Makes a session's scans of a table start at marks from now on.
async fn mark(session: &mut Session, table: &str, marks: Value) {
    let mark_text = json!({"marks": marks, "whole_at": 1e12}).to_string();
    session
        .run(&format!("select set_config('tasker_core.look_' || '{table}'::regclass::oid, '{mark_text}', false)"))
        .await;
}

#[test]
fn a_scan_starts_at_the_first_row_or_the_last_marks() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let none = json!({"queues": null, "priorities": null, "seqs": null, "next_priorities": null});
        for queues in ["{*}", "{a}", "{}"] {
            assert_eq!(session.call(&format!("ready_scan_starts('{queues}')")).await, none);
        }
        for (queue, priority) in [("b", 4), ("a", 7), ("a", 2), ("a", 2)] {
            let w = with(workflow(&format!("{queue}{priority}"), &[("s", &[])]), 0, "queue", json!(queue));
            let w = register(&world, &with(w, 0, "priority", json!(priority))).await;
            session.create(&w, json!({})).await;
        }
        let seqs: Vec<i64> = session
            .rows("select seq from tasker_ready_steps order by queue, priority, seq")
            .await
            .iter()
            .map(|row| row["seq"].as_i64().unwrap())
            .collect();
        let heads = |queues: &[&str], priorities: &[i32], seqs: &[i64], next: Value| json!({"queues": queues, "priorities": priorities, "seqs": seqs, "next_priorities": next});
        assert_eq!(session.call("ready_scan_starts('{b}')").await, heads(&["b"], &[4], &[seqs[3]], json!([null])));
        assert_eq!(
            session.call("ready_scan_starts('{*}')").await,
            heads(&["*"], &[2], &[seqs[0]], json!([null])),
            "the most urgent of all"
        );
        assert_eq!(
            session.call("ready_scan_starts('{b,a}')").await,
            heads(&["a", "b"], &[2, 4], &[seqs[0], seqs[3]], json!([null, null]))
        );

        // Marks divide a queue into stretches; a queue or a priority without one is found all the same.
        let mark_at =
            |queue: &str, priority: i32, seq: i64| json!({"queue": queue, "priority": priority, "seq": seq - 1});
        for queue in ["a", "*"] {
            let marks = json!([mark_at(queue, 2, seqs[0]), mark_at(queue, 7, seqs[2])]);
            mark(&mut session, "tasker_ready_steps", marks).await;
            assert_eq!(
                session.call(&format!("ready_scan_starts('{{{queue}}}')")).await,
                heads(&[queue, queue], &[2, 7], &[seqs[0], seqs[2]], json!([7, null]))
            );
        }
        mark(&mut session, "tasker_ready_steps", json!([mark_at("a", 2, seqs[1])])).await;
        assert_eq!(
            session.call("ready_scan_starts('{a}')").await,
            heads(&["a"], &[2], &[seqs[1]], json!([null])),
            "what the mark says is believed"
        );
        mark(&mut session, "tasker_ready_steps", json!([mark_at("*", 2, seqs[0]), mark_at("*", 3, seqs[0])])).await;
        let process = session.process("*").await;
        let claims = session.claim(process, "*", 10).await;
        let found: Vec<String> = claims.iter().map(|claim| text(&claim["workflow"])).collect();
        assert_eq!(found, ["a2", "a2", "b4", "a7"]);

        // Claims and waiting steps.
        let first = session.one("select min(token) from tasker_claimed_steps").await;
        assert_eq!(session.call("claim_scan_start()").await, first);
        mark(&mut session, "tasker_claimed_steps", json!({"token": first.as_i64().unwrap() + 1})).await;
        let second = session
            .one(
                "select min(token) from tasker_claimed_steps where token > claim_scan_start.token"
                    .replace("claim_scan_start.token", &first.to_string())
                    .as_str(),
            )
            .await;
        assert_eq!(session.call("claim_scan_start()").await, second);
        let last = session.one("select max(token) from tasker_claimed_steps").await.as_i64().unwrap();
        mark(&mut session, "tasker_claimed_steps", json!({"token": last + 1})).await;
        let next = session.call("claim_scan_start()").await.as_i64().unwrap();
        assert_eq!(next, ((last >> 20) + 1) << 20, "the least of those that may be given next");
        let now = session.call("waiting_scan_start()").await;
        assert!(now.is_string() && session.count("tasker_waiting_steps").await == 0, "it is now where nothing waits");
        let w = register(&world, &workflow("late", &[("s", &[])])).await;
        session.create(&w, json!({"wait_until": "2100-01-01T00:00:00Z"})).await;
        assert!(
            text(&session.call("waiting_scan_start()").await).as_str() < "2100",
            "others may be put before it at any time"
        );
        session.at("80 years").await;
        assert_eq!(session.call("waiting_scan_start()").await, "2100-01-01T00:00:00+00:00");

        // A complete scan that was slow is recorded, but not a session's first one.
        let note = |before: &str, took: &str| {
            format!("select tasker_core_v1.save_scan_mark('tasker_tasks', {before}, '[1]', clock_timestamp() - interval '{took}', '1 minute')")
        };
        session.run(&note("null", "1 h")).await;
        assert_eq!(session.call("scan_mark('tasker_tasks')").await, Value::Null, "the first one is planned");
        session.run(&note("null", "1 s")).await;
        assert_eq!(session.call("scan_mark('tasker_tasks')").await, Value::Null, "a fast one needs none");
        session.run(&note("null", "1 h")).await;
        assert_eq!(session.call("scan_mark('tasker_tasks')").await, json!([1]));
        session.run(&note("'[1]'", "9 s").replace("'[1]', clock", "'[2]', clock")).await;
        assert_eq!(session.call("scan_mark('tasker_tasks')").await, json!([2]));
    });
}
