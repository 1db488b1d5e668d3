//! Reports on one task: results, levels, attempts, status and readiness.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{json, Value};
use tasker_orchestrator::Workflow;

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
fn results_are_returned_in_parts_of_the_requested_size() {
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
fn a_steps_level_is_its_longest_path_from_a_root() {
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
fn a_running_attempt_is_reported_without_an_end() {
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

/// Numbers of a task's steps by state.
#[derive(Default)]
struct Counts {
    completed: u32,
    failed: u32,
    ready: u32,
    in_progress: u32,
    waiting: u32,
}

/// A task of three roots and their common child, each tried twice with a delay of 10 s.
struct Observed {
    session: Session,
    process: i64,
    workflow: Workflow,
    task: i64,
}

impl Observed {
    async fn create(world: &World) -> Self {
        stop_the_clock(world).await;
        let mut session = Session::open(world).await;
        let process = session.process("*").await;
        let retry = json!({"max_attempts": 2, "backoff": "fixed", "base": "10s", "jitter": 0});
        let mut definition = workflow("four", &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a", "b", "c"])]);
        for step in 0..4 {
            definition = with(definition, step, "retry", retry.clone());
        }
        let workflow = register(world, &definition).await;
        let task = session.create(&workflow, json!({})).await;
        Self { session, process, workflow, task }
    }

    async fn claim(&mut self, limit: usize) -> Vec<Value> {
        self.session.claim(self.process, "*", limit).await
    }

    async fn finish(&mut self, outcome: Value) {
        self.session.finish(self.process, &[outcome], 0).await;
    }

    /// Verifies the report on the task; `next` is when its next step is due.
    async fn assert(&mut self, state: &str, status: &str, counts: Counts, next: Value) {
        let task = self.task;
        let rows = self
            .session
            .rows(&format!(
                "select task_id, state, execution_status, total_steps, completed_steps, failed_steps, ready_steps, \
                 in_progress_steps, waiting_steps, next_run_at from tasker_core_v1.task_execution_context({task})"
            ))
            .await;
        let Counts { completed, failed, ready, in_progress, waiting } = counts;
        let expected = json!({
            "task_id": task, "state": state, "execution_status": status, "total_steps": 4, "completed_steps": completed,
            "failed_steps": failed, "ready_steps": ready, "in_progress_steps": in_progress, "waiting_steps": waiting,
            "next_run_at": next});
        assert_eq!(rows, [expected]);
    }
}

#[test]
fn a_tasks_status_is_that_of_its_worst_active_step() {
    World::run(|world| async move {
        let mut task = Observed::create(&world).await;
        let due = json!("2030-01-01T12:00:10+00:00");
        let counts = Counts { ready: 3, ..Counts::default() };
        task.assert("pending", "has_ready_steps", counts, Value::Null).await;
        let claims = task.claim(2).await;
        let counts = Counts { ready: 1, in_progress: 2, ..Counts::default() };
        task.assert("in_progress", "has_ready_steps", counts, Value::Null).await;
        let third = task.claim(1).await;
        let counts = Counts { in_progress: 3, ..Counts::default() };
        task.assert("in_progress", "processing", counts, Value::Null).await;
        task.finish(failed(&claims[0])).await;
        let counts = Counts { in_progress: 2, waiting: 1, ..Counts::default() };
        task.assert("in_progress", "processing", counts, due.clone()).await;
        task.finish(completed(&claims[1])).await;
        task.finish(failed(&third[0])).await;
        let counts = Counts { completed: 1, waiting: 2, ..Counts::default() };
        task.assert("in_progress", "waiting_for_retry", counts, due.clone()).await;
        let step = format!(
            "select state, attempts, max_attempts, pending_parents, run_at, waiting_reason, last_error->>'message' as error \
             from tasker_core_v1.step_states(array[{}]) where name = 'a'",
            task.task
        );
        assert_eq!(
            json!(task.session.rows(&step).await),
            json!([{"state": "waiting", "attempts": 1, "max_attempts": 2, "pending_parents": 0, "run_at": due,
                    "waiting_reason": "retry", "error": "no"}])
        );
    });
}

#[test]
fn a_task_with_a_failed_step_is_blocked_until_it_is_resolved() {
    World::run(|world| async move {
        let mut task = Observed::create(&world).await;
        let claims = task.claim(3).await;
        for outcome in [failed(&claims[0]), completed(&claims[1]), failed(&claims[2])] {
            task.finish(outcome).await;
        }
        task.session.at("10 seconds").await;
        task.session.call("sweep(null, 10)").await;
        let again = task.claim(1).await;
        task.finish(failed(&again[0])).await;
        let counts = Counts { completed: 1, failed: 1, ready: 1, ..Counts::default() };
        task.assert("in_progress", "blocked_by_failures", counts, Value::Null).await;
        let again = task.claim(1).await;
        let claimed_by = format!(
            "select name, claimed_by from tasker_core_v1.step_states(array[{}]) where claimed_by is not null",
            task.task
        );
        let claimed_by = task.session.rows(&claimed_by).await;
        assert_eq!(json!(claimed_by), json!([{"name": again[0]["step"], "claimed_by": task.process}]));
        task.finish(completed(&again[0])).await;
        let counts = || Counts { completed: 2, failed: 1, ..Counts::default() };
        task.assert("error", "blocked_by_failures", counts(), Value::Null).await;
        let resolve = format!("resolve_task({}, 'x', 'y')", task.task);
        task.session.call(&resolve).await;
        task.assert("resolved_manually", "resolved_manually", counts(), Value::Null).await;
    });
}

#[test]
fn a_complete_or_cancelled_task_has_the_status_of_its_end() {
    World::run(|world| async move {
        let mut task = Observed::create(&world).await;
        task.session.complete_all(task.process).await;
        let counts = Counts { completed: 4, ..Counts::default() };
        task.assert("complete", "all_complete", counts, Value::Null).await;
        let whole = task.task;
        let cancelled = task.session.create(&task.workflow, json!({})).await;
        task.session.call(&format!("cancel_task({cancelled}, 'x', 'y')")).await;
        let context = format!("tasker_core_v1.task_execution_context({cancelled})");
        let row = task.session.rows(&format!("select state, execution_status from {context}")).await;
        assert_eq!(json!(row), json!([{"state": "cancelled", "execution_status": "cancelled"}]));
        let steps = format!("tasker_core_v1.step_states(array[{whole}, {cancelled}, {whole}, 4711])");
        assert_eq!(task.session.count(&steps).await, 8, "the steps of each task once");
    });
}

#[test]
fn reports_on_an_unknown_task_are_empty() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        for report in ["task_execution_context(4711)", "step_states('{}')", "step_readiness(4711)"] {
            let rows = session.rows(&format!("select * from tasker_core_v1.{report}")).await;
            assert_eq!(rows, Vec::<Value>::new(), "{report}");
        }
    });
}

/// Layers of a workflow's steps, and the columns of each.
const LAYERS: usize = 10;
const COLUMNS: usize = 6;

/// Each step depends on some of the layer before, and some on one four layers above.
fn parents(layer: usize, column: usize) -> BTreeSet<String> {
    let in_layer_before = |parent: &usize| layer > 0 && (column * 7 + parent * 5 + layer).is_multiple_of(3);
    let mut parents: BTreeSet<String> =
        (0..COLUMNS).filter(in_layer_before).map(|parent| format!("s{}_{parent}", layer - 1)).collect();
    if layer > 3 && (column + layer).is_multiple_of(4) {
        parents.insert(format!("s{}_{column}", layer - 4));
    }
    parents
}

/// A task of a layered workflow, and which of its steps have ended.
struct Layered {
    graph: BTreeMap<String, BTreeSet<String>>,
    session: Session,
    process: i64,
    task: i64,
    done: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Layered {
    async fn create(world: &World) -> Self {
        let places = (0..LAYERS).flat_map(|layer| (0..COLUMNS).map(move |column| (layer, column)));
        let graph: BTreeMap<String, BTreeSet<String>> =
            places.map(|(layer, column)| (format!("s{layer}_{column}"), parents(layer, column))).collect();
        assert!(graph.values().any(|parents| parents.len() > 2));
        let steps: Vec<Value> = graph
            .iter()
            .map(|(name, parents)| {
                json!({"name": name, "handler": "h", "depends_on": parents,
                       "retry": {"max_attempts": 2, "backoff": "none", "jitter": 0}})
            })
            .collect();
        let layers = register(world, &json!({"name": "layers", "steps": steps})).await;
        let mut session = Session::open(world).await;
        let process = session.process("*").await;
        let task = session.create(&layers, json!({})).await;
        Self { graph, session, process, task, done: BTreeSet::new(), failed: BTreeSet::new() }
    }

    /// Compares the report on each step, and its state, with what the graph says.
    async fn check(&mut self) {
        let report = format!("select * from tasker_core_v1.step_readiness({})", self.task);
        let rows = self.session.rows(&report).await;
        assert_eq!(rows.len(), LAYERS * COLUMNS);
        let states = self.session.states(self.task).await;
        for (step, parents) in &self.graph {
            let row = rows.iter().find(|row| row["name"] == **step).unwrap();
            let missing: BTreeSet<String> = parents.difference(&self.done).cloned().collect();
            let blocked_by: BTreeSet<String> = row["blocked_by"].as_array().unwrap().iter().map(text).collect();
            assert_eq!(blocked_by, missing, "{step}");
            assert_eq!(row["parents"], parents.len());
            assert_eq!(row["parents_done"], parents.len() - missing.len(), "{step}");
            assert_eq!(row["dependencies_satisfied"], missing.is_empty(), "{step}");
            let (state, attempts_left) = match (self.done.contains(step), self.failed.contains(step)) {
                (true, _) => ("complete", 1),
                (_, true) => ("error", 0),
                _ if missing.is_empty() => ("ready", 2),
                _ => ("pending", 2),
            };
            assert_eq!(row["may_run"], state == "ready", "{step}");
            assert_eq!(row["attempts_left"], attempts_left, "{step}");
            assert_eq!(states[step], state, "{step}");
        }
    }

    async fn complete(&mut self, claim: &Value) {
        self.session.finish(self.process, &[completed(claim)], 0).await;
        self.done.insert(text(&claim["step"]));
    }

    /// Fails a claimed step twice, and completes the steps that are claimed before its second attempt.
    async fn fail_for_good(&mut self, claim: &Value) {
        self.session.finish(self.process, &[failed(claim)], 0).await;
        self.session.call("sweep(null, 10)").await;
        let second = loop {
            let next = self.session.claim_one(self.process).await;
            if next["step"] == claim["step"] {
                break next;
            }
            self.complete(&next).await;
        };
        self.session.finish(self.process, &[failed(&second)], 0).await;
        self.failed.insert(text(&claim["step"]));
    }
}

#[test]
fn recomputed_readiness_matches_every_intermediate_state() {
    World::run(|world| async move {
        let mut task = Layered::create(&world).await;
        // One step at a time; one of them fails and blocks those below it.
        let mut checks = 0;
        loop {
            task.check().await;
            checks += 1;
            let claims = task.session.claim(task.process, "*", 1).await;
            match claims.first() {
                None => break,
                Some(claim) if claim["step"] == "s4_1" => task.fail_for_good(claim).await,
                Some(claim) => task.complete(claim).await,
            }
        }
        assert!(checks > 20, "{checks} checks");
        let Layered { mut session, process, task, done, .. } = task;
        assert_eq!(session.task_state(task).await, "error");
        assert!(done.len() > 24 && done.len() < 59, "{} are done", done.len());

        // An operator resolves the failed step, and the rest follows.
        let position = session.position(task, "s4_1").await;
        session.call(&format!("resolve_step({task}, {position}, 'x', 'y')")).await;
        session.complete_all(process).await;
        assert_eq!(session.task_state(task).await, "complete");
        let unfinished = format!("tasker_core_v1.step_readiness({task}) where may_run or parents_done < parents");
        assert_eq!(session.count(&unfinished).await, 0);
    });
}
