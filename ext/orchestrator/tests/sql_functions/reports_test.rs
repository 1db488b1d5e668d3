//! Reports on one task: results, levels, attempts, status and readiness.

use std::collections::BTreeSet;

use serde_json::{json, Value};

use crate::session::{completed, failed, held_by, register, stop_the_clock, text, Session};
use crate::support::{with, workflow, World};

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
                    let next = session.claim_one(process).await;
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
