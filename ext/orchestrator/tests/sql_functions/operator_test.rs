//! The operator's actions: what they change, reject and record, and how they race with the step's process.

use serde_json::{json, Value};

use crate::session::{
    completed, content, failed, failed_for_good, finish, on, register, request, stop_the_clock, text, token, tokens,
    waits_for, CallResult, Session,
};
use crate::support::{with, workflow, World, DIAMOND};

/// A session, a process, and a task of a diamond whose steps are tried once.
struct Desk {
    session: Session,
    process: i64,
    task: i64,
}

impl Desk {
    async fn open(world: &World) -> Self {
        let mut session = Session::open(world).await;
        let process = session.process("*").await;
        let mut definition = workflow("diamond", DIAMOND);
        for step in 0..4 {
            definition = with(definition, step, "retryable", json!(false));
        }
        let diamond = register(world, &definition).await;
        let task = session.create(&diamond, json!({"priority": 3})).await;
        Self { session, process, task }
    }

    /// Claims what is ready and ends it: the named steps fail, the others complete.
    async fn run(&mut self, failing: &[&str]) {
        loop {
            let claims = self.session.claim(self.process, "*", 10).await;
            if claims.is_empty() {
                return;
            }
            let fails = |claim: &&Value| failing.iter().any(|step| claim["step"] == *step);
            let outcomes: Vec<Value> = claims
                .iter()
                .map(|claim| if fails(&claim) { failed_for_good(claim) } else { completed(claim) })
                .collect();
            self.session.finish(self.process, &outcomes, 0).await;
        }
    }

    async fn action(&mut self, action: &str, step: &str) -> Value {
        let call = self.call(action, step).await;
        self.session.call(&call).await
    }

    async fn call(&mut self, action: &str, step: &str) -> String {
        let position = self.session.position(self.task, step).await;
        let result = if action == "complete_step" || action == "update_result" { r#", '{"by": "hand"}'"# } else { "" };
        format!("{action}({}, {position}{result}, 'why', 'ada')", self.task)
    }

    async fn state(&mut self, step: &str) -> String {
        self.session.state(self.task, step).await
    }
}

/// An action's response without its events, which `outbox_test` checks.
fn without_events(response: &Value) -> Value {
    let mut response = response.clone();
    response.as_object_mut().unwrap().remove("emitted").expect("an action has events");
    response
}

/// Each action on a task or a step, and its call.
fn actions(task: i64, position: i32, reason: &str, by: &str) -> Vec<(&'static str, String)> {
    let of_task = ["cancel_task", "resolve_task", "retry_task", "repair_task"];
    let of_step = ["resolve_step", "retry_step", "release_step"];
    let with_result = ["complete_step", "update_result"];
    let mut calls = Vec::new();
    calls.extend(of_task.map(|action| (action, format!("{action}({task}, {reason}, {by})"))));
    calls.extend(of_step.map(|action| (action, format!("{action}({task}, {position}, {reason}, {by})"))));
    calls.extend(with_result.map(|action| (action, format!("{action}({task}, {position}, '{{}}', {reason}, {by})"))));
    calls
}

#[test]
fn every_action_rejects_an_unknown_task_or_step() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        let before = content(&world).await;
        for (action, call) in actions(4711, 0, "'why'", "'ada'") {
            if action == "repair_task" {
                let response = desk.session.call(&call).await;
                assert_eq!(
                    response,
                    json!({"state": null, "removed": 0, "ready_queues": []}),
                    "nothing was left of it"
                );
                continue;
            }
            let (message, facts) = desk.session.refused("TC003", &call).await;
            assert!(message.contains("4711"), "{message}");
            assert_eq!(facts["task"], 4711, "{action}");
        }
        for action in ["resolve_step", "retry_step", "complete_step", "update_result", "lock_step"] {
            let call = match action {
                "lock_step" => format!("lock_step({}, 99)", desk.task),
                "resolve_step" | "retry_step" => format!("{action}({}, 99, 'why', 'ada')", desk.task),
                _ => format!("{action}({}, 99, '{{}}', 'why', 'ada')", desk.task),
            };
            let (message, facts) = desk.session.refused("TC003", &call).await;
            assert_eq!(message, format!("task {} has no step at position 99", desk.task));
            assert_eq!(facts, json!({"task": desk.task, "position": 99}));
        }
        assert_eq!(content(&world).await, before);
    });
}

#[test]
fn every_action_requires_a_reason_and_an_operator() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        desk.run(&["b"]).await;
        let task = desk.task;
        let position = desk.session.position(task, "b").await;
        let done = desk.session.position(task, "c").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let claimed = desk.session.create(&one, json!({})).await;
        desk.session.claim(desk.process, "*", 1).await;
        let waiting = desk.session.create(&one, json!({"wait_until": "2100-01-01T00:00:00Z"})).await;
        let before = content(&world).await;
        for (reason, by, field) in [
            ("''", "'ada'", "reason"),
            ("null", "'ada'", "reason"),
            ("' '", "''", "reason"),
            ("'why'", "' '", "by"),
            ("'why'", "null", "by"),
        ] {
            for (action, call) in actions(task, position, reason, by) {
                // Each action on a task or step that allows it.
                let (task, call) = match action {
                    "update_result" => (task, format!("{action}({task}, {done}, '{{}}', {reason}, {by})")),
                    "release_step" => (claimed, format!("{action}({claimed}, 0, {reason}, {by})")),
                    _ => (task, call),
                };
                if action == "cancel_task" {
                    continue;
                }
                let (message, facts) = desk.session.refused("TC006", &call).await;
                assert!(message.starts_with(&format!("{field}: is blank")), "{action}: {message}");
                assert_eq!((&facts["field"], &facts["task"]), (&json!(field), &json!(task)), "{action}");
            }
        }
        for call in [format!("retry_step({waiting}, 0, '', 'ada')"), format!("retry_task({waiting}, '', 'ada')")] {
            desk.session.refused("TC006", &call).await;
        }
        desk.session.refused("TC006", &format!("record_event({task}, null, 'cancel', '', 'ada')")).await;
        assert_eq!(content(&world).await, before, "what was begun is undone");
        desk.session.call(&format!("retry_task({task}, 'why', 'ada')")).await;
        let before = content(&world).await;
        desk.session.refused("TC006", &format!("cancel_task({task}, '', 'ada')")).await;
        assert_eq!(content(&world).await, before);
    });
}

#[test]
fn a_result_that_no_handler_could_return_is_rejected() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        desk.run(&["b"]).await;
        let before = content(&world).await;
        for (action, word, step) in [("complete_step", "complete", "b"), ("update_result", "update_result", "c")] {
            let position = desk.session.position(desk.task, step).await;
            for result in ["null", "'null'", "'[1]'", "'1'", "'\"text\"'", "'true'"] {
                let call = format!("{action}({}, {position}, {result}, 'why', 'ada')", desk.task);
                let (message, facts) = desk.session.refused("TC006", &call).await;
                assert!(message.contains("must be an object"), "{message}");
                assert_eq!(facts, json!({"field": "result", "action": word}));
            }
        }
        let (message, _) =
            desk.session.refused("TC006", "check_result(to_jsonb(repeat('x', 10000)), 'complete')").await;
        assert!(message.len() < 300, "a large result is cut: {} characters", message.len());
        assert_eq!(content(&world).await, before);
        desk.session.run("select tasker_core_v1.check_result('{}', 'complete')").await;
    });
}

#[test]
fn cancelling_ends_every_open_step_and_revokes_its_claim() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut desk = Desk::open(&world).await;
        let root = desk.session.claim(desk.process, "*", 1).await;
        desk.session.finish(desk.process, &[completed(&root[0])], 0).await;
        let claims = desk.session.claim(desk.process, "*", 1).await;
        desk.session.at("1 minute").await;
        let response = desk.session.call(&format!("cancel_task({}, 'wrong order', 'ada')", desk.task)).await;
        assert_eq!(response["state"], "cancelled");
        let states = desk.session.states(desk.task).await;
        assert_eq!(json!(states), json!({"a": "complete", "b": "cancelled", "c": "cancelled", "d": "cancelled"}));
        let row = desk.session.rows("select state, active, remaining, ended_at from tasker_tasks").await;
        assert_eq!(
            json!(row),
            json!([{"state": "cancelled", "active": 0, "remaining": 3, "ended_at": "2030-01-01T12:01:00+00:00"}])
        );
        assert_eq!(desk.session.events(desk.task).await, ["cancel ada: wrong order"]);
        let cut = desk
            .session
            .rows("select token, outcome, error, finished_at from tasker_step_attempts order by token desc limit 1")
            .await;
        assert_eq!(
            json!(cut),
            json!([{"token": token(&claims[0]), "outcome": "released", "finished_at": "2030-01-01T12:01:00+00:00",
                    "error": {"class": "TaskerCore::TaskCancelled", "message": "wrong order"}}])
        );
        let before = content(&world).await;
        let late = desk.session.finish(desk.process, &[completed(&claims[0])], 0).await;
        assert_eq!(late["stale"], json!([token(&claims[0])]));
        let (message, facts) =
            desk.session.refused("TC004", &format!("cancel_task({}, 'twice', 'ada')", desk.task)).await;
        assert!(message.contains("is cancelled: only a task that has not ended can be cancelled"), "{message}");
        assert_eq!(facts, json!({"task": desk.task, "state": "cancelled", "action": "cancel"}));
        for action in ["resolve_step", "complete_step", "retry_step"] {
            let call = desk.call(action, "b").await;
            desk.session.refused("TC004", &call).await;
        }
        let call = desk.call("resolve_step", "d").await;
        desk.session.refused("TC004", &call).await;
        desk.session.refused("TC004", &format!("resolve_task({}, 'x', 'y')", desk.task)).await;
        desk.session.refused("TC004", &format!("retry_task({}, 'x', 'y')", desk.task)).await;
        assert_eq!(content(&world).await, before);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn resolving_or_completing_a_failed_step_resumes_the_task() {
    for action in ["resolve_step", "complete_step"] {
        World::run(|world| async move {
            let mut desk = Desk::open(&world).await;
            desk.run(&["b"]).await;
            assert_eq!(desk.session.task_state(desk.task).await, "error");
            let response = desk.action(action, "b").await;
            let state = if action == "resolve_step" { "resolved_manually" } else { "complete" };
            assert_eq!(without_events(&response), json!({"state": state, "ready_queues": ["default"], "ended": []}));
            assert_eq!(desk.state("b").await, state);
            assert_eq!(desk.session.task_state(desk.task).await, "pending");
            assert!(world.broken_invariants().await.is_empty());
            let claims = desk.session.claim(desk.process, "*", 1).await;
            let given = if action == "resolve_step" { Value::Null } else { json!({"by": "hand"}) };
            assert_eq!(on(&claims, "d")["results"], json!({"b": given, "c": {"from": "c"}}));
            desk.session.finish(desk.process, &[completed(&claims[0])], 0).await;
            assert_eq!(desk.session.task_state(desk.task).await, "complete");
            let word = action.trim_end_matches("_step");
            let position = desk.session.position(desk.task, "b").await;
            assert_eq!(desk.session.events(desk.task).await, [format!("{word} {position} ada: why")]);
            assert!(world.broken_invariants().await.is_empty());
        });
    }
}

#[test]
fn a_step_can_be_overridden_only_before_it_starts() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        // It waits for its parents.
        desk.action("complete_step", "d").await;
        assert_eq!(desk.session.task_state(desk.task).await, "pending");
        // It is ready.
        let response = desk.action("resolve_step", "a").await;
        assert_eq!(response["ready_queues"], json!(["default"]));
        assert_eq!(desk.session.count("tasker_ready_steps").await, 2);
        assert!(world.broken_invariants().await.is_empty());
        // It runs.
        let claims = desk.session.claim(desk.process, "*", 1).await;
        let step = text(&claims[0]["step"]);
        for action in ["resolve_step", "complete_step"] {
            let call = desk.call(action, &step).await;
            let (message, facts) = desk.session.refused("TC004", &call).await;
            assert!(message.ends_with("is in_progress: only a step that has failed or has not started can be resolved or completed; wait for its handler, release the step or cancel the task"), "{message}");
            assert_eq!((&facts["state"], &facts["step"]), (&json!("in_progress"), &json!(step)));
        }
        // It waits for a time of its own.
        desk.session.call(&format!("return_claims({}, '1 hour', 'unknown_handler')", tokens(&claims))).await;
        desk.action("complete_step", &step).await;
        assert_eq!(desk.session.count("tasker_waiting_steps").await, 0);
        // The last one ends the task.
        let last = if step == "b" { "c" } else { "b" };
        let response = desk.action("resolve_step", last).await;
        assert_eq!(response["ended"].as_array().unwrap().len(), 1, "{response}");
        assert_eq!(
            (&response["ended"][0]["task_id"], &response["ended"][0]["state"]),
            (&json!(desk.task), &json!("complete"))
        );
        // They are over.
        for action in ["resolve_step", "complete_step"] {
            for (step, state) in [("a", "resolved_manually"), ("d", "complete")] {
                let call = desk.call(action, step).await;
                let (_, facts) = desk.session.refused("TC004", &call).await;
                assert_eq!(facts["state"], state);
            }
        }
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_replaced_result_reaches_children_that_start_later() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        for step in ["a", "d"] {
            let call = desk.call("update_result", step).await;
            let (message, facts) = desk.session.refused("TC004", &call).await;
            assert!(message.contains("only the result of a step that is done can be replaced"), "{message}");
            assert_eq!(facts, json!({"task": desk.task, "step": step, "state": "pending", "action": "update_result"}));
        }
        desk.run(&["b"]).await;
        let call = desk.call("update_result", "b").await;
        desk.session.refused("TC004", &call).await;
        assert_eq!(desk.action("update_result", "c").await, json!({"state": "complete"}));
        desk.action("resolve_step", "b").await;
        assert_eq!(desk.action("update_result", "b").await, json!({"state": "resolved_manually"}));
        let claims = desk.session.claim(desk.process, "*", 1).await;
        assert_eq!(on(&claims, "d")["results"], json!({"b": {"by": "hand"}, "c": {"by": "hand"}}));
        assert_eq!(desk.session.events(desk.task).await.len(), 3);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_retry_restores_all_attempts_of_failed_steps() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut desk = Desk::open(&world).await;
        let (message, facts) = desk.session.refused("TC004", &format!("retry_task({}, 'x', 'y')", desk.task)).await;
        assert!(message.contains("has no waiting or failed step"), "{message}");
        assert_eq!(facts, json!({"task": desk.task, "state": "pending", "action": "retry"}));
        desk.run(&["b", "c"]).await;
        assert_eq!(desk.session.task_state(desk.task).await, "error");
        let response = desk.action("retry_step", "b").await;
        assert_eq!(without_events(&response), json!({"state": "ready", "steps": 1, "ready_queues": ["default"]}));
        let row = desk.session.rows("select state, active, remaining, ended_at from tasker_tasks").await;
        assert_eq!(json!(row), json!([{"state": "pending", "active": 1, "remaining": 3, "ended_at": null}]));
        let position = desk.session.position(desk.task, "b").await;
        let ready = desk.session.rows("select position, priority, queue, ready_at from tasker_ready_steps").await;
        assert_eq!(
            json!(ready),
            json!([{"position": position, "priority": 3, "queue": "default", "ready_at": "2030-01-01T12:00:00+00:00"}])
        );
        assert!(world.broken_invariants().await.is_empty());
        desk.run(&["b"]).await;
        let response = desk.session.call(&format!("retry_task({}, 'why', 'ada')", desk.task)).await;
        assert_eq!(without_events(&response), json!({"state": "ready", "steps": 2, "ready_queues": ["default"]}));
        let claims = desk.session.claim(desk.process, "*", 9).await;
        assert!(claims.len() == 2 && claims.iter().all(|claim| claim["attempt"] == 1), "{claims:?}");
        let outcomes: Vec<Value> = claims.iter().map(completed).collect();
        desk.session.finish(desk.process, &outcomes, 0).await;
        desk.run(&[]).await;
        assert_eq!(desk.session.task_state(desk.task).await, "complete");
        assert_eq!(
            desk.session.events(desk.task).await,
            [format!("retry {position} ada: why"), "retry ada: why".to_owned()]
        );
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_failed_task_is_resolved_once_and_then_stays() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        let resolve = format!("resolve_task({}, 'why', 'ada')", desk.task);
        let (message, facts) = desk.session.refused("TC004", &resolve).await;
        assert!(message.contains("is pending: only a task that has ended with an error can be resolved"), "{message}");
        assert_eq!(facts, json!({"task": desk.task, "state": "pending", "action": "resolve"}));
        desk.run(&["b"]).await;
        let ended_at = desk.session.one("select ended_at from tasker_tasks").await;
        assert_eq!(desk.session.call(&resolve).await["state"], "resolved_manually");
        let row = desk.session.rows("select state, active, remaining, ended_at from tasker_tasks").await;
        assert_eq!(
            json!(row),
            json!([{"state": "resolved_manually", "active": 0, "remaining": 2, "ended_at": ended_at}])
        );
        assert_eq!(desk.session.events(desk.task).await, ["resolve ada: why"]);
        let before = content(&world).await;
        desk.session.refused("TC004", &resolve).await;
        for (action, step) in
            [("resolve_step", "b"), ("complete_step", "b"), ("retry_step", "b"), ("resolve_step", "d")]
        {
            let call = desk.call(action, step).await;
            let (message, _) = desk.session.refused("TC004", &call).await;
            assert!(message.contains("is resolved_manually: none of its steps can be"), "{action} {step}: {message}");
        }
        desk.session.refused("TC004", &format!("retry_task({}, 'x', 'y')", desk.task)).await;
        desk.session.refused("TC004", &format!("cancel_task({}, 'x', 'y')", desk.task)).await;
        assert_eq!(content(&world).await, before);
        assert!(world.broken_invariants().await.is_empty());
    });
}

/// A diamond in a transaction that is rolled back: its root is done, one branch is claimed, and one is ready.
async fn half_done(world: &World) -> (Desk, Value) {
    let mut desk = Desk::open(world).await;
    let root = desk.session.claim_one(desk.process).await;
    desk.session.finish(desk.process, &[completed(&root)], 0).await;
    let claim = desk.session.claim_one(desk.process).await;
    desk.session.run("begin").await;
    (desk, claim)
}

#[test]
fn lock_step_returns_the_step_and_locks_its_row() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        desk.session.run("begin").await;
        let locked = desk.session.call(&format!("lock_step({}, 0)", desk.task)).await;
        assert_eq!(locked, json!({"state": "pending", "pending_parents": 0, "name": "a"}));
        let locks = desk
            .session
            .count("pg_locks where relation = 'tasker_workflow_steps'::regclass and mode = 'RowShareLock' and pid = pg_backend_pid()")
            .await;
        assert_eq!(locks, 1);
    });
}

#[test]
fn live_rows_are_deleted_and_claims_recorded_if_requested() {
    World::run(|world| async move {
        let (mut desk, claim) = half_done(&world).await;
        let task = desk.task;
        let delete = |positions: &str, claims: bool| {
            format!("delete_live_rows({task}, {positions}, {claims}, '{{\"class\": \"C\"}}')")
        };
        assert_eq!(desk.session.call(&delete("null", false)).await, 1);
        assert_eq!(desk.session.count("tasker_claimed_steps").await, 1);
        assert_eq!(desk.session.call(&delete("null", false)).await, 0);
        assert_eq!(desk.session.call(&delete("array[0]", true)).await, 0, "the root has no live row");
        let position = &claim["position"];
        assert_eq!(desk.session.call(&delete(&format!("array[{position}]"), true)).await, 1);
        let sql = "select token, outcome, error from tasker_step_attempts where outcome = 'released'";
        let released = json!({"token": token(&claim), "outcome": "released", "error": {"class": "C"}});
        assert_eq!(desk.session.rows(sql).await, [released]);
    });
}

#[test]
fn lock_and_clear_task_deletes_all_live_rows() {
    World::run(|world| async move {
        let (mut desk, _) = half_done(&world).await;
        let lock_and_clear = format!("lock_and_clear_task({}, '{{}}')", desk.task);
        assert_eq!(desk.session.call(&lock_and_clear).await, 2);
        assert_eq!(desk.session.count("tasker_ready_steps").await, 0);
        assert_eq!(desk.session.count("tasker_claimed_steps").await, 0);
        assert_eq!(desk.session.call(&lock_and_clear).await, 0);
    });
}

#[test]
fn advance_tasks_makes_a_child_ready_after_its_last_parent() {
    World::run(|world| async move {
        let (mut desk, claim) = half_done(&world).await;
        let task = desk.task;
        let complete = |position: &Value| {
            format!(
                "update tasker_workflow_steps set state = 'complete', result = '{{}}' \
                 where task_id = {task} and position = {position}"
            )
        };
        let advance = |position: &Value| {
            format!("advance_tasks(null, array[{task}]::bigint[], array[{task}]::bigint[], array[{position}], 0, 0)")
        };
        let position = &claim["position"];
        desk.session.run(&format!("{}; delete from tasker_claimed_steps", complete(position))).await;
        let advanced = desk.session.call(&advance(position)).await;
        assert_eq!(advanced, json!({"ready_queues": null, "handed_over": null, "claimed": null, "ended": null}));
        let other = desk.session.one("select position from tasker_ready_steps").await;
        desk.session.run(&format!("{}; delete from tasker_ready_steps", complete(&other))).await;
        assert_eq!(desk.session.call(&advance(&other)).await["ready_queues"], json!(["default"]));
        assert_eq!(desk.state("d").await, "ready");
    });
}

#[test]
fn end_waits_changes_no_step_that_does_not_wait() {
    World::run(|world| async move {
        let (mut desk, _) = half_done(&world).await;
        let ended = desk.session.call(&format!("end_waits({}, array[0, 3])", desk.task)).await;
        assert_eq!(ended, json!({"steps": 0, "ready_queues": null}));
    });
}

#[test]
fn override_step_ends_a_step_once_and_records_the_action() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        let task = desk.task;
        for step in ["a", "b", "c"] {
            desk.action("complete_step", step).await;
        }
        assert_eq!(desk.state("d").await, "ready");
        let resolve = format!("override_step({task}, 3, 'resolved_manually', null, 'resolve', 'why', 'ada')");
        assert_eq!(desk.session.call(&resolve).await["state"], "resolved_manually");
        assert_eq!(desk.session.task_state(task).await, "complete");
        desk.session.refused("TC004", &resolve).await;
        desk.session.refused("TC004", &format!("requeue_failed_steps({task}, array[3], 3, 'why', 'ada')")).await;
        desk.session.run(&format!("select tasker_core_v1.record_event({task}, 3, 'word', 'why', 'ada')")).await;
        assert_eq!(desk.session.events(task).await[3..], ["resolve 3 ada: why", "word 3 ada: why"]);
    });
}

/// Does `first` in an open transaction, then `second` in another session, which has to wait for it; returns the
/// response to the second after the first has been committed or rolled back.
async fn raced(
    world: &World,
    first: &mut Session,
    done: &str,
    second: Session,
    call: &str,
    end: &str,
) -> (Session, CallResult) {
    first.run("begin").await;
    first.call(done).await;
    let (holder, waiter) = (first.backend, second.backend);
    let waiting = second.begin(call);
    waits_for(world, waiter, holder).await;
    first.run(end).await;
    waiting.await.unwrap()
}

#[test]
fn a_cancellation_and_a_finish_of_one_step_serialize() {
    World::run(|world| async move {
        for end in ["commit", "rollback"] {
            // The finish comes first.
            let mut desk = Desk::open(&world).await;
            let task = desk.task;
            let claims = desk.session.claim(desk.process, "*", 1).await;
            let done = finish(desk.process, &[completed(&claims[0])], 0);
            let cancel = format!("cancel_task({task}, 'x', 'y')");
            let second = Session::open(&world).await;
            let (mut second, response) = raced(&world, &mut desk.session, &done, second, &cancel, end).await;
            assert_eq!(response.unwrap()["state"], "cancelled");
            let root = if end == "commit" { "complete" } else { "cancelled" };
            let expected = json!({"a": root, "b": "cancelled", "c": "cancelled", "d": "cancelled"});
            assert_eq!(json!(second.states(task).await), expected, "{end}");
            assert!(world.broken_invariants().await.is_empty());

            // The cancellation comes first.
            let mut desk = Desk::open(&world).await;
            let task = desk.task;
            let claims = desk.session.claim(desk.process, "*", 1).await;
            let done = format!("cancel_task({task}, 'x', 'y')");
            let call = finish(desk.process, &[completed(&claims[0])], 0);
            let (mut second, response) = raced(&world, &mut desk.session, &done, second, &call, end).await;
            let stale = if end == "commit" { json!([token(&claims[0])]) } else { json!([]) };
            assert_eq!(response.unwrap()["stale"], stale);
            let root = if end == "commit" { "cancelled" } else { "complete" };
            assert_eq!(second.state(task, "a").await, root);
            assert!(world.broken_invariants().await.is_empty());
            second.run("truncate tasker_ready_steps, tasker_tasks, tasker_workflow_steps, tasker_task_inputs, tasker_step_attempts").await;
        }
    });
}

#[test]
fn a_cancellation_finds_live_rows_that_moved_while_it_waited() {
    World::run(|world| async move {
        // What is done to the task's one live row in an open transaction, once there is one of that kind.
        for (kind, done) in [
            ("ready", "claim_steps(PROCESS, '{*}', 1)"),
            ("claimed", "return_claims('{TOKEN}', '0', 'shutdown')"),
            ("claimed", "return_claims('{TOKEN}', '1 hour', 'shutdown')"),
            ("claimed", "deregister_process(PROCESS)"),
            ("waiting", "sweep(null, 10)"),
        ] {
            let mut desk = Desk::open(&world).await;
            let task = desk.task;
            let mut done = done.replace("PROCESS", &desk.process.to_string());
            if kind != "ready" {
                let claims = desk.session.claim(desk.process, "*", 1).await;
                done = done.replace("TOKEN", &token(&claims[0]).to_string());
                if kind == "waiting" {
                    desk.session.call(&format!("return_claims({}, '1 hour', 'shutdown')", tokens(&claims))).await;
                    desk.session.at("2 hours").await;
                }
            }
            let cancel = format!("cancel_task({task}, 'x', 'y')");
            let second = Session::open(&world).await;
            let (mut second, response) = raced(&world, &mut desk.session, &done, second, &cancel, "commit").await;
            assert_eq!(response.unwrap()["state"], "cancelled", "{done}");
            for table in ["ready", "claimed", "waiting"] {
                assert_eq!(second.count(&format!("tasker_{table}_steps")).await, 0, "{table} after {done}");
            }
            assert!(second.states(task).await.values().all(|state| state == "cancelled"));
            let broken = world.broken_invariants().await;
            assert!(broken.is_empty(), "{done}: {broken:?}");
        }
    });
}

#[test]
fn an_override_races_safely_with_claims_and_releases() {
    World::run(|world| async move {
        for (kind, done, response_is) in [
            // It has started: its handler continues.
            ("ready", "claim_steps(PROCESS, '{*}', 1)", "TC004"),
            // The action does not wait for a claim, which only its process may end: the step appears to run.
            ("waiting", "sweep(null, 10)", "resolved_manually"),
        ] {
            for end in ["commit", "rollback"] {
                let mut desk = Desk::open(&world).await;
                let task = desk.task;
                let done = done.replace("PROCESS", &desk.process.to_string());
                if kind == "waiting" {
                    let claims = desk.session.claim(desk.process, "*", 1).await;
                    desk.session.call(&format!("return_claims({}, '1 hour', 'shutdown')", tokens(&claims))).await;
                    desk.session.at("2 hours").await;
                }
                let resolve = desk.call("resolve_step", "a").await;
                let second = Session::open(&world).await;
                let (mut second, response) = raced(&world, &mut desk.session, &done, second, &resolve, end).await;
                let case = format!("{done}, {end}");
                match response {
                    Ok(response) => {
                        assert!(end == "rollback" || response_is == "resolved_manually", "{case}");
                        assert_eq!(response["state"], "resolved_manually", "{case}");
                        assert_eq!(second.state(task, "a").await, "resolved_manually");
                        assert_eq!(
                            second.count(&format!("tasker_ready_steps where task_id = {task}")).await,
                            2,
                            "{case}"
                        );
                    }
                    Err(refusal) => {
                        assert_eq!((refusal.code.as_str(), end), (response_is, "commit"), "{case}: {refusal:?}");
                        assert_eq!(refusal.facts["state"], "in_progress", "{case}");
                        assert_eq!(second.state(task, "a").await, "in_progress");
                    }
                }
                let broken = world.broken_invariants().await;
                assert!(broken.is_empty(), "{case}: {broken:?}");
                second.run(&format!("select tasker_core_v1.cancel_task({task}, 'x', 'y')")).await;
            }
        }
        // The other way round: a claim passes over what an operator is ending.
        let mut desk = Desk::open(&world).await;
        let mut second = Session::open(&world).await;
        second.run("set lock_timeout = '1ms'").await;
        desk.session.run("begin").await;
        desk.action("resolve_step", "a").await;
        assert!(second.claim(desk.process, "*", 5).await.is_empty());
        desk.session.run("rollback").await;
        assert_eq!(second.claim(desk.process, "*", 5).await.len(), 1);
    });
}

#[test]
fn a_finish_waits_for_the_action_on_its_child_and_both_count() {
    World::run(|world| async move {
        for end in ["commit", "rollback"] {
            let mut desk = Desk::open(&world).await;
            let claims = desk.session.claim(desk.process, "*", 1).await;
            // The operator completes a child while its parent ends.
            let done = desk.call("complete_step", "b").await;
            let call = finish(desk.process, &[completed(&claims[0])], 0);
            let second = Session::open(&world).await;
            let (mut second, response) = raced(&world, &mut desk.session, &done, second, &call, end).await;
            assert_eq!(response.unwrap()["stale"], json!([]));
            let b = if end == "commit" { "complete" } else { "ready" };
            let states = second.states(desk.task).await;
            assert_eq!(json!(states), json!({"a": "complete", "b": b, "c": "ready", "d": "pending"}), "{end}");
            let broken = world.broken_invariants().await;
            assert!(broken.is_empty(), "{end}: {broken:?}");
            second.complete_all(desk.process).await;
            assert_eq!(second.task_state(desk.task).await, "complete");
        }
    });
}

#[test]
fn two_operator_actions_on_one_step_serialize() {
    World::run(|world| async move {
        // The response to the second one when the first has committed: a result or an error.
        for (first_action, second_action, code) in [
            ("resolve_step", "complete_step", "TC004"),
            ("resolve_step", "retry_step", "TC004"),
            ("retry_step", "retry_step", "TC004"),
            ("retry_step", "resolve_step", ""),
            ("retry_step", "resolve_task", "TC004"),
            ("resolve_task", "retry_step", "TC004"),
            ("resolve_task", "resolve_step", "TC004"),
            ("retry_step", "retry_task", "TC004"),
            ("resolve_step", "update_result", ""),
            ("resolve_task", "resolve_task", "TC004"),
        ] {
            let mut desk = Desk::open(&world).await;
            desk.run(&["b"]).await;
            let task = desk.task;
            let mut calls = Vec::new();
            for action in [first_action, second_action] {
                calls.push(match action {
                    "resolve_task" | "retry_task" => format!("{action}({task}, 'why', 'ada')"),
                    _ => desk.call(action, "b").await,
                });
            }
            let second = Session::open(&world).await;
            let (mut second, response) = raced(&world, &mut desk.session, &calls[0], second, &calls[1], "commit").await;
            let outcome = response.as_ref().err().map_or("", |refusal| &refusal.code).to_owned();
            assert_eq!(outcome, code, "{first_action}, then {second_action}: {response:?}");
            let broken = world.broken_invariants().await;
            assert!(broken.is_empty(), "{first_action}, then {second_action}: {broken:?}");
            assert_eq!(second.events(task).await.len(), if code.is_empty() { 2 } else { 1 });
            second.complete_all(desk.process).await;
        }
    });
}

#[test]
fn an_action_in_one_snapshot_fails_rather_than_miss_a_row() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        let task = desk.task;
        let mut other = Session::open(&world).await;
        let cancel = format!("cancel_task({task}, 'x', 'y')");
        let resolve = desk.call("resolve_step", "a").await;
        for call in [&cancel, &resolve] {
            other.run("begin isolation level repeatable read; select 1 from tasker_ready_steps").await;
            let claims = desk.session.claim(desk.process, "*", 1).await;
            assert_eq!(other.refusal(call).await.code, "40001", "{call}");
            other.run("rollback").await;
            desk.session.call(&format!("return_claims({}, '0', 'shutdown')", tokens(&claims))).await;
        }
        assert!(world.broken_invariants().await.is_empty());
        // Without a concurrent change, it works as in any other.
        other.run("begin isolation level repeatable read; select 1 from tasker_ready_steps").await;
        other.call(&resolve).await;
        other.call(&cancel).await;
        other.run("commit").await;
        assert_eq!(other.task_state(task).await, "cancelled");
        let diamond = request(&register(&world, &workflow("other", DIAMOND)).await, json!({}));
        other.run("begin isolation level serializable").await;
        let task = other.create_all(&[diamond]).await.remove(0);
        other.complete_all(desk.process).await;
        other.run("commit").await;
        assert_eq!(other.task_state(task).await, "complete");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_step_that_waits_is_made_ready_at_once_and_no_other() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let definition = with(workflow("one", &[("s", &[])]), 0, "retry", json!({"backoff": "fixed", "base": "1h"}));
        let one = register(&world, &with(definition, 0, "queue", json!("slow"))).await;
        let task = session.create(&one, json!({"wait_until": "2030-01-01T13:00:00Z", "priority": 3})).await;
        let call = format!("retry_step({task}, 0, 'why', 'ada')");
        assert_eq!(session.call(&call).await, json!({"state": "ready", "steps": 1, "ready_queues": ["slow"]}));
        let claims = session.claim(process, "slow", 1).await;
        session.finish(process, &[failed(&claims[0])], 0).await;
        assert_eq!(session.state(task, "s").await, "waiting");
        session.call(&call).await;
        let claims = session.claim(process, "slow", 1).await;
        assert_eq!((claims.len(), &claims[0]["attempt"]), (1, &json!(2)), "it has spent no attempt");
        assert_eq!(session.events(task).await, ["retry 0 ada: why"; 2]);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_retry_of_a_step_is_rejected_with_its_state_and_a_remedy() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        let mut claims = Vec::new();
        for (state, step, remedy) in [
            ("pending", "d", "it becomes ready when its parents are done"),
            ("ready", "a", "a worker that serves its queue will run it"),
            ("in_progress", "a", "wait for its handler, or release the step"),
            ("complete", "a", "update_result replaces its result"),
            ("cancelled", "b", "create a new task"),
        ] {
            match state {
                "in_progress" => claims = desk.session.claim(desk.process, "*", 1).await,
                "complete" => drop(desk.session.finish(desk.process, &[completed(&claims[0])], 0).await),
                "cancelled" => drop(desk.session.call(&format!("cancel_task({}, 'x', 'y')", desk.task)).await),
                _ => (),
            }
            let before = content(&world).await;
            let call = desk.call("retry_step", step).await;
            let (message, facts) = desk.session.refused("TC004", &call).await;
            let sentence = format!("step {step} of task {} is {state}: only a waiting or failed step", desk.task);
            assert_eq!(message, format!("{sentence} can be retried; {remedy}"));
            assert_eq!(facts, json!({"task": desk.task, "step": step, "state": state, "action": "retry"}));
            assert_eq!(content(&world).await, before);
        }
    });
}

#[test]
fn a_retry_of_a_task_ends_its_waits_unless_a_step_has_failed() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let mut definition = workflow("three", &[("a", &[]), ("b", &[]), ("c", &[])]);
        for step in 0..3 {
            definition = with(definition, step, "retry", json!({"backoff": "fixed", "base": "1h"}));
        }
        let three = register(&world, &with(definition, 2, "retryable", json!(false))).await;
        let task = session.create(&three, json!({})).await;
        let other = session.create(&three, json!({"wait_until": "2100-01-01T00:00:00Z"})).await;
        let claims = session.claim(process, "*", 3).await;
        session.finish(process, &claims.iter().map(failed).collect::<Vec<_>>(), 0).await;
        let call = format!("retry_task({task}, 'why', 'ada')");

        let response = session.call(&call).await;
        assert_eq!((&response["steps"], &response["emitted"][0]["name"]), (&json!(1), &json!("task.retried")));
        let states = session.states(task).await;
        assert_eq!(json!(states), json!({"a": "waiting", "b": "waiting", "c": "ready"}));
        let response = session.call(&call).await;
        assert_eq!(response, json!({"state": "ready", "steps": 2, "ready_queues": ["default"]}));
        assert!(session.states(task).await.values().all(|state| state == "ready"));
        let order = format!("select array_agg(position order by seq) from tasker_ready_steps where task_id = {task}");
        assert_eq!(session.one(&order).await, json!([2, 0, 1]));

        let (message, _) = session.refused("TC004", &call).await;
        let nothing = "has no waiting or failed step: there is nothing to retry";
        assert!(message.starts_with(&format!("task {task} is pending and {nothing}")), "{message}");
        assert_eq!(session.states(other).await["a"], "waiting", "another task is not touched");
        assert_eq!(session.events(task).await, ["retry ada: why"; 2]);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_step_is_released_from_its_process_after_pending_statements() {
    World::run(|world| async move {
        let mut desk = Desk::open(&world).await;
        let task = desk.task;
        let release = format!("release_step({task}, 0, 'why', 'ada')");
        desk.session.refused("TC004", &release).await;
        let claims = desk.session.claim(desk.process, "*", 1).await;
        assert_eq!(desk.session.call(&release).await, json!({"state": "ready", "ready_queues": ["default"]}));
        let late = desk.session.finish(desk.process, &[completed(&claims[0])], 0).await;
        assert_eq!(late["stale"], json!([token(&claims[0])]));
        let attempt = desk.session.rows("select outcome, error->>'message' as message from tasker_step_attempts").await;
        let message = format!("an operator released the step from process {}", desk.process);
        assert_eq!(attempt, [json!({"outcome": "released", "message": message})]);

        // One that is being finished is waited for, and then there is nothing to take.
        for (end, taken) in [("rollback", true), ("commit", false)] {
            let claims = desk.session.claim(desk.process, "*", 1).await;
            assert_eq!(claims[0]["attempt"], 1, "it has spent no attempt");
            let done = finish(desk.process, &[completed(&claims[0])], 0);
            let second = Session::open(&world).await;
            let (_, response) = raced(&world, &mut desk.session, &done, second, &release, end).await;
            assert_eq!(response.is_ok(), taken, "{end}");
        }
        assert_eq!(desk.session.events(task).await, ["release 0 ada: why"; 2]);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_restarted_step_has_no_earlier_error() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let process = session.process("*").await;
        for call in ["retry_step({task}, 0, 'x', 'y')", "retry_task({task}, 'x', 'y')"] {
            let task = session.create(&one, json!({})).await;
            let claims = session.claim(process, "*", 1).await;
            session.finish(process, &[failed_for_good(&claims[0])], 0).await;
            let error = format!("select last_error from tasker_workflow_steps where task_id = {task}");
            assert_eq!(session.one(&error).await["message"], "never");
            session.call(&call.replace("{task}", &task.to_string())).await;
            assert_eq!(session.one(&error).await, Value::Null, "{call}");
            session.complete_all(process).await;
        }
    });
}
