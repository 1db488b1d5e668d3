//! Claiming steps: which ones, in which order, what a claim carries, and where the scans start.

use serde_json::{json, Value};

use crate::session::{
    completed, content, ended, held_by, register, request, steps, stop_the_clock, text, token, tokens, Session, NOON,
};
use crate::support::{with, workflow, World};

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
        assert!(first.refusal(&format!("claim_steps({ours}, '{{*}}', 1)")).await.is_serialization_failure());
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
fn claims_are_inserted_for_steps_that_the_caller_has_chosen() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let task = session.create(&one, json!({})).await;
        let process = session.process("*").await;
        let noon = format!("array['{NOON}'::timestamptz]");
        let insert = format!("insert_claims({process}, array[{task}]::bigint[], array[0], {noon})");
        let claims = session.call(&insert).await;
        assert_eq!(steps(claims.as_array().unwrap()), ["s"]);
        assert_eq!(session.call(&format!("insert_claims({process}, '{{}}', '{{}}', '{{}}')")).await, json!([]));
        session.refused("TC005", "insert_claims(4711, '{}', '{}', '{}')").await;
    });
}

/// Makes a session's scans of a table start at marks from now on.
async fn mark(session: &mut Session, table: &str, marks: Value) {
    let mark_text = json!({"marks": marks, "whole_at": 1e12}).to_string();
    session
        .run(&format!("select set_config('tasker_core.scan_' || '{table}'::regclass::oid, '{mark_text}', false)"))
        .await;
}

/// Creates a step of priority 4 on queue b and three on queue a, of priorities 7, 2 and 2; returns the numbers of their
/// ready rows by queue and priority.
async fn create_four(world: &World, session: &mut Session) -> Vec<i64> {
    for (queue, priority) in [("b", 4), ("a", 7), ("a", 2), ("a", 2)] {
        let w = with(workflow(&format!("{queue}{priority}"), &[("s", &[])]), 0, "queue", json!(queue));
        let w = register(world, &with(w, 0, "priority", json!(priority))).await;
        session.create(&w, json!({})).await;
    }
    let rows = session.rows("select seq from tasker_ready_steps order by queue, priority, seq").await;
    rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect()
}

/// The starts of a scan for ready steps, each with the priority at which the next one begins.
fn scan_starts(queues: &[&str], priorities: &[i32], seqs: &[i64], next_priorities: Value) -> Value {
    json!({"queues": queues, "priorities": priorities, "seqs": seqs, "next_priorities": next_priorities})
}

#[test]
fn a_ready_scan_starts_at_the_most_urgent_row_of_each_queue() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let none = json!({"queues": null, "priorities": null, "seqs": null, "next_priorities": null});
        for queues in ["{*}", "{a}", "{}"] {
            assert_eq!(session.call(&format!("ready_scan_starts('{queues}', false)")).await, none);
        }
        let seqs = create_four(&world, &mut session).await;
        for (queues, expected) in [
            ("{b}", scan_starts(&["b"], &[4], &[seqs[3]], json!([null]))),
            ("{*}", scan_starts(&["*"], &[2], &[seqs[0]], json!([null]))),
            ("{b,a}", scan_starts(&["a", "b"], &[2, 4], &[seqs[0], seqs[3]], json!([null, null]))),
        ] {
            assert_eq!(session.call(&format!("ready_scan_starts('{queues}', false)")).await, expected, "{queues}");
        }

        session.run("update tasker_ready_steps set dispatched = true where priority = 2").await;
        let (worker, dispatcher) = (
            scan_starts(&["*"], &[4], &[seqs[3]], json!([null])),
            scan_starts(&["*"], &[2], &[seqs[0]], json!([null])),
        );
        assert_eq!(session.call("ready_scan_starts('{*}', false)").await, worker);
        assert_eq!(session.call("ready_scan_starts('{*}', true)").await, dispatcher);
    });
}

#[test]
fn marks_divide_the_scan_of_a_queue_into_stretches() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let seqs = create_four(&world, &mut session).await;
        let at = |queue: &str, priority: i32, seq: i64| json!({"queue": queue, "priority": priority, "seq": seq - 1});
        for queue in ["a", "*"] {
            mark(&mut session, "tasker_ready_steps", json!([at(queue, 2, seqs[0]), at(queue, 7, seqs[2])])).await;
            assert_eq!(
                session.call(&format!("ready_scan_starts('{{{queue}}}', false)")).await,
                scan_starts(&[queue, queue], &[2, 7], &[seqs[0], seqs[2]], json!([7, null]))
            );
        }
        mark(&mut session, "tasker_ready_steps", json!([at("a", 2, seqs[1])])).await;
        assert_eq!(
            session.call("ready_scan_starts('{a}', false)").await,
            scan_starts(&["a"], &[2], &[seqs[1]], json!([null])),
            "the scan trusts the mark"
        );

        // Queues and priorities without a mark are found all the same.
        mark(&mut session, "tasker_ready_steps", json!([at("*", 2, seqs[0]), at("*", 3, seqs[0])])).await;
        let process = session.process("*").await;
        let claims = session.claim(process, "*", 10).await;
        let found: Vec<String> = claims.iter().map(|claim| text(&claim["workflow"])).collect();
        assert_eq!(found, ["a2", "a2", "b4", "a7"]);
    });
}

#[test]
fn a_claim_scan_starts_at_the_first_token_from_its_mark_on() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        session.create_all(&vec![request(&one, json!({})); 4]).await;
        let process = session.process("*").await;
        let mut given: Vec<i64> = session.claim(process, "*", 4).await.iter().map(token).collect();
        given.sort_unstable();
        assert_eq!(session.call("claim_scan_start()").await, given[0]);
        mark(&mut session, "tasker_claimed_steps", json!({"token": given[0] + 1})).await;
        assert_eq!(session.call("claim_scan_start()").await, given[1]);
        mark(&mut session, "tasker_claimed_steps", json!({"token": given[3] + 1})).await;
        let next = session.call("claim_scan_start()").await.as_i64().unwrap();
        assert_eq!(next, ((given[3] >> 20) + 1) << 20, "the least token that may be given next");
    });
}

#[test]
fn a_waiting_scan_starts_at_the_first_step_but_never_after_now() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let now = session.call("waiting_scan_start()").await;
        assert!(now.is_string() && session.count("tasker_waiting_steps").await == 0, "now, as no step waits");
        let late = register(&world, &workflow("late", &[("s", &[])])).await;
        session.create(&late, json!({"wait_until": "2100-01-01T00:00:00Z"})).await;
        let start = text(&session.call("waiting_scan_start()").await);
        assert!(start.as_str() < "2100", "a step may be inserted before it at any time");
        session.at("80 years").await;
        assert_eq!(session.call("waiting_scan_start()").await, "2100-01-01T00:00:00+00:00");
    });
}

#[test]
fn only_a_slow_scan_after_the_first_leaves_a_mark() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let save = |before: &str, mark: &str, took: &str| {
            format!(
                "select tasker_core_v1.save_scan_mark('tasker_tasks', {before}, '{mark}', \
                 clock_timestamp() - interval '{took}', '1 minute')"
            )
        };
        session.run(&save("null", "[1]", "1 h")).await;
        assert_eq!(session.call("scan_mark('tasker_tasks')").await, Value::Null, "a session's first scan is planned");
        session.run(&save("null", "[1]", "1 s")).await;
        assert_eq!(session.call("scan_mark('tasker_tasks')").await, Value::Null, "a fast one needs none");
        session.run(&save("null", "[1]", "1 h")).await;
        assert_eq!(session.call("scan_mark('tasker_tasks')").await, json!([1]));
        session.run(&save("'[1]'", "[2]", "9 s")).await;
        assert_eq!(session.call("scan_mark('tasker_tasks')").await, json!([2]));
    });
}
