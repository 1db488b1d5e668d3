//! Each function is all or nothing: it is cut off at every single write, by an error and by the end of its backend, and the
//! database holds what it held before; then it is called again and succeeds.

use std::collections::BTreeSet;

use serde_json::{json, Value};
use sqlx::AssertSqlSafe;

use crate::session::{
    completed, content, failed, failed_for_good, finish, held_by, key, on, quoted, register, request, stop_the_clock,
    tables, Session,
};
use crate::support::{with, workflow, World, DIAMOND};

/// The key of the lock at which a write waits to be killed.
const GATE: i32 = 4711;

/// Counts every row that is written, and cuts the statement off at the one whose number `test.cut_at` names: with an error, or
/// (with a minus) by waiting until the backend is terminated. The count is the transaction's.
async fn install_the_knife(world: &World, session: &mut Session) {
    session
        .run(&format!(
            "create function cut() returns trigger language plpgsql as $$ \
             declare \
               v_writes integer := coalesce(nullif(current_setting('test.writes', true), ''), '0')::integer + 1; \
               v_cut_at integer := coalesce(nullif(current_setting('test.cut_at', true), ''), '0')::integer; \
             begin \
               perform set_config('test.writes', v_writes::text, true); \
               if v_cut_at = v_writes then \
                 raise exception using errcode = 'TCCUT', message = format('%s of %s', tg_op, tg_table_name); \
               elsif v_cut_at = -v_writes then \
                 perform pg_advisory_xact_lock({GATE}); \
               end if; \
               return coalesce(new, old); \
             end $$"
        ))
        .await;
    for table in tables(world).await {
        session
            .run(&format!(
                "create trigger cut before insert or update or delete on {table} for each row execute function cut()"
            ))
            .await;
    }
}

/// A call, and the hour at which it is made.
struct Operation {
    name: &'static str,
    call: String,
    at: &'static str,
}

/// A database in which every function has something to do, and a call of each that writes.
async fn lay(world: &World, session: &mut Session) -> Vec<Operation> {
    stop_the_clock(world).await;
    let diamond = |version: &str| {
        let mut definition = with(workflow("diamond", DIAMOND), 2, "queue", json!("other"));
        definition["version"] = json!(version);
        for step in 0..4 {
            definition["steps"][step]["retry"] =
                json!({"max_attempts": 2, "backoff": "fixed", "base": "1h", "jitter": 0});
            definition["steps"][step]["config"] = json!({"version": version});
        }
        definition
    };
    // What retention removes: an old version, its tasks, with keys, attempts and an event.
    session.at("-60 days").await;
    for version in ["1", "2"] {
        let workflow = crate::session::compile(&diamond(version));
        session.call(&format!("register_workflow('{}')", workflow.definition_json())).await;
        session.at("-50 days").await;
    }
    let diamond = register(world, &diamond("2")).await;
    let process = session.process("*").await;
    let old = session.create(&diamond, json!({"idempotency_key": "old"})).await;
    session.complete_all(process).await;
    session.run(&format!("select tasker_core_v1.record_event({old}, null, 'x', 'y', 'z')")).await;
    session.call(&format!("deregister_process({process})")).await;
    session.at("0").await;

    let process = session.process("*").await;
    let idle = session.process("nothing").await;
    let silent = session.process("*").await;
    // Diamonds with their roots done: two with both branches claimed, one that waits for a retry, one that has failed in part.
    let tasks = session.create_all(&vec![request(&diamond, json!({})); 4]).await;
    let roots: Vec<Value> = session.claim(process, "*", 4).await.iter().map(completed).collect();
    session.finish(process, &roots, 0).await;
    let claims = session.claim(process, "*", 7).await;
    assert_eq!(claims.len(), 7);
    let of = |task: i64, step: &str| {
        let claims: Vec<Value> = claims.iter().filter(|claim| claim["task_id"] == task).cloned().collect();
        on(&claims, step).clone()
    };
    let failing = [failed_for_good(&of(tasks[3], "b")), completed(&of(tasks[2], "b")), failed(&of(tasks[2], "c"))];
    session.finish(process, &failing, 0).await;
    let broken = session.create(&diamond, json!({})).await;
    let root = session.claim(process, "default", 2).await;
    let root = root.iter().find(|claim| claim["task_id"] == broken).unwrap().clone();
    session.finish(process, &[failed_for_good(&root)], 0).await;
    let lost = session.create_all(&vec![request(&diamond, json!({})); 2]).await;
    let doomed = session.claim(silent, "default", 2).await;
    assert_eq!(doomed.len(), 2);
    session.create_all(&vec![request(&diamond, json!({"priority": 1})); 2]).await;
    session.run(&format!("update tasker_processes set heartbeat_timeout = '1 day' where id = {process}")).await;
    session
        .run(&format!(
            "update tasker_claimed_steps set deadline = deadline + interval '1 day' where process_id = {process}"
        ))
        .await;
    // Durable subscriptions: one that has been given an event, and one whose next event is being tried again.
    session
        .run(&format!(
            "insert into tasker_subscriptions (name, events, cursor_id, removed_id, mark_id, mark_xid, process_id, failures, created_at) \
               select name, '{{task.created,task.cancelled,step.completed}}', 1, 0, 4, 0, {process}, failures, now() \
               from (values ('all', 0), ('failing', 2)) as given (name, failures); \
             insert into tasker_outbox_events (name, uuid, occurred_at, payload) \
               select 'task.cancelled', gen_random_uuid(), now() - (6 - n) * interval '2 days', '{{}}' from generate_series(1, 4) as n"
        ))
        .await;
    session.run("update tasker_workflow_steps set pending_parents = 1 where position = 3 and task_id = (select max(id) from tasker_tasks)").await;
    assert_eq!(session.task_state(broken).await, "error");

    let mixed = [
        completed(&of(tasks[0], "b")),
        completed(&of(tasks[0], "c")),
        failed(&of(tasks[1], "b")),
        failed_for_good(&of(tasks[1], "c")),
    ];
    let mut new_version: Value = serde_json::from_str(diamond.definition_json()).unwrap();
    new_version["version"] = json!("3");
    let requests = json!([
        request(&diamond, json!({"idempotency_key": "k"})),
        request(&diamond, json!({"wait_until": "2031-01-01T00:00:00Z"})),
        request(&diamond, json!({"idempotency_key": "old"}))
    ]);
    let entry = json!({"name": "n", "hostname": "h", "pid": 7, "queues": ["a"], "heartbeat_timeout_ms": 1, "lease_grace_ms": 1});
    let newest = session.one("select max(id) from tasker_tasks").await;
    let held = held_by(&claims[..4]);
    let mut operations: Vec<Operation> = Vec::new();
    let mut add = |name: &'static str, at: &'static str, call: String| operations.push(Operation { name, call, at });
    add("register_workflow", "0", format!("register_workflow({})", quoted(&new_version)));
    add("create_tasks", "0", format!("create_tasks({})", quoted(&requests)));
    add("claim_steps", "0", format!("claim_steps({process}, '{{*}}', 4)"));
    add("claim_steps", "0", format!("claim_steps({idle}, '{{nothing}}', 4)"));
    add("finish_steps", "0", finish(process, &mixed, 3));
    add("release_steps", "0", format!("release_steps({process}, {held}, '0', 'shutdown', true)"));
    add("release_steps", "0", format!("release_steps({process}, {held}, '1 h', 'unknown_handler')"));
    add("register_process", "0", format!("register_process({})", quoted(&entry)));
    let former = json!({"process": process, "system": null, "held": claims[..2].iter().map(key).collect::<Value>()});
    let system = "jsonb_set(FORMER, '{system}', to_jsonb(tasker_core_v1.server_identity()->>'system'))";
    let former = system.replace("FORMER", &quoted(&former));
    add("register_process", "0", format!("register_process({}, {former})", quoted(&entry)));
    add("deregister_process", "0", format!("deregister_process({process})"));
    add("heartbeat", "2 hours", format!("heartbeat({silent}, {})", held_by(&doomed[..1])));
    add("sweep", "2 hours", "sweep(null, 100)".to_owned());
    add("cancel_task", "0", format!("cancel_task({}, 'x', 'y')", tasks[0]));
    add("cancel_task", "0", format!("cancel_task({}, 'x', 'y')", tasks[2]));
    add("cancel_task", "0", format!("cancel_task({}, 'x', 'y')", tasks[3]));
    add("repair_task", "0", format!("repair_task({newest}, 'x', 'y')"));
    add("resolve_step", "0", format!("resolve_step({}, 1, 'x', 'y')", tasks[3]));
    add("complete_step", "0", format!("complete_step({broken}, 0, '{{}}', 'x', 'y')"));
    add("update_result", "0", format!("update_result({}, 1, '{{}}', 'x', 'y')", tasks[2]));
    add("retry_step", "0", format!("retry_step({}, 1, 'x', 'y')", tasks[3]));
    add("retry_task", "0", format!("retry_task({broken}, 'x', 'y')"));
    add("resolve_task", "0", format!("resolve_task({broken}, 'x', 'y')"));
    add(
        "register_subscriptions",
        "0",
        format!(
            "register_subscriptions({})",
            quoted(&json!([{"name": "new", "events": []}, {"name": "all", "events": ["a"]}]))
        ),
    );
    add("store_events", "0", format!("store_events({})", quoted(&json!([{"name": "task.cancelled", "payload": {}}]))));
    add("fetch_events", "0", format!("fetch_events({process}, 'all', 1)"));
    add("ack_events", "0", format!("ack_events({process}, 'failing', pg_current_xact_id()::text::bigint, 0, '{{}}', '{{\"backoff\": \"none\"}}')"));
    add("skip_event", "0", "skip_event('failing', 'x', 'y')".to_owned());
    add("drop_subscription", "0", "drop_subscription('all')".to_owned());
    add("prune", "0", "prune('5 days', null, 100, false)".to_owned());
    assert_eq!(session.state(lost[0], "a").await, "in_progress");
    operations
}

/// How many rows a call writes, and which tables; it is undone.
async fn writes_of(session: &mut Session, operation: &Operation) -> i32 {
    session.run("begin; set local test.cut_at = '0'").await;
    session.call(&operation.call).await;
    let writes = session.one("select current_setting('test.writes')::integer").await;
    session.run("rollback").await;
    writes.as_i64().unwrap().try_into().unwrap()
}

#[test]
fn a_function_that_fails_at_any_write_leaves_no_trace() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let operations = lay(&world, &mut session).await;
        install_the_knife(&world, &mut session).await;
        let before = content(&world).await;
        let mut met = BTreeSet::new();
        for operation in &operations {
            session.at(operation.at).await;
            let writes = writes_of(&mut session, operation).await;
            assert!(writes > 0, "{} has nothing to do", operation.name);
            for cut_at in 1..=writes {
                session.run(&format!("set test.cut_at = '{cut_at}'")).await;
                let refusal = session.refusal(&operation.call).await;
                assert_eq!(refusal.code, "TCCUT", "{}: {refusal:?}", operation.call);
                met.insert(refusal.message);
                assert_eq!(
                    content(&world).await,
                    before,
                    "{} was cut off at write {cut_at} of {writes}",
                    operation.call
                );
            }
            // And called again, it does the whole.
            assert_eq!(writes_of(&mut session, operation).await, writes);
        }
        // Every kind of write there is has been cut off.
        let kinds = [
            "INSERT of tasker_claimed_steps",
            "UPDATE of tasker_claimed_steps",
            "DELETE of tasker_claimed_steps",
            "INSERT of tasker_ready_steps",
            "DELETE of tasker_ready_steps",
            "INSERT of tasker_waiting_steps",
            "DELETE of tasker_waiting_steps",
            "INSERT of tasker_tasks",
            "UPDATE of tasker_tasks",
            "DELETE of tasker_tasks",
            "INSERT of tasker_workflow_steps",
            "UPDATE of tasker_workflow_steps",
            "DELETE of tasker_workflow_steps",
            "INSERT of tasker_step_attempts",
            "DELETE of tasker_step_attempts",
            "INSERT of tasker_task_inputs",
            "DELETE of tasker_task_inputs",
            "INSERT of tasker_idempotency_keys",
            "DELETE of tasker_idempotency_keys",
            "INSERT of tasker_task_events",
            "DELETE of tasker_task_events",
            "INSERT of tasker_outbox_events",
            "DELETE of tasker_outbox_events",
            "INSERT of tasker_subscriptions",
            "UPDATE of tasker_subscriptions",
            "DELETE of tasker_subscriptions",
            "INSERT of tasker_processes",
            "UPDATE of tasker_processes",
            "DELETE of tasker_processes",
            "INSERT of tasker_workflow_versions",
            "DELETE of tasker_workflow_versions",
            "INSERT of tasker_step_definitions",
            "DELETE of tasker_step_definitions",
        ];
        assert_eq!(met, kinds.map(str::to_owned).into());
    });
}

#[test]
fn a_killed_backend_leaves_no_trace_and_can_be_retried() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let operations = lay(&world, &mut session).await;
        install_the_knife(&world, &mut session).await;
        let before = content(&world).await;
        session.run(&format!("select pg_advisory_lock({GATE})")).await;
        for operation in &operations {
            session.at(operation.at).await;
            let writes = writes_of(&mut session, operation).await;
            for cut_at in BTreeSet::from([1, (writes + 1) / 2, writes]) {
                let mut killed = Session::open(&world).await;
                killed.at(operation.at).await;
                killed.run(&format!("set test.cut_at = '-{cut_at}'")).await;
                let (backend, call) = (killed.backend, operation.call.clone());
                let dying = tokio::spawn(async move {
                    let sql = format!("select to_json(tasker_core_v1.{call})::text");
                    sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut killed.connection).await.map(drop)
                });
                crate::session::waits_for(&world, backend, session.backend).await;
                session.run(&format!("select pg_terminate_backend({backend})")).await;
                assert!(dying.await.unwrap().is_err(), "{} was killed", operation.name);
                let gone = || async {
                    let sql = "select count(*) from pg_stat_activity where pid = $1";
                    let left: i64 = sqlx::query_scalar(sql).bind(backend).fetch_one(&world.pool).await.unwrap();
                    (left == 0).then_some(())
                };
                world.eventually(gone).await;
                assert_eq!(
                    content(&world).await,
                    before,
                    "{} was killed at write {cut_at} of {writes}",
                    operation.call
                );
            }
            assert_eq!(writes_of(&mut session, operation).await, writes, "{} is called again", operation.name);
        }
    });
}

#[test]
fn a_rejection_leaves_earlier_work_committable() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        session.run("begin").await;
        let task = session.create(&diamond, json!({})).await;
        session.run("savepoint before").await;
        session.refused("TC003", "cancel_task(4711, 'x', 'y')").await;
        session.run("rollback to savepoint before; commit").await;
        assert_eq!(session.state(task, "a").await, "ready");
        session.run("begin").await;
        session.call(&format!("cancel_task({task}, 'x', 'y')")).await;
        session.run("rollback").await;
        assert_eq!(session.state(task, "a").await, "ready");
        assert!(world.broken_invariants().await.is_empty());
    });
}
