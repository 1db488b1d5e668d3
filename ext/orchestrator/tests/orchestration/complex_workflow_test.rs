//! The scenarios with handlers written in Rust: whole workflows without Ruby.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{self, handlers, with, workflow, World, DIAMOND};
use async_trait::async_trait;
use num_bigint::BigInt;
use serde_json::{json, Number, Value};
use sqlx::Connection;
use tasker_orchestrator::database::functions::Demand;
use tasker_orchestrator::{EventPublisher, HandlerError, HandlerRegistry, Outcome, StepContext, StepHandler, Task};

fn number_of(value: &Value) -> BigInt {
    value["n"].to_string().parse().unwrap()
}

fn result_of(number: &BigInt) -> Value {
    json!({"n": number.to_string().parse::<Number>().unwrap()})
}

/// Multiplies the results of the parents, or takes the input, and squares.
fn square(context: &StepContext) -> Result<Value, HandlerError> {
    let parents = &context.step().dependencies;
    let mut product = if parents.is_empty() { number_of(&context.input()?) } else { BigInt::from(1) };
    for parent in parents {
        product *= number_of(&context.result(parent)?);
    }
    Ok(result_of(&product.pow(2)))
}

fn squares(names: &[&'static str]) -> HandlerRegistry {
    handlers(names.iter().map(|name| (*name, square as fn(&StepContext) -> _)))
}

fn six() -> Value {
    json!({"n": 6})
}

fn power_of_six(exponent: u32) -> Value {
    result_of(&BigInt::from(6).pow(exponent))
}

const LINE: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])];

#[test]
fn s1_four_steps_in_a_line_pass_through_every_state() {
    World::run(|world| async move {
        let task = world.create_task(&workflow("line", LINE), &six()).await.id;
        let process = world.process().await;
        let queues = vec!["*".to_owned()];
        let mut expected: Vec<String> = ["ready", "pending", "pending", "pending"].map(str::to_owned).to_vec();
        let states = || async { world.steps(task).await.into_iter().map(|step| step.state).collect::<Vec<_>>() };

        for (position, exponent) in [2, 4, 8, 16].into_iter().enumerate() {
            assert_eq!(states().await, expected);
            let claim = world.functions.claim_steps(process, &queues, 10, 1 << 20).await.unwrap().claims.remove(0);
            expected[position] = "in_progress".to_owned();
            assert_eq!(states().await, expected);
            let result = support::raw(&power_of_six(exponent));
            let outcome = Outcome::Completed { token: claim.token, result };
            let attempt =
                tasker_orchestrator::outcome::EndedAttempt::new(claim.key(), outcome, Duration::ZERO, Duration::ZERO)
                    .unwrap();
            world.functions.finish_steps(process, &[attempt], Demand::default()).await.unwrap();
            expected[position] = "complete".to_owned();
            if let Some(next) = expected.get_mut(position + 1) {
                *next = "ready".to_owned();
            }
        }
        assert_eq!(states().await, expected);
        assert_eq!(world.ended(task).await, "complete");
    });
}

#[test]
fn s1_four_squarings_in_a_line_give_the_sixteenth_power() {
    World::run(|world| async move {
        let worker = world.worker(&squares(&["a", "b", "c", "d"]), &json!({})).await;
        let task = world.create_task(&workflow("line", LINE), &six()).await.id;
        assert_eq!(world.ended(task).await, "complete");
        for (name, number) in [("a", "36"), ("b", "1296"), ("c", "1679616"), ("d", "2821109907456")] {
            assert_eq!(world.result(task, name).await["n"].to_string(), number);
        }
        assert!(world.broken_invariants().await.is_empty());
        worker.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(world.number("select count(*) from tasker_processes").await, 0);
    });
}

/// Waits until two handlers are in it at once, so that only overlapping branches get through.
struct Meeting(Arc<tokio::sync::Barrier>);

#[async_trait]
impl StepHandler for Meeting {
    async fn call(&self, context: &StepContext) -> Result<Value, HandlerError> {
        let met = tokio::time::timeout(Duration::from_secs(20), self.0.wait()).await;
        met.map_err(|_| HandlerError::permanent("the other branch did not run at the same time"))?;
        square(context)
    }
}

#[test]
fn s2_branches_of_a_diamond_overlap_before_the_join_starts() {
    World::run(|world| async move {
        let mut registry = squares(&["a", "d"]);
        let barrier = Arc::new(tokio::sync::Barrier::new(2));
        registry.register("b", Meeting(barrier.clone())).register("c", Meeting(barrier));
        let worker = world.worker(&registry, &json!({})).await;
        let task = world.create_task(&workflow("diamond", DIAMOND), &six()).await.id;
        assert_eq!(world.ended(task).await, "complete");
        assert_eq!(world.result(task, "d").await, power_of_six(16));
        let sql = "select count(*) from tasker_step_attempts d join tasker_step_attempts p using (task_id) where d.position = 3 \
                   and p.position in (1, 2) and d.started_at < p.finished_at";
        assert_eq!(world.number(sql).await, 0, "the join started before a branch had finished");
        let sql = "select count(*) from tasker_step_attempts b join tasker_step_attempts c using (task_id) where b.position = 1 \
                   and c.position = 2 and b.started_at < c.finished_at and c.started_at < b.finished_at";
        assert_eq!(world.number(sql).await, 1, "the branches ran at the same time");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s3_a_tree_keeps_big_integers_exact() {
    World::run(|world| async move {
        let tree: &[(&str, &[&str])] = &[
            ("root", &[]),
            ("left", &["root"]),
            ("right", &["root"]),
            ("l1", &["left"]),
            ("l2", &["left"]),
            ("r1", &["right"]),
            ("r2", &["right"]),
            ("join", &["l1", "l2", "r1", "r2"]),
        ];
        let names: Vec<&'static str> = tree.iter().map(|(name, _)| *name).collect();
        let worker = world.worker(&squares(&names), &json!({})).await;
        let task = world.create_task(&workflow("tree", tree), &six()).await.id;
        assert_eq!(world.ended(task).await, "complete");
        assert_eq!(world.result(task, "join").await, power_of_six(64));
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s4_a_mixed_graph_gives_the_sixty_fourth_power() {
    World::run(|world| async move {
        let mixed: &[(&str, &[&str])] = &[
            ("init", &[]),
            ("left", &["init"]),
            ("right", &["init"]),
            ("validate", &["left", "right"]),
            ("transform", &["left"]),
            ("analyze", &["right"]),
            ("finalize", &["validate", "transform", "analyze"]),
        ];
        let names: Vec<&'static str> = mixed.iter().map(|(name, _)| *name).collect();
        let worker = world.worker(&squares(&names), &json!({})).await;
        let task = world.create_task(&workflow("mixed", mixed), &six()).await.id;
        assert_eq!(world.ended(task).await, "complete");
        assert_eq!(world.result(task, "finalize").await, power_of_six(64));
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

/// Fails n times, then squares.
fn flaky(failures: u32) -> impl Fn(&StepContext) -> Result<Value, HandlerError> {
    move |context| match context.step().attempt {
        attempt if attempt <= failures => Err(HandlerError::retryable(format!("failure {attempt}"))),
        _ => square(context),
    }
}

#[test]
fn s5_a_step_that_fails_twice_is_retried_by_its_policy() {
    World::run(|world| async move {
        let mut registry = squares(&["a", "c", "d"]);
        registry.register("b", support::Does(flaky(2)));
        let worker = world.worker(&registry, &json!({})).await;
        let retry = json!({"max_attempts": 3, "backoff": "exponential", "base": 60, "factor": 2, "jitter": 0});
        let task = world.create_task(&with(workflow("line", LINE), 1, "retry", retry), &six()).await.id;

        world.step_is(task, "b", "waiting").await;
        assert_eq!(world.status(task).await, "waiting_for_retry");
        assert_eq!(world.sweep_after("59 seconds").await, 0, "the first delay is a minute");
        assert_eq!(world.sweep_after("61 seconds").await, 1);
        world.eventually(|| async { (world.steps(task).await[1].attempts == 2).then_some(()) }).await;
        world.step_is(task, "b", "waiting").await;
        assert_eq!(world.outline(task).await[2], ("c".to_owned(), "pending".to_owned(), 0));
        assert_eq!(world.sweep_after("119 seconds").await, 0, "the second delay is twice as long");
        assert_eq!(world.sweep_after("121 seconds").await, 1);
        assert_eq!(world.ended(task).await, "complete");
        let attempts: Vec<i32> = world.outline(task).await.into_iter().map(|(_, _, attempts)| attempts).collect();
        assert_eq!(attempts, vec![1, 3, 1, 1]);
        assert!(world.broken_invariants().await.is_empty());
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

fn at_once(max_attempts: u32) -> Value {
    json!({"max_attempts": max_attempts, "backoff": "none"})
}

#[test]
fn s6_a_step_that_fails_three_times_of_three_blocks_its_task() {
    World::run(|world| async move {
        let mut registry = squares(&["a", "c", "d"]);
        registry.register("b", support::Does(flaky(3)));
        let worker = world.worker(&registry, &json!({})).await;
        let task = world.create_task(&with(workflow("line", LINE), 1, "retry", at_once(3)), &six()).await.id;
        assert_eq!(world.ended(task).await, "error");
        let outline = world.outline(task).await;
        let expected = [("a", "complete", 1), ("b", "error", 3), ("c", "pending", 0), ("d", "pending", 0)];
        assert_eq!(outline, expected.map(|(name, state, attempts)| (name.to_owned(), state.to_owned(), attempts)));
        assert_eq!(world.status(task).await, "blocked_by_failures");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s7_a_join_never_runs_while_a_branch_has_failed() {
    for (failing, completed) in [(&["b", "c"][..], 1), (&["b"][..], 2)] {
        World::run(|world| async move {
            let mut registry = squares(&["a", "b", "c", "d"]);
            for name in failing {
                registry.register(*name, support::Does(flaky(9)));
            }
            let worker = world.worker(&registry, &json!({})).await;
            let definition = with(with(workflow("diamond", DIAMOND), 1, "retry", at_once(2)), 2, "retry", at_once(2));
            let task = world.create_task(&definition, &six()).await.id;
            assert_eq!(world.ended(task).await, "error");
            let steps = world.steps(task).await;
            assert_eq!(steps.iter().filter(|step| step.state == "complete").count(), completed);
            assert_eq!((steps[3].state.as_str(), steps[3].attempts), ("pending", 0));
            assert_eq!(world.status(task).await, "blocked_by_failures");
            assert!(world.broken_invariants().await.is_empty());
            worker.stop(Duration::from_secs(5)).await.unwrap();
        });
    }
}

#[test]
fn s8_a_permanent_error_ends_the_step_and_keeps_its_code() {
    World::run(|world| async move {
        let declined = |_: &StepContext| {
            Err(HandlerError::Permanent { message: "declined".to_owned(), code: Some("card_declined".to_owned()) })
        };
        let worker = world.worker(&handlers([("only", declined)]), &json!({})).await;
        let task = world.create_task(&workflow("charge", &[("only", &[])]), &json!({})).await.id;
        assert_eq!(world.ended(task).await, "error");
        let only = world.steps(task).await.remove(0);
        assert_eq!((only.state.as_str(), only.attempts), ("error", 1));
        assert_eq!(
            (only.error["code"].as_str(), only.error["message"].as_str()),
            (Some("card_declined"), Some("declined"))
        );
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s10_max_attempts_means_exactly_that_many_executions() {
    let cases =
        [(json!({"retry": at_once(1)}), 1), (json!({"retry": at_once(3)}), 3), (json!({"retryable": false}), 1)];
    World::run(|world| async move {
        let worker = world.worker(&handlers([("only", flaky(99))]), &json!({})).await;
        for (fields, executions) in cases {
            let mut definition = workflow("only", &[("only", &[])]);
            for (key, value) in fields.as_object().unwrap() {
                definition["steps"][0][key] = value.clone();
            }
            let task = world.create_task(&definition, &json!({})).await.id;
            assert_eq!(world.ended(task).await, "error");
            assert_eq!(world.steps(task).await[0].attempts, executions, "{fields}");
        }
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s11_a_requested_delay_overrides_the_policy() {
    World::run(|world| async move {
        let limited = |context: &StepContext| match context.step().attempt {
            1 => Err(HandlerError::Retryable {
                message: "too many requests".to_owned(),
                retry_after: Some(Duration::from_secs(30)),
            }),
            _ => Ok(json!({})),
        };
        let worker = world.worker(&handlers([("only", limited)]), &json!({})).await;
        let task =
            world.create_task(&with(workflow("only", &[("only", &[])]), 0, "retry", at_once(3)), &json!({})).await.id;
        world.step_is(task, "only", "waiting").await;
        assert_eq!(world.sweep_after("29 seconds").await, 0);
        assert_eq!(world.sweep_after("31 seconds").await, 1);
        assert_eq!(world.ended(task).await, "complete");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s14_the_step_of_a_dead_process_runs_again_elsewhere() {
    World::run(|world| async move {
        let task =
            world.create_task(&with(workflow("only", &[("only", &[])]), 0, "retry", at_once(3)), &six()).await.id;
        let dead = world.process().await;
        world.functions.claim_steps(dead, &["*".to_owned()], 1, 1 << 20).await.unwrap();
        world.sweep_after("19 seconds").await;
        assert_eq!(world.steps(task).await[0].state, "in_progress", "its silence is not long enough");
        world.sweep_after("21 seconds").await;

        let worker = world.worker(&squares(&["only"]), &json!({})).await;
        assert_eq!(world.ended(task).await, "complete");
        let sql = "select string_agg(outcome, ' ' order by attempt) from tasker_step_attempts where task_id = $1";
        assert_eq!(world.text(sql, task).await, "lost completed");
        assert_eq!(world.steps(task).await[0].attempts, 2);
        assert!(world.broken_invariants().await.is_empty());
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s15_a_late_worker_finishes_nothing_and_is_notified() {
    World::run(|world| async move {
        let overrides = json!({"leases": {"process_timeout": "20s"}, "execution": {"threads": 1}});
        let late = world.orchestrator(&overrides).await;
        let task =
            world.create_task(&with(workflow("only", &[("only", &[])]), 0, "retry", at_once(3)), &six()).await.id;
        let claim = late.next_step().await.unwrap();
        // Its process is silent, as if it were paused: another one gives it up, takes the step and finishes it.
        assert_eq!(world.sweep_after("21 seconds").await, 0);
        assert_eq!(world.sweep_after("22 seconds").await, 1, "the lost attempt's retry is due");
        let other = world.process().await;
        let theirs = world.functions.claim_steps(other, &["*".to_owned()], 1, 1 << 20).await.unwrap().claims.remove(0);
        assert_ne!(theirs.token, claim.token);

        let result = support::raw(&json!({"from": "the late one"}));
        late.finish(Outcome::Completed { token: claim.token, result }).await.unwrap();
        world.eventually(|| async { (late.health().stale == 1).then_some(()) }).await;
        let step = world.steps(task).await.remove(0);
        assert_eq!((step.state.as_str(), step.result), ("in_progress", Value::Null));
        assert!(world.broken_invariants().await.is_empty());
        late.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s16_two_workers_run_a_thousand_diamonds_each_step_once() {
    World::run(|world| async move {
        let registry = squares(&["a", "b", "c", "d"]);
        let one = world.worker(&registry, &json!({})).await;
        let other = world.worker(&registry, &json!({})).await;
        world.create_tasks(&workflow("diamond", DIAMOND), &vec![six(); 1000]).await;
        world
            .eventually(|| async {
                let left = world.number("select count(*) from tasker_tasks where state = 'pending'").await;
                (left == 0).then_some(())
            })
            .await;
        assert_eq!(world.number("select count(*) from tasker_tasks where state = 'complete'").await, 1000);
        assert_eq!(world.number("select count(*) from tasker_step_attempts where outcome = 'completed'").await, 4000);
        assert_eq!(world.number("select count(*) from tasker_step_attempts").await, 4000);
        assert!(one.health().finished > 0 && other.health().finished > 0, "both did work");
        assert!(world.broken_invariants().await.is_empty());
        one.stop(Duration::from_secs(5)).await.unwrap();
        other.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s20_a_thousand_branches_join_once_and_a_long_chain_ends() {
    World::run(|world| async move {
        let ran = Arc::new(Mutex::new(Vec::new()));
        let noted = ran.clone();
        let note = move |context: &StepContext| {
            noted.lock().unwrap().push(context.step().step.clone());
            Ok(json!({}))
        };
        let worker = world.worker(&handlers([("note", note)]), &json!({})).await;

        let step = |name: &str, parents: &[String]| json!({"name": name, "handler": "note", "depends_on": parents});
        let branches: Vec<String> = (0..1000).map(|number| format!("branch_{number}")).collect();
        let mut wide = vec![step("root", &[])];
        wide.extend(branches.iter().map(|name| step(name, &["root".to_owned()])));
        wide.push(step("join", &branches));
        let task = world.create_task(&json!({"name": "wide", "steps": wide}), &json!({})).await.id;
        assert_eq!(world.ended(task).await, "complete");
        assert_eq!(ran.lock().unwrap().iter().filter(|name| *name == "join").count(), 1);
        assert_eq!(ran.lock().unwrap().len(), 1002);

        let deep: Vec<Value> = (0..500_usize)
            .map(|number| {
                let parents: Vec<String> =
                    number.checked_sub(1).map(|parent| format!("link_{parent}")).into_iter().collect();
                step(&format!("link_{number}"), &parents)
            })
            .collect();
        let task = world.create_task(&json!({"name": "deep", "steps": deep}), &json!({})).await.id;
        assert_eq!(world.ended(task).await, "complete");
        assert!(world.broken_invariants().await.is_empty());
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_failed_step_blocks_only_its_descendants() {
    // Two columns of four, crossed in the middle; the left one fails in its second row.
    let graph: &[(&str, &[&str])] = &[
        ("l1", &[]),
        ("r1", &[]),
        ("l2", &["l1"]),
        ("r2", &["r1"]),
        ("l3", &["l2"]),
        ("x3", &["l2", "r2"]),
        ("r3", &["r2"]),
        ("l4", &["l3"]),
        ("x4", &["x3", "r3"]),
        ("r4", &["r3"]),
    ];
    World::run(|world| async move {
        let names: Vec<&'static str> = graph.iter().map(|(name, _)| *name).collect();
        let mut registry = squares(&names);
        registry.register("l2", support::Does(|_: &StepContext| Err(HandlerError::permanent("declined"))));
        let worker = world.worker(&registry, &json!({})).await;
        let task = world.create_task(&workflow("crossed", graph), &six()).await.id;
        assert_eq!(world.ended(task).await, "error");
        let stopped = ["l3", "x3", "l4", "x4"];
        for (name, state, attempts) in world.outline(task).await {
            let expected = match name.as_str() {
                "l2" => ("error", 1),
                name if stopped.contains(&name) => ("pending", 0),
                _ => ("complete", 1),
            };
            assert_eq!((state.as_str(), attempts), expected, "{name}");
        }
        assert_eq!(world.status(task).await, "blocked_by_failures");
        let blocked =
            "select string_agg(name || ' by ' || array_to_string(blocked_by, ' and '), ', ' order by position) from \
                       tasker_core_v1.step_readiness($1) where stored_state = 'pending'";
        assert_eq!(world.text(blocked, task).await, "l3 by l2, x3 by l2, l4 by l3, x4 by x3");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn every_backoff_strategy_waits_by_its_formula() {
    // Delays in seconds after the first, second, third and fourth failure.
    let cases = [
        (json!({"backoff": "none"}), [0, 0, 0, 0]),
        (json!({"backoff": "fixed", "base": 20}), [20, 20, 20, 20]),
        (json!({"backoff": "linear", "base": 20}), [20, 40, 60, 80]),
        (json!({"backoff": "exponential", "base": 10, "factor": 3}), [10, 30, 90, 270]),
        (json!({"backoff": "exponential", "base": 10, "factor": 3, "cap": 60}), [10, 30, 60, 60]),
    ];
    World::run(|world| async move {
        let queues = vec!["*".to_owned()];
        for (mut retry, delays) in cases {
            retry["max_attempts"] = json!(5);
            retry["jitter"] = json!(0);
            let definition = with(workflow("only", &[("only", &[])]), 0, "retry", retry.clone());
            let task = world.create_task(&definition, &six()).await.id;
            for delay in delays {
                // The sweep of a moved clock gives up the one before.
                let process = world.process().await;
                let claim = world.functions.claim_steps(process, &queues, 1, 1 << 20).await.unwrap().claims.remove(0);
                let error = tasker_orchestrator::outcome::AttemptError {
                    class: "Failure".to_owned(),
                    message: "failed".to_owned(),
                    code: None,
                    backtrace: Vec::new(),
                };
                let outcome = Outcome::Failed { token: claim.token, error, retryable: true, retry_after: None };
                let attempt = tasker_orchestrator::outcome::EndedAttempt::new(
                    claim.key(),
                    outcome,
                    Duration::ZERO,
                    Duration::ZERO,
                )
                .unwrap();
                world.functions.finish_steps(process, &[attempt], Demand::default()).await.unwrap();
                let waits = "select extract(epoch from w.run_at - a.latest)::text from tasker_waiting_steps w cross join (select \
                             max(claimed_at) as latest from tasker_step_attempts where task_id = $1) a where w.task_id = $1";
                let waits: f64 = world.text(waits, task).await.parse().unwrap();
                let delay = f64::from(delay);
                assert!(waits >= delay && waits < delay + 10.0, "{retry}: {waits} s, and {delay} s are due");
                if delay > 10.0 {
                    assert_eq!(world.sweep_after(&format!("{} seconds", delay - 10.0)).await, 0, "{retry}: too early");
                }
                assert_eq!(world.sweep_after(&format!("{} seconds", delay + 0.001)).await, 1, "{retry}: due");
            }
            world.functions.cancel_task(task, "seen enough", "test").await.unwrap();
        }
    });
}

#[test]
fn s9_a_failure_outranks_ready_steps_which_still_run() {
    World::run(|world| async move {
        let mut registry = squares(&["well"]);
        registry.register("hopeless", support::Does(|_: &StepContext| Err(HandlerError::permanent("declined"))));
        registry.register("patient", support::Does(flaky(1)));
        let definition = workflow("three", &[("well", &[]), ("hopeless", &[]), ("patient", &[])]);
        let retry = json!({"max_attempts": 2, "backoff": "fixed", "base": 60, "jitter": 0});
        let worker = world.worker(&registry, &json!({})).await;
        let task = world.create_task(&with(definition, 2, "retry", retry), &six()).await.id;
        for (name, state) in [("well", "complete"), ("hopeless", "error"), ("patient", "waiting")] {
            world.step_is(task, name, state).await;
        }
        assert_eq!(world.status(task).await, "blocked_by_failures");
        worker.drain().await.unwrap();
        assert_eq!(world.sweep_after("61 seconds").await, 1);
        assert_eq!(world.steps(task).await[2].state, "ready");
        assert_eq!(world.status(task).await, "blocked_by_failures", "it outranks what is ready");
        worker.stop(Duration::from_secs(5)).await.unwrap();

        let worker = world.worker(&registry, &json!({})).await;
        assert_eq!(world.ended(task).await, "error");
        let states: Vec<String> = world.steps(task).await.into_iter().map(|step| step.state).collect();
        assert_eq!(states, ["complete", "error", "complete"]);
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s12_an_operator_resolves_completes_or_retries_a_failed_step() {
    World::run(|world| async move {
        let broken = Arc::new(AtomicU32::new(1));
        let seen = broken.clone();
        let second = move |context: &StepContext| match seen.load(Ordering::SeqCst) {
            0 => Ok(json!({"by": "handler", "attempt": context.step().attempt})),
            _ => Err(HandlerError::permanent("broken")),
        };
        let third = |context: &StepContext| Ok(json!({"saw": context.result("second")?}));
        let mut registry = squares(&["first"]);
        registry.register("second", support::Does(second)).register("third", support::Does(third));
        let line = workflow("line", &[("first", &[]), ("second", &["first"]), ("third", &["second"])]);
        let worker = world.worker(&registry, &json!({})).await;
        let given = support::raw(&json!({"by": "ada"}));

        let cases = [
            ("resolve", "resolved_manually", json!(null)),
            ("complete", "complete", json!({"by": "ada"})),
            ("retry step", "complete", json!({"by": "handler", "attempt": 1})),
            ("retry task", "complete", json!({"by": "handler", "attempt": 1})),
        ];
        for (action, state, seen_by_child) in cases {
            broken.store(1, Ordering::SeqCst);
            let task = world.create_task(&line, &six()).await.id;
            assert_eq!(world.ended(task).await, "error");
            broken.store(0, Ordering::SeqCst);
            let operated = Task::new(world.functions.clone(), task);
            let changed = match action {
                "resolve" => operated.step(1).resolve("the warehouse called", "ada").await,
                "complete" => operated.step(1).complete(&given, "the warehouse called", "ada").await,
                "retry step" => operated.step(1).retry("the warehouse called", "ada").await,
                _ => operated.retry("the warehouse called", "ada").await,
            };
            assert_eq!(changed.unwrap().ready_queues, ["default"], "{action}");
            assert_eq!(world.ended(task).await, "complete", "{action}");
            assert_eq!(world.steps(task).await[1].state, state, "{action}");
            assert_eq!(world.result(task, "third").await, json!({"saw": seen_by_child}), "{action}");
            let sql = "select actor || ': ' || reason from tasker_task_events where task_id = $1";
            assert_eq!(world.text(sql, task).await, "ada: the warehouse called");

            let replaced = operated.step(2).update_result(&given, "a slip of the pen", "ada").await.unwrap();
            assert_eq!(replaced.state, "complete");
            assert_eq!(world.result(task, "third").await, json!({"by": "ada"}));
            let refused = operated.retry("once more", "ada").await.unwrap_err();
            assert!(refused.to_string().contains("there is nothing to retry"), "{refused}");
        }
        assert!(world.broken_invariants().await.is_empty());
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn retry_and_release_act_on_live_steps_and_publish_events() {
    World::run(|world| async move {
        let events = EventPublisher::new(support::configuration(&json!({"events": {"flush_interval": 0}})).events);
        events.set_interests(&["task.*".to_owned()]).unwrap();
        let worker = world.orchestrator(&json!({"leases": {"heartbeat_interval": "50ms"}})).await;
        let retry = json!({"backoff": "fixed", "base": "1h", "cap": "1h", "max_attempts": 3});
        let task = world.create_task(&with(workflow("one", &[("s", &[])]), 0, "retry", retry), &six()).await.id;
        let operated = Task::new(world.functions.clone(), task).with_events(events.clone());
        let claim = worker.next_step().await.unwrap();
        operated.step(0).release("it hangs", "ada").await.unwrap();
        world.eventually(|| async { worker.revoked(claim.token).then_some(()) }).await;
        let claim = worker.next_step().await.unwrap();
        assert_eq!(claim.facts().unwrap().attempt, 1);
        let error = serde_json::from_value(json!({"class": "E", "message": "no"})).unwrap();
        worker.finish(Outcome::Failed { token: claim.token, error, retryable: true, retry_after: None }).await.unwrap();
        world.step_is(task, "s", "waiting").await;
        operated.step(0).retry("it is there again", "ada").await.unwrap();
        let claim = worker.next_step().await.unwrap();
        worker.finish(Outcome::permanent_failure(claim.token, "E", "never".to_owned())).await.unwrap();
        assert_eq!(world.ended(task).await, "error");
        operated.resolve("paid in cash", "ada").await.unwrap();
        let batch = events.next_batch().await.unwrap();
        let names: Vec<&str> = batch.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["task.resolved_manually"]);
        assert_eq!(batch[0].payload["reason"], "paid in cash");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s13_fifty_creations_with_one_key_make_one_task() {
    World::run(|world| async move {
        let first = world.create_task(&workflow("only", &[("only", &[])]), &six()).await.id;
        let request = "select jsonb_build_array(jsonb_build_object('namespace', namespace, 'workflow', name, 'version', version, \
                       'idempotency_key', 'order-42', 'input', '{\"n\": 1, \"m\": 2}'::jsonb)) from tasker_workflow_versions";
        let sql = format!("select tasker_core_v1.create_tasks(({request}))->0->>'id'");
        let mut creations = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (url, sql) = (world.url.clone(), sql.clone());
            creations.spawn(async move {
                let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
                sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
            });
        }
        let mut ids = creations.join_all().await;
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1, "all get the same task: {ids:?}");
        assert_ne!(ids[0], first.to_string());
        assert_eq!(world.number("select count(*) from tasker_tasks").await, 2);
        // The order of the fields is not the input's.
        let reordered = sql.replace(r#"{"n": 1, "m": 2}"#, r#"{"m": 2, "n": 1}"#);
        let again: String = sqlx::query_scalar(sqlx::AssertSqlSafe(reordered)).fetch_one(&world.pool).await.unwrap();
        assert_eq!(again, ids[0]);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn s19_namespaces_and_versions_separate_workflows_of_one_name() {
    World::run(|world| async move {
        let returns = |name: &'static str| move |_: &StepContext| Ok(json!({"by": name}));
        let mut registry = HandlerRegistry::default();
        for name in ["one", "two", "three"] {
            registry.register(name, support::Does(returns(name)));
        }
        let twin = |namespace: &str, version: &str, handler: &str| {
            json!({"name": "twin", "namespace": namespace, "version": version, "steps": [
                {"name": "first", "handler": handler}, {"name": "second", "handler": handler, "depends_on": ["first"]}]})
        };
        let twins = [twin("east", "1", "one"), twin("east", "2", "two"), twin("west", "1", "three")];
        let mut tasks = Vec::new();
        for workflow in &twins {
            tasks.push(world.create_task(workflow, &json!({})).await.id);
        }
        let worker = world.worker(&registry, &json!({})).await;
        for (task, name) in tasks.into_iter().zip(["one", "two", "three"]) {
            assert_eq!(world.ended(task).await, "complete");
            assert_eq!(world.result(task, "second").await, json!({"by": name}));
        }
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn s22_a_task_starts_only_after_the_commit_that_creates_it() {
    World::run(|world| async move {
        let worker = world.worker(&squares(&["only"]), &json!({})).await;
        let first = world.create_task(&workflow("only", &[("only", &[])]), &six()).await;
        assert_eq!(world.ended(first.id).await, "complete");
        let sql = "select (tasker_core_v1.create_tasks(jsonb_build_array(jsonb_build_object('namespace', namespace, 'workflow', \
                   name, 'version', version, 'input', '{\"n\": 2}'::jsonb)))->0->>'id')::bigint from tasker_workflow_versions";

        let mut transaction = world.pool.begin().await.unwrap();
        let rolled_back: i64 = sqlx::query_scalar(sql).fetch_one(&mut *transaction).await.unwrap();
        transaction.rollback().await.unwrap();
        let mut transaction = world.pool.begin().await.unwrap();
        let committed: i64 = sqlx::query_scalar(sql).fetch_one(&mut *transaction).await.unwrap();
        worker.poll_now();
        // Another task completes meanwhile: the worker has polled, and could not see the uncommitted one.
        let witness = world.create_task(&workflow("only", &[("only", &[])]), &six()).await;
        assert_eq!(world.ended(witness.id).await, "complete");
        assert_eq!(world.number("select count(*) from tasker_tasks").await, 2);
        transaction.commit().await.unwrap();
        worker.poll_now();
        assert_eq!(world.ended(committed).await, "complete");
        assert!(world.steps(rolled_back).await.is_empty());
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_step_over_its_time_limit_fails_and_so_does_a_panic() {
    struct Hangs;
    #[async_trait]
    impl StepHandler for Hangs {
        async fn call(&self, _: &StepContext) -> Result<Value, HandlerError> {
            std::future::pending().await
        }
    }
    World::run(|world| async move {
        let panics = |_: &StepContext| -> Result<Value, HandlerError> { panic!("out of cheese") };
        let mut registry = handlers([("panics", panics)]);
        registry.register("hangs", Hangs);
        let worker = world.worker(&registry, &json!({})).await;
        let definition = workflow("both", &[("hangs", &[]), ("panics", &[])]);
        let definition = with(with(definition, 0, "timeout", json!("10ms")), 0, "retryable", json!(false));
        let task = world.create_task(&with(definition, 1, "retryable", json!(false)), &json!({})).await.id;
        assert_eq!(world.ended(task).await, "error");
        let steps = world.steps(task).await;
        assert_eq!(steps[0].error["message"], json!("the time limit of 10ms has passed"));
        assert_eq!(steps[1].error["message"], json!("out of cheese"));
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn an_unknown_handler_releases_its_claim_without_an_attempt() {
    World::run(|world| async move {
        let old = world.worker(&HandlerRegistry::default(), &json!({})).await;
        let task = world.create_task(&workflow("only", &[("only", &[])]), &six()).await.id;
        world.step_is(task, "only", "waiting").await;
        assert_eq!(world.outline(task).await[0].2, 0);
        old.stop(Duration::from_secs(5)).await.unwrap();

        let recent = world.worker(&squares(&["only"]), &json!({})).await;
        world.sweep_after("6 seconds").await;
        assert_eq!(world.ended(task).await, "complete");
        assert_eq!(world.outline(task).await[0].2, 1);
        recent.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_result_the_database_rejects_fails_its_own_step_only() {
    World::run(|world| async move {
        // Results that pass our own checks, but not a constraint in the application's own database.
        let forbid = "alter table tasker_workflow_steps add constraint nothing_bad check (result->>'good' <> 'false')";
        sqlx::query(forbid).execute(&world.pool).await.unwrap();
        let poison = |context: &StepContext| context.input();
        let worker = world.worker(&handlers([("only", poison)]), &json!({})).await;
        let inputs: Vec<Value> = (0..20).map(|number| json!({"good": number % 5 != 0})).collect();
        let tasks = world.create_tasks(&workflow("only", &[("only", &[])]), &inputs).await;
        for (task, input) in tasks.iter().zip(&inputs) {
            let expected = if input["good"] == json!(true) { "complete" } else { "error" };
            assert_eq!(world.ended(task.id).await, expected);
        }
        let error = world.steps(tasks[0].id).await.remove(0).error;
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("the outcome cannot be stored: ") && message.contains("nothing_bad"), "{error}");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn workers_survive_cut_connections_and_deliver_their_outcomes() {
    World::run(|world| async move {
        let worker = world.worker(&squares(&["a", "b", "c", "d"]), &json!({})).await;
        let tasks = world.create_tasks(&workflow("diamond", DIAMOND), &vec![six(); 300]).await;
        for _ in 0..5 {
            let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> \
                       pg_backend_pid() and application_name = 'tasker_core'";
            // The world's own pool is cut as well, so the call may fail.
            let _ = sqlx::query_scalar::<_, i64>(cut).fetch_one(&world.pool).await;
            let finished = worker.health().finished;
            let more =
                || async { (worker.health().finished > finished || worker.health().finished == 1200).then_some(()) };
            world.eventually(more).await;
        }
        world
            .eventually(|| async {
                let sql = "select count(*) from tasker_tasks where state = 'complete'";
                let complete: i64 = sqlx::query_scalar(sql).fetch_one(&world.pool).await.ok()?;
                (complete == tasks.len() as i64).then_some(())
            })
            .await;
        assert!(world.broken_invariants().await.is_empty());
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn poll_only_mode_finds_steps_without_notices() {
    World::run(|world| async move {
        let overrides = json!({"database": {"poll_only": true}, "discovery": {"poll_only_interval": "20ms"}});
        let worker = world.worker(&squares(&["a", "b", "c", "d"]), &overrides).await;
        let task = world.create_task(&workflow("diamond", DIAMOND), &six()).await.id;
        assert_eq!(world.ended(task).await, "complete");
        assert!(!worker.health().listening);
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn draining_finishes_running_steps_and_releases_buffered_ones() {
    World::run(|world| async move {
        let orchestrator = world.orchestrator(&json!({"execution": {"threads": 3}})).await;
        world.create_tasks(&workflow("only", &[("only", &[])]), &vec![six(); 3]).await;
        let running = orchestrator.next_step().await.unwrap();
        world.eventually(|| async { (orchestrator.health().buffered == 2).then_some(()) }).await;
        orchestrator.drain().await.unwrap();
        assert!(orchestrator.next_step().await.is_none());
        assert_eq!(world.number("select count(*) from tasker_ready_steps").await, 2);
        let result = support::raw(&json!({}));
        orchestrator.finish(Outcome::Completed { token: running.token, result }).await.unwrap();
        let started = Instant::now();
        orchestrator.stop(Duration::from_secs(30)).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(30), "it does not wait longer than it must");
        assert_eq!(world.number("select count(*) from tasker_step_attempts where outcome = 'completed'").await, 1);
        assert_eq!(world.number("select count(*) from tasker_claimed_steps").await, 0);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_handler_sees_the_cancellation_and_cannot_finish() {
    World::run(|world| async move {
        let worker = world.orchestrator(&json!({"leases": {"heartbeat_interval": "50ms"}})).await;
        let task = world.create_task(&workflow("diamond", DIAMOND), &six()).await.id;
        let claim = worker.next_step().await.unwrap();
        let operated = Task::new(world.functions.clone(), task);
        assert_eq!(operated.cancel("wrong order", "ada").await.unwrap().state, "cancelled");
        world.eventually(|| async { worker.revoked(claim.token).then_some(()) }).await;
        worker.finish(Outcome::Completed { token: claim.token, result: support::raw(&json!({})) }).await.unwrap();
        world.eventually(|| async { (worker.health().stale == 1).then_some(()) }).await;
        let states: Vec<String> = world.steps(task).await.into_iter().map(|step| step.state).collect();
        assert_eq!(states, ["cancelled"; 4]);
        let sql = "select action || ' by ' || actor || ': ' || reason from tasker_task_events where task_id = $1";
        assert_eq!(world.text(sql, task).await, "cancel by ada: wrong order");
        let again = operated.cancel("twice", "ada").await.unwrap_err();
        assert!(again.to_string().contains("only a task that has not ended can be cancelled"), "{again}");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_process_given_up_registers_again_and_continues() {
    World::run(|world| async move {
        let ran = Arc::new(AtomicU32::new(0));
        let counted = ran.clone();
        let count = move |_: &StepContext| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(json!({}))
        };
        let overrides = json!({"leases": {"heartbeat_interval": "50ms", "process_timeout": "20s"}});
        let worker = world.worker(&handlers([("only", count)]), &overrides).await;
        let first = worker.process_id();
        world.sweep_after("1 hour").await;
        world.eventually(|| async { (worker.process_id() != first).then_some(()) }).await;
        let task = world.create_task(&workflow("only", &[("only", &[])]), &json!({})).await.id;
        assert_eq!(world.ended(task).await, "complete");
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}
