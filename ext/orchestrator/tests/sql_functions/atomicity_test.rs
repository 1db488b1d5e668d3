//! Each function is atomic: when it fails at any of its writes, by an error or because its backend is killed, the
//! database is unchanged, and the next call succeeds.

use std::collections::BTreeSet;

use serde_json::{json, Value};
use sqlx::AssertSqlSafe;
use tasker_orchestrator::Workflow;

use crate::session::{
    completed, content, failed, failed_for_good, held_by, key, quoted, register, request, stop_the_clock, tables,
    Session,
};
use crate::support::{with, workflow, World, DIAMOND};

/// The key of the lock at which a write waits until its backend is killed.
const GATE: i32 = 4711;

/// Installs triggers that count the rows that a transaction writes, and stop it at the one whose number is
/// `test.cut_at`: by an error, or, if it is negative, by waiting until the backend is terminated.
async fn install_cutting_triggers(world: &World, session: &mut Session) {
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

/// A call, and the time at which it is made.
struct Operation {
    name: &'static str,
    call: String,
    at: &'static str,
}

impl Operation {
    fn new(name: &'static str, arguments: &str) -> Self {
        Self { name, call: format!("{name}({arguments})"), at: "0" }
    }

    fn at(self, at: &'static str) -> Self {
        Self { at, ..self }
    }
}

/// A database in which every function has something to do.
struct Scene {
    diamond: Workflow,
    /// Holds the claims.
    process: i64,
    /// Serves a queue without steps.
    idle: i64,
    /// Has not sent a heartbeat for long.
    silent: i64,
    /// Diamonds with their roots done: two with both branches claimed, one that waits for a retry, one that has failed
    /// in part.
    tasks: Vec<i64>,
    /// Claims of `process` on the branches of the first two tasks, and others.
    claims: Vec<Value>,
    /// A task whose root has failed.
    broken: i64,
    /// Claims of `silent`.
    doomed: Vec<Value>,
    newest: i64,
}

fn diamond(version: &str) -> Value {
    let mut definition = with(workflow("diamond", DIAMOND), 2, "queue", json!("other"));
    definition["version"] = json!(version);
    for step in 0..4 {
        definition["steps"][step]["retry"] = json!({"max_attempts": 2, "backoff": "fixed", "base": "1h", "jitter": 0});
        definition["steps"][step]["config"] = json!({"version": version});
    }
    definition
}

/// Creates what retention removes: an old version, and a task with its key, attempts and an event. Returns the newest
/// version.
async fn create_old_rows(world: &World, session: &mut Session) -> Workflow {
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
    diamond
}

/// Creates durable subscriptions: one that fetched an event, and one whose next event is being tried again.
async fn create_subscriptions(session: &mut Session, process: i64) {
    session
        .run(&format!(
            "insert into tasker_subscriptions (name, events, cursor_id, removed_id, mark_id, mark_xid, process_id, failures, created_at) \
               select name, '{{task.created,task.cancelled,step.completed}}', 1, 0, 4, 0, {process}, failures, now() \
               from (values ('all', 0), ('failing', 2)) as given (name, failures); \
             insert into tasker_outbox_events (name, uuid, occurred_at, payload) \
               select 'task.cancelled', gen_random_uuid(), now() - (6 - n) * interval '2 days', '{{}}' from generate_series(1, 4) as n"
        ))
        .await;
}

impl Scene {
    async fn prepare(world: &World, session: &mut Session) -> Self {
        stop_the_clock(world).await;
        let diamond = create_old_rows(world, session).await;
        let process = session.process("*").await;
        let idle = session.process("nothing").await;
        let silent = session.process("*").await;
        let tasks = session.create_all(&vec![request(&diamond, json!({})); 4]).await;
        let roots: Vec<Value> = session.claim(process, "*", 4).await.iter().map(completed).collect();
        session.finish(process, &roots, 0).await;
        let claims = session.claim(process, "*", 7).await;
        assert_eq!(claims.len(), 7);
        let failing = [
            failed_for_good(on_task(&claims, tasks[3], "b")),
            completed(on_task(&claims, tasks[2], "b")),
            failed(on_task(&claims, tasks[2], "c")),
        ];
        session.finish(process, &failing, 0).await;
        let broken = session.create(&diamond, json!({})).await;
        let root = session.claim(process, "default", 2).await;
        session.finish(process, &[failed_for_good(on_task(&root, broken, "a"))], 0).await;
        let lost = session.create_all(&vec![request(&diamond, json!({})); 2]).await;
        let doomed = session.claim(silent, "default", 2).await;
        assert_eq!(doomed.len(), 2);
        session.create_all(&vec![request(&diamond, json!({"priority": 1})); 2]).await;
        session
            .run(&format!(
                "update tasker_processes set heartbeat_timeout = '1 day' where id = {process}; \
                 update tasker_claimed_steps set deadline = deadline + interval '1 day' where process_id = {process}"
            ))
            .await;
        create_subscriptions(session, process).await;
        session.run("update tasker_workflow_steps set pending_parents = 1 where position = 3 and task_id = (select max(id) from tasker_tasks)").await;
        assert_eq!(session.task_state(broken).await, "error");
        assert_eq!(session.state(lost[0], "a").await, "in_progress");
        let newest = session.one("select max(id) from tasker_tasks").await.as_i64().unwrap();
        Self { diamond, process, idle, silent, tasks, claims, broken, doomed, newest }
    }

    /// A call of each function that writes.
    fn operations(&self) -> Vec<Operation> {
        [self.of_workers(), self.of_processes(), self.of_operators(), self.of_the_outbox()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn of_workers(&self) -> Vec<Operation> {
        let Self { diamond, process, idle, .. } = self;
        let mut new_version: Value = serde_json::from_str(diamond.definition_json()).unwrap();
        new_version["version"] = json!("3");
        let requests = json!([
            request(diamond, json!({"idempotency_key": "k"})),
            request(diamond, json!({"wait_until": "2031-01-01T00:00:00Z"})),
            request(diamond, json!({"idempotency_key": "old"}))
        ]);
        let claim = |task: usize, step: &str| on_task(&self.claims, self.tasks[task], step);
        let mixed =
            [completed(claim(0, "b")), completed(claim(0, "c")), failed(claim(1, "b")), failed_for_good(claim(1, "c"))];
        let held = held_by(&self.claims[..4]);
        vec![
            Operation::new("register_workflow", &quoted(&new_version)),
            Operation::new("create_tasks", &quoted(&requests)),
            Operation::new("claim_steps", &format!("{process}, '{{*}}', 4")),
            Operation::new("claim_steps", &format!("{idle}, '{{nothing}}', 4")),
            Operation::new("finish_steps", &format!("{process}, {}, 3", quoted(&json!(mixed)))),
            Operation::new("release_steps", &format!("{process}, {held}, '0', 'shutdown', true")),
            Operation::new("release_steps", &format!("{process}, {held}, '1 h', 'unknown_handler'")),
        ]
    }

    fn of_processes(&self) -> Vec<Operation> {
        let Self { process, silent, .. } = self;
        let entry = json!({"name": "n", "hostname": "h", "pid": 7, "queues": ["a"], "heartbeat_timeout_ms": 1, "lease_grace_ms": 1});
        let entry = quoted(&entry);
        let held: Value = self.claims[..2].iter().map(key).collect();
        let former = quoted(&json!({"process": process, "system": null, "held": held}));
        let system = "to_jsonb(tasker_core_v1.server_identity()->>'system')";
        vec![
            Operation::new("register_process", &entry),
            Operation::new("register_process", &format!("{entry}, jsonb_set({former}, '{{system}}', {system})")),
            Operation::new("deregister_process", &process.to_string()),
            Operation::new("heartbeat", &format!("{silent}, {}", held_by(&self.doomed[..1]))).at("2 hours"),
            Operation::new("sweep", "null, 100").at("2 hours"),
        ]
    }

    fn of_operators(&self) -> Vec<Operation> {
        let Self { tasks, broken, newest, .. } = self;
        vec![
            Operation::new("cancel_task", &format!("{}, 'x', 'y'", tasks[0])),
            Operation::new("cancel_task", &format!("{}, 'x', 'y'", tasks[2])),
            Operation::new("cancel_task", &format!("{}, 'x', 'y'", tasks[3])),
            Operation::new("repair_task", &format!("{newest}, 'x', 'y'")),
            Operation::new("resolve_step", &format!("{}, 1, 'x', 'y'", tasks[3])),
            Operation::new("complete_step", &format!("{broken}, 0, '{{}}', 'x', 'y'")),
            Operation::new("update_result", &format!("{}, 1, '{{}}', 'x', 'y'", tasks[2])),
            Operation::new("retry_step", &format!("{}, 1, 'x', 'y'", tasks[3])),
            Operation::new("retry_task", &format!("{broken}, 'x', 'y'")),
            Operation::new("resolve_task", &format!("{broken}, 'x', 'y'")),
        ]
    }

    fn of_the_outbox(&self) -> Vec<Operation> {
        let process = self.process;
        let subscriptions = json!([{"name": "new", "events": []}, {"name": "all", "events": ["a"]}]);
        let xact = "pg_current_xact_id()::text::bigint";
        vec![
            Operation::new("register_subscriptions", &quoted(&subscriptions)),
            Operation::new("store_events", &quoted(&json!([{"name": "task.cancelled", "payload": {}}]))),
            Operation::new("fetch_events", &format!("{process}, 'all', 1")),
            Operation::new(
                "ack_events",
                &format!("{process}, 'failing', {xact}, 0, '{{}}', '{{\"backoff\": \"none\"}}'"),
            ),
            Operation::new("skip_event", "'failing', 'x', 'y'"),
            Operation::new("drop_subscription", "'all'"),
            Operation::new("prune", "'5 days', null, 100, false"),
        ]
    }
}

/// The claim on a task's step of that name.
fn on_task<'a>(claims: &'a [Value], task: i64, step: &str) -> &'a Value {
    claims.iter().find(|claim| claim["task_id"] == task && claim["step"] == step).expect("the step is claimed")
}

/// The number of rows that a call writes. The call is rolled back.
async fn writes_of(session: &mut Session, operation: &Operation) -> i32 {
    session.run("begin; set local test.cut_at = '0'").await;
    session.call(&operation.call).await;
    let writes = session.one("select current_setting('test.writes')::integer").await;
    session.run("rollback").await;
    writes.as_i64().unwrap().try_into().unwrap()
}

/// Every kind of write that the functions make.
const WRITES: [&str; 35] = [
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
    "INSERT of tasker_counts",
    "DELETE of tasker_counts",
    "INSERT of tasker_workflow_versions",
    "DELETE of tasker_workflow_versions",
    "INSERT of tasker_step_definitions",
    "DELETE of tasker_step_definitions",
];

#[test]
fn a_function_that_fails_at_any_write_leaves_no_trace() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let operations = Scene::prepare(&world, &mut session).await.operations();
        install_cutting_triggers(&world, &mut session).await;
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
        assert_eq!(met, WRITES.map(str::to_owned).into());
    });
}

#[test]
fn a_killed_backend_leaves_no_trace_and_can_be_retried() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let operations = Scene::prepare(&world, &mut session).await.operations();
        install_cutting_triggers(&world, &mut session).await;
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
