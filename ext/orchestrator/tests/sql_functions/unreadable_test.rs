//! Steps that cannot be claimed because a row of their task is damaged: they are set aside, and block no other step.

use serde_json::{json, Value};
use sqlx::{Connection, Executor, PgConnection};
use tasker_orchestrator::Workflow;

use crate::session::{completed, content, register, stop_the_clock, Session};
use crate::support::{workflow, World};

const DAMAGED: &str = "XX001";

/// Time and reason of every waiting step.
const WAITING: &str = "select task_id, position, run_at, reason from tasker_waiting_steps order by 1, 2";

async fn one(world: &World) -> Workflow {
    register(world, &workflow("one", &[("s", &[])])).await
}

/// Tasks of one ready step each; some have damaged rows.
async fn tasks(world: &World, session: &mut Session, damaged: &[bool]) -> Vec<i64> {
    let one = one(world).await;
    let mut tasks = Vec::new();
    for damaged in damaged {
        let task = session.create(&one, json!({})).await;
        if *damaged {
            world.damage(task).await;
        }
        tasks.push(task);
    }
    tasks
}

fn waiting(task: i64, run_at: &str, reason: &str) -> Value {
    json!({"task_id": task, "position": 0, "run_at": run_at, "reason": reason})
}

fn claimed(response: &Value) -> Vec<i64> {
    response["claims"].as_array().unwrap().iter().map(|claim| claim["task_id"].as_i64().unwrap()).collect()
}

#[test]
fn a_step_of_a_damaged_task_is_set_aside_and_others_are_claimed() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let tasks = tasks(&world, &mut session, &[true, false, true, false]).await;
        for together in ["4, 1000", "1, 1000", "1, 0"] {
            session.refused(DAMAGED, &format!("claim_steps({process}, '{{*}}', {together})")).await;
        }
        let alone = session.call(&format!("claim_steps({process}, '{{*}}', 1, 0, true)")).await;
        assert_eq!((&alone["versions"], &alone["claims"]), (&json!({}), &json!([])));
        let step = &alone["set_aside"][0];
        assert_eq!((&step["task_id"], &step["position"]), (&json!(tasks[0]), &json!(0)));
        let error = &step["error"];
        assert_eq!((&error["class"], &error["code"]), (&json!("TaskerCore::DatabaseError"), &json!(DAMAGED)));
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("the database cannot read data needed for a claim: missing chunk"), "{message}");

        let alone = session.call(&format!("claim_steps({process}, '{{default}}', 1, 0, true)")).await;
        assert_eq!((claimed(&alone), &alone["set_aside"]), (vec![tasks[1]], &json!([])));
        let several = session.call(&format!("claim_steps({process}, '{{default}}', 10, 0, true)")).await;
        assert_eq!((claimed(&several), &several["set_aside"][0]["task_id"]), (vec![tasks[3]], &json!(tasks[2])));
        assert_eq!(session.count("tasker_ready_steps").await, 0);
        let later = "2030-01-01T12:05:00+00:00";
        let expected = [waiting(tasks[0], later, "unreadable"), waiting(tasks[2], later, "unreadable")];
        assert_eq!(session.rows(WAITING).await, expected);
        assert_eq!(session.one("select unreadable_steps from tasker_core_v1.system_health()").await, 2);
        let state = format!("select state, attempts, waiting_reason, last_error->>'code' as code from tasker_core_v1.step_states(array[{}])", tasks[0]);
        let expected = json!([{"state": "waiting", "attempts": 0, "waiting_reason": "unreadable", "code": DAMAGED}]);
        assert_eq!(json!(session.rows(&state).await), expected);
        let status = format!("select execution_status from tasker_core_v1.task_execution_context({})", tasks[0]);
        assert_eq!(session.one(&status).await, "waiting_for_repair");
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
    });
}

#[test]
fn only_what_the_database_cannot_read_is_set_aside() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        tasks(&world, &mut session, &[false]).await;
        let before = content(&world).await;
        session.refused("TC005", "claim_steps(4711, '{*}', 1, 0, true)").await;
        assert_eq!(content(&world).await, before, "a process that is not registered changes nothing");
        let mut other = PgConnection::connect(&world.url).await.unwrap();
        let mut held = other.begin().await.unwrap();
        held.execute("lock table tasker_workflow_steps").await.unwrap();
        session.run("set statement_timeout = '100ms'").await;
        session.refused("57014", &format!("claim_steps({process}, '{{*}}', 1, 0, true)")).await;
        session.run("set statement_timeout = 0; set lock_timeout = '100ms'").await;
        session.refused("55P03", &format!("claim_steps({process}, '{{*}}', 1, 0, true)")).await;
        held.rollback().await.unwrap();
        assert_eq!(content(&world).await, before, "a time-out says nothing about the step");
        session
            .run(
                "create or replace function tasker_core_v1.insert_claims(p_process bigint, p_tasks bigint[], \
                   p_positions integer[], p_ready_at timestamptz[], p_inline_bytes integer default null, \
                   p_dispatch text default null, p_start_timeout interval default null) returns json \
                 language plpgsql as $$ begin raise exception 'missing chunk' using errcode = 'XX001'; end $$",
            )
            .await;
        session.refused(DAMAGED, &format!("claim_steps({process}, '{{*}}', 1, 0, true)")).await;
        assert_eq!(content(&world).await, before, "a claim for no step fails too");
    });
}

#[test]
fn errors_of_a_row_are_returned_and_all_others_raised() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        session.process("*").await;
        let task = tasks(&world, &mut session, &[false]).await[0];
        session
            .run(
                "create or replace function tasker_core_v1.insert_claims(p_process bigint, p_tasks bigint[], \
                   p_positions integer[], p_ready_at timestamptz[], p_inline_bytes integer default null, \
                   p_dispatch text default null, p_start_timeout interval default null) returns json \
                 language plpgsql as $$ begin \
                   raise exception 'why' using errcode = current_setting('test.code'); end $$",
            )
            .await;
        for code in ["22003", "23514", "54000", "XX000", "XX001", "XX002", "58030", "58P01"] {
            session.run(&format!("set test.code = '{code}'")).await;
            let error = session.call(&format!("claim_error({task}, 0)")).await;
            let message = "the database cannot read data needed for a claim: why";
            let expected = json!({"class": "TaskerCore::DatabaseError", "message": message, "code": code});
            assert_eq!(error, expected);
        }
        for code in ["57014", "55P03", "53100", "53200", "53400", "40001", "40P01", "58000", "42883"] {
            session.run(&format!("set test.code = '{code}'")).await;
            session.refused(code, &format!("claim_error({task}, 0)")).await;
        }
    });
}

#[test]
fn a_sweep_keeps_a_step_aside_until_what_is_damaged_is_repaired() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let damaged = tasks(&world, &mut session, &[true]).await[0];
        let one = one(&world).await;
        let scheduled = session.create(&one, json!({"wait_until": "2030-01-01T12:05:00Z"})).await;
        session.call(&format!("claim_steps({process}, '{{*}}', 1, 0, true)")).await;
        session.at("4 minutes").await;
        assert_eq!(session.call("sweep(null, 10, null, false)").await["due_steps"], 0);
        session.at("5 minutes").await;
        let swept = session.call("sweep(null, 10, null, false)").await;
        assert_eq!((&swept["due_steps"], &swept["ready_queues"]), (&json!(2), &json!(["default"])));
        assert_eq!(swept["next_due_ms"], json!(300_000), "it is checked again");
        assert_eq!(session.state(scheduled, "s").await, "ready", "the damaged one does not hold it up");
        assert_eq!(session.rows(WAITING).await, [waiting(damaged, "2030-01-01T12:10:00+00:00", "unreadable")]);
        world.restore_tags(damaged).await;
        session.at("10 minutes").await;
        assert_eq!(session.call("sweep(null, 10, null, false)").await["due_steps"], 1);
        assert_eq!(
            (session.state(damaged, "s").await.as_str(), session.count("tasker_claimed_steps").await),
            ("ready", 0)
        );
        session.call(&format!("heartbeat({process}, '[]')")).await;
        session.complete_all(process).await;
        assert_eq!(session.task_state(damaged).await, "complete");
        let error = format!("select last_error is null from tasker_core_v1.step_states(array[{damaged}])");
        assert_eq!(session.one(&error).await, true, "the error has gone with the wait");
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
    });
}

#[test]
fn a_sweep_of_one_step_sets_any_damaged_step_aside() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        session.process("*").await;
        let one = one(&world).await;
        let task = session.create(&one, json!({"wait_until": "2030-01-01T12:01:00Z"})).await;
        world.damage(task).await;
        session.at("1 minute").await;
        assert_eq!(session.call("sweep(null, 1, null, false)").await["due_steps"], 1);
        assert_eq!(session.rows(WAITING).await, [waiting(task, "2030-01-01T12:06:00+00:00", "unreadable")]);
        // Without a worker it is not known to be damaged: a claim will detect it.
        session.run("delete from tasker_processes").await;
        session.at("6 minutes").await;
        session.call("sweep(null, 1)").await;
        assert_eq!(session.state(task, "s").await, "ready");
    });
}

#[test]
fn operators_act_on_a_set_aside_step_as_on_any_waiting_one() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let tasks = tasks(&world, &mut session, &[true; 5]).await;
        session.call(&format!("claim_steps({process}, '{{*}}', 5, 0, true)")).await;
        assert_eq!(session.count("tasker_waiting_steps where reason = 'unreadable'").await, 5);
        let actions = [
            ("retry_step", ", 0", "ready"),
            ("cancel_task", "", "cancelled"),
            ("resolve_step", ", 0", "resolved_manually"),
        ];
        for ((action, position, state), task) in actions.into_iter().zip(&tasks) {
            session.call(&format!("{action}({task}{position}, 'why', 'who')")).await;
            assert_eq!(session.state(*task, "s").await, state, "{action}");
        }
        session.call(&format!("complete_step({}, 0, '{{}}', 'why', 'who')", tasks[3])).await;
        assert_eq!(session.task_state(tasks[3]).await, "complete");
        session.refused("TC004", &format!("release_step({}, 0, 'why', 'who')", tasks[4])).await;
        let kept = format!("select run_at, reason, error from tasker_waiting_steps where task_id = {}", tasks[4]);
        let before = session.rows(&kept).await;
        session.call(&format!("repair_task({}, 'why', 'who')", tasks[4])).await;
        assert_eq!(session.rows(&kept).await, before, "a repair of the task keeps time, reason and error");
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
        // Repaired and retried, a step is taken, and can be taken from its process.
        session.call(&format!("retry_step({}, 0, 'why', 'who')", tasks[4])).await;
        for task in &tasks {
            world.restore_tags(*task).await;
        }
        let claims = session.claim(process, "*", 10).await;
        assert_eq!(claims.len(), 2);
        session.call(&format!("release_step({}, 0, 'why', 'who')", tasks[4])).await;
        session.finish(process, &claims.iter().map(completed).collect::<Vec<_>>(), 0).await;
        assert_eq!(session.state(tasks[4], "s").await, "ready");
        assert_eq!(session.task_state(tasks[0]).await, "complete");
    });
}

#[test]
fn a_list_includes_tasks_whose_filtered_fields_are_unreadable() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = one(&world).await;
        let mut tasks = Vec::new();
        for (colour, number) in [("red", 1), ("red", 2), ("blue", 1), ("red", 1), ("blue", 2)] {
            // Tasks of one millisecond have no order.
            session.at(&format!("{} s", tasks.len())).await;
            let task = session.create(&one, json!({"tags": [colour], "input": {"n": number}})).await;
            tasks.push(task);
        }
        let find = |filter: Value, limit: i32| format!("find_tasks('{filter}', null, {limit}, 10)");
        world.damage(tasks[1]).await;
        world.damage(tasks[4]).await;
        let all = json!({"task_ids": tasks.iter().rev().collect::<Vec<_>>(), "next": null});
        assert_eq!(session.call(&find(json!({}), 10)).await, all, "tags are not read");
        let red = session.call(&find(json!({"tags": ["red"]}), 10)).await;
        let unreadable = json!({tasks[4].to_string(): ["tags"], tasks[1].to_string(): ["tags"]});
        let expected = json!({"task_ids": [tasks[4], tasks[3], tasks[1], tasks[0]], "next": null});
        assert_eq!((&red["task_ids"], &red["unreadable"]), (&expected["task_ids"], &unreadable));
        let page = session.call(&find(json!({"tags": ["red"]}), 3)).await;
        assert_eq!(page["task_ids"], json!([tasks[4], tasks[3], tasks[1]]));
        assert!(page["next"].is_string(), "{page}");
        let input = "input = (select jsonb_agg(md5(n::text)) from generate_series(1, 500) as n)";
        world.lose("tasker_task_inputs", input, &format!("task_id = {}", tasks[1])).await;
        let both = session.call(&find(json!({"tags": ["red"], "input": {"n": 1}}), 10)).await;
        let unreadable = json!({tasks[1].to_string(): ["tags", "input"]});
        assert_eq!(both["task_ids"], json!([tasks[3], tasks[1], tasks[0]]));
        assert_eq!(both["unreadable"], unreadable);
        session.run("set statement_timeout = '100ms'").await;
        let mut other = PgConnection::connect(&world.url).await.unwrap();
        let mut held = other.begin().await.unwrap();
        held.execute("lock table tasker_tasks").await.unwrap();
        session.refused("57014", &find(json!({"tags": ["red"]}), 10)).await;
    });
}

#[test]
fn an_error_that_cannot_be_read_is_replaced_by_the_databases() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let tasks = tasks(&world, &mut session, &[false, false, true]).await;
        let failed = r#"update tasker_workflow_steps set last_error = '{"message": "no"}'"#;
        session.run(failed).await;
        let long = "last_error = (select jsonb_agg(md5(n::text)) from generate_series(1, 500) as n)";
        world.lose("tasker_workflow_steps", long, &format!("task_id = {}", tasks[1])).await;
        assert_eq!(session.call(&format!("readable_error({}, 0)", tasks[0])).await, json!({"message": "no"}));
        let error = session.call(&format!("readable_error({}, 0)", tasks[1])).await;
        let message = error["message"].as_str().unwrap();
        assert_eq!((&error["class"], &error["code"]), (&json!("TaskerCore::DatabaseError"), &json!(DAMAGED)));
        assert!(message.starts_with("the database cannot read the error: missing chunk"), "{message}");
        for _ in 0..3 {
            session.call(&format!("claim_steps({process}, '{{*}}', 1, 0, true)")).await;
        }
        let error = session.call(&format!("readable_error({}, 0)", tasks[2])).await;
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("the database cannot read data needed for a claim"), "{message}");
    });
}

/// Refuses to change the step of a task, as if its row lay on a damaged page.
async fn damage_step(session: &mut Session, task: i64) {
    let sql = format!(
        "create function damaged() returns trigger language plpgsql as \
           $$ begin raise exception 'invalid page' using errcode = 'XX001'; end $$; \
         create trigger damaged before update on tasker_workflow_steps for each row \
           when (new.task_id = {task}) execute function damaged()"
    );
    session.run(&sql).await;
}

#[test]
fn a_lost_attempt_that_cannot_be_ended_is_set_aside() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let tasks = tasks(&world, &mut session, &[false, false, false]).await;
        session.claim(process, "*", 3).await;
        damage_step(&mut session, tasks[1]).await;
        session.at("30 s").await;
        let before = content(&world).await;
        session.refused(DAMAGED, "sweep(null, 2)").await;
        assert_eq!(content(&world).await, before);
        let swept = session.call("sweep(null, 1)").await;
        assert_eq!((&swept["lost_attempts"], &swept["set_aside"]), (&json!(1), &json!([])));
        let swept = session.call("sweep(null, 1)").await;
        assert_eq!((&swept["lost_attempts"], &swept["attempts"], &swept["ended"]), (&json!(0), &json!([]), &json!([])));
        let message = "the database cannot read data needed to end the lost attempt: invalid page";
        let error = json!({"class": "TaskerCore::DatabaseError", "code": DAMAGED, "message": message});
        assert_eq!(swept["set_aside"], json!([{"task_id": tasks[1], "position": 0, "error": error}]));
        let swept = session.call("sweep(null, 2)").await;
        assert_eq!((&swept["lost_attempts"], &swept["set_aside"]), (&json!(1), &json!([])), "the others end");
        assert_eq!(session.count("tasker_claimed_steps").await, 0);
        let set_aside = "select task_id, error from tasker_waiting_steps where reason = 'unreadable'";
        assert_eq!(session.rows(set_aside).await, [json!({"task_id": tasks[1], "error": error})]);
        let outcomes = "select outcome, error->>'class' as class from tasker_step_attempts order by task_id";
        let ended = |outcome: &str| json!({"outcome": outcome, "class": "TaskerCore::LostAttempt"});
        assert_eq!(session.rows(outcomes).await, [ended("lost"), ended("released"), ended("lost")]);
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
        session.run("drop trigger damaged on tasker_workflow_steps").await;
        session.at("10 minutes").await;
        let process = session.process("*").await;
        session.call("sweep(null, 10)").await;
        session.complete_all(process).await;
        assert_eq!(session.task_state(tasks[1]).await, "complete");
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
    });
}

#[test]
fn only_an_error_of_its_rows_sets_a_lost_attempt_aside() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let task = tasks(&world, &mut session, &[false]).await[0];
        session.claim(process, "*", 1).await;
        session.at("30 s").await;
        let before = content(&world).await;
        let mut other = PgConnection::connect(&world.url).await.unwrap();
        let mut held = other.begin().await.unwrap();
        let lock = format!("select from tasker_workflow_steps where task_id = {task} for update");
        held.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
        session.run("set lock_timeout = '100ms'").await;
        session.refused("55P03", "sweep(null, 1)").await;
        held.rollback().await.unwrap();
        session
            .run(
                "create or replace function tasker_core_v1.finish_steps(p_process bigint, p_outcomes jsonb, \
                   p_claim_limit integer, p_hand_over_limit integer default null, p_inline_bytes integer default null) \
                 returns json language plpgsql as \
                 $$ begin raise exception 'an index is damaged' using errcode = 'XX002'; end $$",
            )
            .await;
        session.refused("XX002", "sweep(null, 1)").await;
        assert_eq!(content(&world).await, before);
    });
}
