//! The counters behind the metrics: what each function adds, and what folding, retention and recounting keep.

use serde_json::{json, Value};

use crate::session::{completed, failed_for_good, quoted, register, stop_the_clock, Session};
use crate::support::{workflow, World};

/// The counters of the workflow `one` that are not 0.
async fn counts(session: &mut Session) -> Value {
    let counted = session
        .one(
            "select jsonb_object_agg(key, value) from tasker_core_v1.task_counts() c \
             cross join jsonb_each(to_jsonb(c)) where workflow = 'one' and jsonb_typeof(value) = 'number' and value <> '0'",
        )
        .await;
    assert_eq!(session.call("recount_tasks(true)").await, json!([]), "they equal the tasks");
    counted
}

/// Creates tasks of the workflow `one`, one in each state.
async fn create_one_in_each_state(session: &mut Session, world: &World) {
    let process = session.process("*").await;
    let one = register(world, &workflow("one", &[("s", &[])])).await;
    for ending in [completed, failed_for_good] {
        session.create(&one, json!({})).await;
        let claim = session.claim_one(process).await;
        session.finish(process, &[ending(&claim)], 0).await;
    }
    let (cancelled, resolved) = (session.create(&one, json!({})).await, session.create(&one, json!({})).await);
    session.call(&format!("cancel_task({cancelled}, 'x', 'y')")).await;
    let claim = session.claim_one(process).await;
    session.finish(process, &[failed_for_good(&claim)], 0).await;
    session.call(&format!("resolve_task({resolved}, 'x', 'y')")).await;
    session.create(&one, json!({})).await;
}

#[test]
fn counters_follow_tasks_through_every_state() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let keyed = json!({"idempotency_key": "k"});
        let task = session.create(&one, keyed.clone()).await;
        assert_eq!(session.create(&one, keyed).await, task);
        assert_eq!(counts(&mut session).await, json!({"created": 1, "in_pending": 1}), "one task has the key");

        let claim = session.claim_one(process).await;
        session.finish(process, &[failed_for_good(&claim)], 0).await;
        let mut expected = json!({"created": 1, "failed": 1, "in_error": 1, "attempts_failed": 1});
        assert_eq!(counts(&mut session).await, expected);

        session.call(&format!("retry_task({task}, 'x', 'y')")).await;
        expected = json!({"created": 1, "failed": 1, "in_pending": 1, "attempts_failed": 1});
        assert_eq!(counts(&mut session).await, expected);

        let claim = session.claim_one(process).await;
        session.call(&format!("release_step({task}, 0, 'x', 'y')")).await;
        session.finish(process, &[completed(&claim)], 0).await;
        expected["attempts_released"] = json!(1);
        assert_eq!(counts(&mut session).await, expected, "a stale outcome counts nothing");

        let claim = session.claim_one(process).await;
        session.finish(process, &[failed_for_good(&claim)], 0).await;
        session.call(&format!("complete_step({task}, 0, '{{}}', 'x', 'y')")).await;
        expected = json!({"created": 1, "failed": 2, "completed": 1, "in_complete": 1, "attempts_failed": 2,
                          "attempts_released": 1});
        assert_eq!(counts(&mut session).await, expected, "it ended with an error twice");

        let cancelled = session.create(&one, json!({})).await;
        session.claim_one(process).await;
        session.call(&format!("cancel_task({cancelled}, 'x', 'y')")).await;
        let resolved = session.create(&one, json!({})).await;
        let claim = session.claim_one(process).await;
        session.finish(process, &[failed_for_good(&claim)], 0).await;
        session.call(&format!("resolve_task({resolved}, 'x', 'y')")).await;
        expected = json!({"created": 3, "failed": 3, "completed": 1, "cancelled": 1, "resolved": 1, "in_complete": 1,
                          "in_cancelled": 1, "in_resolved": 1, "attempts_failed": 3, "attempts_released": 2});
        assert_eq!(counts(&mut session).await, expected);
    });
}

#[test]
fn retention_keeps_totals_and_lowers_the_states() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        create_one_in_each_state(&mut session, &world).await;
        session.at("1 hour").await;
        session.call("prune('1 minute', null, 100, true)").await;
        assert_eq!(counts(&mut session).await["in_complete"], 1, "a dry run removes nothing");
        session.call("prune('1 minute', null, 100, false)").await;
        let expected = json!({"created": 5, "completed": 1, "failed": 2, "cancelled": 1, "resolved": 1,
                              "in_pending": 1, "attempts_completed": 1, "attempts_failed": 2});
        assert_eq!(counts(&mut session).await, expected);
    });
}

#[test]
fn sweeps_fold_counters_without_changing_their_sum() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        for _ in 0..3 {
            session.create(&one, json!({})).await;
            let claim = session.claim_one(process).await;
            session.finish(process, &[completed(&claim)], 0).await;
        }
        let two = register(&world, &workflow("two", &[("s", &[])])).await;
        session.create(&two, json!({})).await;
        session
            .run("insert into tasker_counts (stats) values ('{\"stale\": 1}'), ('{\"stale\": 2, \"claim_us\": 7}')")
            .await;
        let before = (counts(&mut session).await, session.call("process_stats()").await);
        assert_eq!(before.1["totals"], json!({"stale": 3, "claim_us": 7}));
        // A row that another session has locked stays as it is.
        let mut other = Session::open(&world).await;
        other.run("begin; select from tasker_counts where id = (select min(id) from tasker_counts) for update").await;
        session.call("sweep(null, 100)").await;
        assert_eq!(session.count("tasker_counts").await, 4);
        other.run("rollback").await;
        session.call("sweep(null, 100)").await;
        assert_eq!(session.count("tasker_counts").await, 3, "one row for each workflow, one for processes");
        assert_eq!((counts(&mut session).await, session.call("process_stats()").await), before);
        let rows = "select json_agg(c order by id) from tasker_counts c";
        let folded = session.one(rows).await;
        session.call("sweep(null, 100)").await;
        assert_eq!(session.one(rows).await, folded, "nothing is written while nothing happens");
    });
}

#[test]
fn what_processes_counted_outlives_them() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let (leaving, dying, living) =
            (session.process("*").await, session.process("*").await, session.process("*").await);
        for process in [leaving, dying, living] {
            let stats = r#"{"threads": 5, "broken": 2, "stale": 10}"#;
            session.call(&format!("heartbeat({process}, '[]', null, '{stats}')")).await;
        }
        session.call(&format!("heartbeat({living}, '[]')")).await;
        let expected = json!({"totals": {"stale": 30}, "threads": 15, "broken": 2});
        assert_eq!(session.call("process_stats()").await, expected, "a heartbeat without stats changes none");
        session.call(&format!("deregister_process({leaving}, '{{\"stale\": 11}}')")).await;
        session.at("1 minute").await;
        session.call(&format!("heartbeat({living}, '[]')")).await;
        let expected = json!({"totals": {"stale": 31}, "threads": 5, "broken": 2});
        assert_eq!(session.call("process_stats()").await, expected, "the silent one has no threads");
        session.call("sweep(null, 100)").await;
        let entry = quoted(&json!({"id": 7, "name": "n", "hostname": "h", "pid": 1, "queues": ["*"],
                                   "heartbeat_timeout_ms": 20_000, "lease_grace_ms": 1000}));
        session.call(&format!("register_process({entry}, '{{\"process\": {living}, \"held\": []}}')")).await;
        assert_eq!(session.count("tasker_processes").await, 1);
        assert_eq!(session.call("process_stats()").await["totals"], json!({"stale": 31}));
        session.call("sweep(null, 100)").await;
        assert_eq!(session.call("process_stats()").await["totals"], json!({"stale": 31}), "when folded");
    });
}

#[test]
fn a_recount_corrects_the_states_and_keeps_the_totals() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        create_one_in_each_state(&mut session, &world).await;
        // As after an upgrade from a version that did not count.
        session.run("truncate tasker_counts").await;
        let difference =
            |state: &str| json!({"namespace": "default", "workflow": "one", "state": state, "counted": 0, "actual": 1});
        let expected = json!(["cancelled", "complete", "error", "pending", "resolved_manually"].map(difference));
        assert_eq!(session.call("recount_tasks(true)").await, expected);
        assert_eq!(session.call("recount_tasks()").await, expected);
        let by_state = json!({"in_pending": 1, "in_complete": 1, "in_error": 1, "in_cancelled": 1, "in_resolved": 1});
        assert_eq!(counts(&mut session).await, by_state);
        assert_eq!(session.call("recount_tasks()").await, json!([]));
        session.run("update tasker_counts set reopened = reopened + 5").await;
        session.call("recount_tasks()").await;
        assert_eq!(counts(&mut session).await, by_state, "counted too many");
    });
}

#[test]
fn a_repair_moves_the_task_to_its_counted_state() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let task = session.create(&one, json!({})).await;
        let claim = session.claim_one(process).await;
        session.finish(process, &[completed(&claim)], 0).await;
        session.run("update tasker_workflow_steps set state = 'pending'").await;
        session.call(&format!("repair_task({task}, 'x', 'y')")).await;
        let expected = json!({"created": 1, "completed": 1, "attempts_completed": 1, "in_pending": 1});
        assert_eq!(counts(&mut session).await, expected);
        session.run("update tasker_workflow_steps set state = 'error'").await;
        session.call(&format!("repair_task({task}, 'x', 'y')")).await;
        assert_eq!(counts(&mut session).await["in_error"], 1);
    });
}
