//! Ending attempts: outcomes, retries, children that become ready, and the ends of tasks.

use std::collections::BTreeSet;

use serde_json::{json, Value};

use crate::session::{
    completed, content, ended, failed, failed_for_good, finish, on, register, request, steps, stop_the_clock, text,
    token, waits_for, Session, NOON,
};
use crate::support::{with, workflow, World, DIAMOND};

/// Nine claimed steps, each with a child, and a batch of outcomes: each step is tried twice, with a linear delay of 10
/// s.
struct MixedBatch {
    session: Session,
    process: i64,
    tasks: Vec<i64>,
    claims: Vec<Value>,
    outcomes: Vec<Value>,
}

impl MixedBatch {
    async fn prepare(world: &World) -> Self {
        stop_the_clock(world).await;
        let mut session = Session::open(world).await;
        let retry = json!({"max_attempts": 2, "backoff": "linear", "base": "10s", "jitter": 0});
        let one = with(workflow("one", &[("s", &[]), ("after", &["s"])]), 0, "retry", retry);
        let one = register(world, &one).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 9]).await;
        let process = session.process("*").await;
        let claims = session.claim(process, "*", 9).await;
        // The last one's claim has been released, so another process may hold the step.
        session.call(&format!("return_claims('{{{}}}', '0', 'shutdown')", token(&claims[8]))).await;
        let outcomes = Self::outcomes(&claims);
        Self { session, process, tasks, claims, outcomes }
    }

    fn outcomes(claims: &[Value]) -> Vec<Value> {
        let extended = |mut outcome: Value, more: Value| {
            outcome.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            outcome
        };
        vec![
            ended(&claims[5], json!({"outcome": "lost", "error": {"class": "L"}})),
            failed_for_good(&claims[2]),
            extended(completed(&claims[0]), json!({"waited_us": 1_500_000, "ran_us": 2_000_000})),
            failed(&claims[1]),
            extended(failed(&claims[3]), json!({"retry_after": 42.5})),
            extended(failed(&claims[4]), json!({"retry_after": -7.0})),
            completed(&claims[6]),
            failed(&claims[6]),
            completed(&claims[8]),
            json!({"token": 999_999, "outcome": "completed"}),
        ]
    }

    async fn finish(&mut self) -> Value {
        self.session.finish(self.process, &self.outcomes, 0).await
    }

    fn token(&self, number: usize) -> i64 {
        token(&self.claims[number])
    }
}

#[test]
fn a_batch_returns_stale_tokens_retries_and_ended_tasks() {
    World::run(|world| async move {
        let mut batch = MixedBatch::prepare(&world).await;
        let other = batch.session.process("*").await;
        let all: Vec<i64> = batch.outcomes.iter().map(token).collect();
        let response = batch.session.finish(other, &batch.outcomes, 0).await;
        assert_eq!(response["stale"], json!(all), "another process holds none of them");

        let response = batch.finish().await;
        let mut stale: Vec<i64> = response["stale"].as_array().unwrap().iter().map(|it| it.as_i64().unwrap()).collect();
        stale.sort_unstable();
        assert_eq!(stale, [999_999, batch.token(8)]);
        let delay = |retry: &Value| (token(retry), retry["delay_ms"].as_i64().unwrap());
        let mut retries: Vec<(i64, i64)> = response["retries"].as_array().unwrap().iter().map(delay).collect();
        retries.sort_unstable();
        let expected = [(1, 10_000), (3, 42_500), (4, 0), (5, 10_000)].map(|(number, ms)| (batch.token(number), ms));
        assert_eq!(retries, expected);
        assert_eq!((&response["handed_over"], &response["claimed"]), (&Value::Null, &Value::Null));
        assert_eq!(response["ready_queues"], json!(["default"]));
        let ended = response["ended"].as_array().unwrap();
        assert_eq!(ended.len(), 1, "{response}");
        assert_eq!((&ended[0]["task_id"], &ended[0]["state"]), (&json!(batch.tasks[2]), &json!("error")));
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_batch_of_mixed_outcomes_follows_each_retry_policy() {
    World::run(|world| async move {
        let mut batch = MixedBatch::prepare(&world).await;
        batch.finish().await;
        let states =
            ["complete", "waiting", "error", "waiting", "waiting", "waiting", "complete", "in_progress", "ready"];
        for (task, state) in batch.tasks.iter().zip(states) {
            assert_eq!(batch.session.state(*task, "s").await, state, "task {task}");
            let after = if state == "complete" { "ready" } else { "pending" };
            assert_eq!(batch.session.state(*task, "after").await, after, "task {task}");
        }
        let waiting = batch.session.rows("select task_id, run_at, reason from tasker_waiting_steps order by 1").await;
        let wait = |number: usize, time: &str| {
            let run_at = format!("2030-01-01T{time}+00:00");
            json!({"task_id": batch.tasks[number], "run_at": run_at, "reason": "retry"})
        };
        assert_eq!(
            json!(waiting),
            json!([wait(1, "12:00:10"), wait(3, "12:00:42.5"), wait(4, "12:00:00"), wait(5, "12:00:10")])
        );
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_batch_records_each_attempt_with_its_times_and_error() {
    World::run(|world| async move {
        let mut batch = MixedBatch::prepare(&world).await;
        batch.finish().await;
        let history = batch
            .session
            .rows(
                "select token, attempt, process_id, outcome, error->>'message' as message, started_at, finished_at \
                   from tasker_step_attempts order by token",
            )
            .await;
        let row = |number: usize, outcome: &str, message: Value| {
            json!({"token": batch.token(number), "attempt": 1, "process_id": batch.process, "outcome": outcome,
                   "message": message, "started_at": NOON, "finished_at": NOON})
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
    });
}

#[test]
fn a_repeated_batch_is_stale_and_changes_nothing() {
    World::run(|world| async move {
        let mut batch = MixedBatch::prepare(&world).await;
        batch.finish().await;
        let before = content(&world).await;
        let response = batch.session.finish(batch.process, &batch.outcomes[..8], 0).await;
        assert_eq!(response["stale"].as_array().unwrap().len(), 8);
        assert_eq!((&response["ended"], &response["retries"]), (&json!([]), &json!([])));
        assert_eq!(content(&world).await, before);
    });
}

#[test]
fn the_last_attempt_that_fails_ends_its_step() {
    World::run(|world| async move {
        let mut batch = MixedBatch::prepare(&world).await;
        batch.finish().await;
        let MixedBatch { mut session, process, tasks, .. } = batch;
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
            json!({"stale": [], "retries": [], "ready_queues": [], "handed_over": null, "claimed": null, "ended": []})
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
        first.finish(process, &[completed(&second.claim_one(process).await)], 0).await;
        let claims = second.claim(process, "*", 2).await;
        first.run("begin isolation level repeatable read; select 1 from tasker_workflow_steps").await;
        second.finish(process, &[completed(&claims[0])], 0).await;
        assert!(first.refusal(&finish(process, &[completed(&claims[1])], 0)).await.is_serialization_failure());
        first.run("rollback").await;
        first.finish(process, &[completed(&claims[1])], 0).await;
        assert_eq!(first.state(task, "d").await, "ready");
    });
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
fn children_are_handed_over_up_to_the_limit_and_then_claimed() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let fan = register(&world, &fan()).await;
        let names = |claims: &Value| steps(claims.as_array().unwrap_or(&Vec::new()));
        for (limit, handed_over) in [("0", vec![]), ("1", vec!["early"]), ("null", vec!["early", "plain"])] {
            session.run("begin").await;
            let process = session.process("a").await;
            session.create(&fan, json!({})).await;
            let root = session.claim(process, "*", 1).await;
            let call = finish(process, &[completed(&root[0])], 2).replace(", 2)", &format!(", 2, {limit})"));
            let response = session.call(&call).await;
            assert_eq!(names(&response["handed_over"]), handed_over, "{limit}");
            let claimed: Vec<String> =
                ["early", "plain"].map(str::to_owned).into_iter().skip(handed_over.len()).collect();
            assert_eq!(names(&response["claimed"]), claimed, "the others are claimed in their turn");
            session.run("rollback").await;
        }
    });
}

/// A process finishes the root of `fan`, while another task's step may wait in queue a.
struct Handover {
    queues: &'static str,
    /// The priority of the step that waits, if one does.
    waiting: Option<i32>,
    slots: usize,
    /// Children that the process gets at once.
    handed_over: &'static [&'static str],
    /// Steps that it claims besides.
    claimed: &'static [&'static str],
    /// Steps that are left for any process.
    left: &'static [&'static str],
}

impl Handover {
    const fn of(queues: &'static str, waiting: Option<i32>, slots: usize) -> Self {
        Self { queues, waiting, slots, handed_over: &[], claimed: &[], left: &[] }
    }

    const fn hands_over(self, handed_over: &'static [&'static str]) -> Self {
        Self { handed_over, ..self }
    }

    const fn claims(self, claimed: &'static [&'static str]) -> Self {
        Self { claimed, ..self }
    }

    const fn leaves(self, left: &'static [&'static str]) -> Self {
        Self { left, ..self }
    }
}

const HANDOVERS: &[Handover] = &[
    Handover::of("a", None, 0).leaves(&["plain", "late", "early", "elsewhere"]),
    Handover::of("a", None, 2).hands_over(&["early", "plain"]).leaves(&["late", "elsewhere"]),
    Handover::of("a", None, 9).hands_over(&["early", "plain", "late"]).leaves(&["elsewhere"]),
    Handover::of("b", None, 9).hands_over(&["elsewhere"]).leaves(&["early", "plain", "late"]),
    Handover::of("*", None, 9).hands_over(&["early", "plain", "elsewhere", "late"]),
    Handover::of("c", None, 9).leaves(&["early", "plain", "late", "elsewhere"]),
    // The waiting step is more urgent than all children but one, and is claimed before them.
    Handover::of("a", Some(-1), 1).hands_over(&["early"]).leaves(&["plain", "late", "elsewhere", "now"]),
    Handover::of("a", Some(-1), 2).hands_over(&["early"]).claims(&["now"]).leaves(&["plain", "late", "elsewhere"]),
    Handover::of("a", Some(-1), 3).hands_over(&["early"]).claims(&["now", "plain"]).leaves(&["late", "elsewhere"]),
    Handover::of("a", Some(-9), 1).claims(&["now"]).leaves(&["early", "plain", "late", "elsewhere"]),
    // An equally urgent step does not come first, and a less urgent one is claimed when a slot is left.
    Handover::of("a", Some(0), 2).hands_over(&["early", "plain"]).leaves(&["late", "elsewhere", "now"]),
    Handover::of("a", Some(9), 9).hands_over(&["early", "plain", "late"]).claims(&["now"]).leaves(&["elsewhere"]),
    // A step on a queue that this process does not serve is not urgent for it.
    Handover::of("b", Some(-9), 9).hands_over(&["elsewhere"]).leaves(&["early", "plain", "late", "now"]),
];

#[test]
fn a_ready_child_fills_a_free_slot_unless_others_are_urgent() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let fan = register(&world, &fan()).await;
        let mut urgent = workflow("urgent", &[("now", &[])]);
        urgent["steps"][0]["queue"] = json!("a");
        let urgent = register(&world, &urgent).await;
        let names = |claims: &Value| steps(claims.as_array().unwrap_or(&Vec::new()));
        for Handover { queues, waiting, slots, handed_over, claimed, left } in HANDOVERS {
            session.run("begin").await;
            let process = session.process(queues).await;
            session.create(&fan, json!({})).await;
            let root = session.claim(process, "*", 1).await;
            if let Some(priority) = waiting {
                session.create(&urgent, json!({"priority": priority})).await;
            }
            let response = session.finish(process, &[completed(&root[0])], *slots).await;
            let case = format!("queues {queues}, {waiting:?} waits, {slots} slots");
            assert_eq!(names(&response["handed_over"]), *handed_over, "{case}");
            assert_eq!(names(&response["claimed"]), *claimed, "{case}");
            let ready = session
                .rows("select d.name from tasker_ready_steps r join tasker_tasks t on t.id = r.task_id join tasker_step_definitions d \
                       on d.workflow_version_id = t.workflow_version_id and d.position = r.position").await;
            let ready: BTreeSet<String> = ready.iter().map(|row| text(&row["name"])).collect();
            assert_eq!(ready, left.iter().map(|name| (*name).to_owned()).collect(), "{case}");
            let ours = session.count(&format!("tasker_claimed_steps where process_id = {process}")).await;
            assert_eq!(ours as usize, handed_over.len() + claimed.len(), "{case}");
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
        let claim = session.claim_one(process).await;
        session.run("delete from tasker_processes").await;
        let response = session.finish(process, &[completed(&claim)], 5).await;
        assert_eq!(
            (&response["stale"], &response["handed_over"], &response["claimed"]),
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
        let root = session.claim_one(process).await;
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
fn a_returned_claim_spends_no_attempt() {
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
            let claim = first.claim_one(process).await;
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
fn stored_sizes_are_the_lengths_of_the_payloads() {
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
fn a_requested_retry_delay_is_a_year_at_most() {
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
