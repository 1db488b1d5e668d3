//! What comes of settings that no scenario changes: each is set to something else, and something else is seen.

use std::time::Duration;

use serde_json::{json, Value};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tasker_orchestrator::database::{self, Address};
use tasker_orchestrator::step::ReleaseReason;
use tasker_orchestrator::{HandlerError, Orchestrator, Outcome, StepContext, Workflow};
use tokio::net::TcpListener;

use crate::support::{configuration, handlers, raw, with, workflow, World};

/// Tasks of one step, ready before anybody looks.
async fn ready(world: &World, count: usize) {
    world.create_tasks(&workflow("one", &[("s", &[])]), &vec![json!({}); count]).await;
}

/// Takes whatever comes until there is nothing under way, and ends it.
async fn complete(orchestrator: &Orchestrator, steps: usize) {
    for _ in 0..steps {
        let token = orchestrator.next_step().await.unwrap().token;
        orchestrator.finish(Outcome::Completed { token, result: raw(&json!({})) }).await.unwrap();
    }
}

async fn stop(orchestrator: &Orchestrator) {
    orchestrator.stop(Duration::from_secs(5)).await.unwrap();
}

#[test]
fn the_pool_and_its_sessions_are_as_the_settings_say() {
    World::run(|world| async move {
        let settings = json!({"database": {"statement_timeout": "4321ms", "lock_timeout": "1234ms", "pool": {
            "max_connections": 7, "min_connections": 2, "acquire_timeout": "1500ms", "idle_timeout": "77s", "max_lifetime": "99s"}}});
        let pool = database::connect(&Address::from_url(&world.url), &configuration(&settings).database).await.unwrap();
        let options = pool.options();
        assert_eq!((options.get_max_connections(), options.get_min_connections()), (7, 2));
        assert_eq!(options.get_acquire_timeout(), Duration::from_millis(1500));
        assert_eq!(options.get_idle_timeout(), Some(Duration::from_secs(77)));
        assert_eq!(options.get_max_lifetime(), Some(Duration::from_secs(99)));
        let sql = "select current_setting('statement_timeout') || ' ' || current_setting('lock_timeout')";
        let told: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        assert_eq!(told, "4321ms 1234ms");
        pool.close().await;
    });
}

#[test]
fn a_server_that_never_answers_is_given_up_after_the_time_that_the_settings_say() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://nobody@127.0.0.1:{}/nothing", silent.local_addr().unwrap().port());
        let settings = configuration(&json!({"database": {"connect_timeout": "123ms"}})).database;
        let error = database::connect(&Address::from_url(url), &settings).await.unwrap_err();
        assert!(error.to_string().contains("no connection within 123ms (database.connect_timeout)"), "{error}");
    });
}

#[test]
fn a_process_claims_as_many_at_once_as_the_settings_say() {
    for batch in [3, 7] {
        World::run(|world| async move {
            ready(&world, 30).await;
            let orchestrator = world.orchestrator(&json!({"execution": {"threads": 20, "claim_batch": batch}})).await;
            world.eventually(|| async { (orchestrator.health().held == 20).then_some(()) }).await;
            let sql =
                "select max(count) from (select count(*) from tasker_claimed_steps group by claimed_at) as at_once";
            assert_eq!(world.number(sql).await, batch);
            stop(&orchestrator).await;
        });
    }
}

#[test]
fn a_process_of_quick_handlers_claims_as_far_ahead_as_the_settings_say() {
    for ahead in [0, 50] {
        World::run(|world| async move {
            ready(&world, 400).await;
            let quick =
                handlers([("s", (|_: &StepContext| Ok(json!({}))) as fn(&StepContext) -> Result<Value, HandlerError>)]);
            let orchestrator = world.worker(&quick, &json!({"execution": {"threads": 2, "claim_ahead": ahead}})).await;
            world.eventually(|| async { (orchestrator.health().finished == 400).then_some(()) }).await;
            let sql =
                "select max(count) from (select count(*) from tasker_step_attempts group by claimed_at) as at_once";
            let at_once = world.number(sql).await;
            assert!(
                if ahead == 0 { at_once <= 2 } else { (3..=52).contains(&at_once) },
                "claim_ahead {ahead}: {at_once}"
            );
            stop(&orchestrator).await;
        });
    }
}

#[test]
fn children_are_handed_over_as_far_as_the_settings_say() {
    for (limit, left_for_all) in [(0, 4), (3, 1), (200, 0)] {
        World::run(|world| async move {
            let leaves: &[&str] = &["root"];
            let wide = workflow("wide", &[("root", &[]), ("a", leaves), ("b", leaves), ("c", leaves), ("d", leaves)]);
            world.create_task(&wide, &json!({})).await;
            let settings = json!({"execution": {"threads": 8, "hand_over_limit": limit}});
            let orchestrator = world.orchestrator(&settings).await;
            complete(&orchestrator, 5).await;
            // The root had the first number; who is handed over needs none.
            let numbers = world.number("select last_value from tasker_ready_steps_seq_seq").await;
            assert_eq!(numbers, 1 + left_for_all, "with hand_over_limit {limit}");
            stop(&orchestrator).await;
        });
    }
}

#[test]
fn outcomes_go_in_batches_and_statements_side_by_side_as_the_settings_say() {
    for (size, statements, flushes) in [(1, 1, 12..=12), (4, 1, 3..=4), (1, 3, 12..=12)] {
        World::run(|world| async move {
            ready(&world, 12).await;
            let settings =
                json!({"execution": {"threads": 12, "flush_size": size, "flush_delay": 0, "statements": statements}});
            let orchestrator = world.orchestrator(&settings).await;
            world.eventually(|| async { (orchestrator.health().held == 12).then_some(()) }).await;
            let mut holder = PgConnection::connect(&world.url).await.unwrap();
            holder.execute("begin; lock table tasker_claimed_steps in access exclusive mode").await.unwrap();
            complete(&orchestrator, 12).await;
            let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' \
                           and query like '%finish_steps%'";
            world.eventually(|| async { (world.number(waiting).await == statements).then_some(()) }).await;
            holder.execute("rollback").await.unwrap();
            world.eventually(|| async { (orchestrator.health().finished == 12).then_some(()) }).await;
            let sent = orchestrator.health().flushes;
            assert!(flushes.contains(&sent), "{sent}, of {size} at most, {statements} at once");
            stop(&orchestrator).await;
        });
    }
}

/// Puts a function in the place of one of the kernel's that only notes its last argument.
async fn instead_of(world: &World, function: &str, arguments: &str, answer: &Value) {
    let sql = format!(
        "create table if not exists seen (function text, given integer); \
         create or replace function tasker_core_v1.{function}({arguments}) returns json language plpgsql as $$ \
         begin insert into seen values ('{function}', p_limit); return '{answer}'; end $$"
    );
    world.pool.execute(AssertSqlSafe(sql)).await.unwrap();
}

#[test]
fn chores_look_at_as_many_rows_as_the_settings_say() {
    World::run(|world| async move {
        let swept = json!({"lost": 0, "due": 0, "ready_queues": [], "next_due_ms": null, "attempts": [], "ended": []});
        instead_of(&world, "sweep", "p_process bigint, p_limit integer", &swept).await;
        instead_of(&world, "audit", "p_after bigint, p_limit integer", &json!({"findings": [], "after": null})).await;
        let pruned = json!({"removed": {}, "after": null});
        instead_of(&world, "prune", "p_keep interval, p_after uuid, p_limit integer, p_dry_run boolean", &pruned).await;
        let settings = json!({"maintenance": {"sweep_limit": 17, "audit_limit": 18, "audit_interval": "1s"},
                              "retention": {"limit": 19, "interval": "1s"}});
        let orchestrator = world.orchestrator(&settings).await;
        let seen =
            "select count(*) from (values ('sweep', 17), ('audit', 18), ('prune', 19)) as expected (function, given) \
                    where (function, given) in (select function, given from seen)";
        world.eventually(|| async { (world.number(seen).await == 3).then_some(()) }).await;
        assert_eq!(world.number("select count(*) from seen where given not in (17, 18, 19)").await, 0);
        stop(&orchestrator).await;
    });
}

#[test]
fn tasks_are_removed_when_they_are_as_old_as_the_settings_say() {
    World::run(|world| async move {
        let definition = with(workflow("old", &[("s", &[])]), 0, "retryable", json!(false));
        for days in [3, 5] {
            let task = world.create_task(&definition, &json!({})).await.id;
            let age = format!("interval '{days} days'");
            let sql = format!(
                "update tasker_tasks set uuid = tasker_core_v1.uuid_v7(now() - {age}), ended_at = now() - {age}, state = 'cancelled', \
                 active = 0 where id = {task}; truncate tasker_ready_steps"
            );
            world.pool.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        let orchestrator = world.orchestrator(&json!({"retention": {"keep": "4d", "interval": "1s"}})).await;
        world.eventually(|| async { (orchestrator.health().pruned == 1).then_some(()) }).await;
        assert_eq!(
            world.number("select count(*) from tasker_tasks where ended_at > now() - interval '4 days'").await,
            1
        );
        stop(&orchestrator).await;
    });
}

#[test]
fn steps_are_what_the_settings_say_unless_they_say_otherwise() {
    let settings =
        configuration(&json!({"steps": {"timeout": "7s", "queue": "slow"}, "limits": {"steps_per_workflow": 2}}));
    let compiled = Workflow::compile(&workflow("two", &[("a", &[]), ("b", &["a"])]), &settings).unwrap();
    let definition: Value = serde_json::from_str(compiled.definition_json()).unwrap();
    assert_eq!(
        (&definition["steps"][0]["timeout_ms"], &definition["steps"][0]["queue"]),
        (&json!(7000), &json!("slow"))
    );
    let own = with(with(workflow("own", &[("a", &[])]), 0, "timeout", json!("1s")), 0, "queue", json!("quick"));
    let own: Value = serde_json::from_str(Workflow::compile(&own, &settings).unwrap().definition_json()).unwrap();
    assert_eq!((&own["steps"][0]["timeout_ms"], &own["steps"][0]["queue"]), (&json!(1000), &json!("quick")));
    let three = workflow("three", &[("a", &[]), ("b", &[]), ("c", &[])]);
    let error = Workflow::compile(&three, &settings).unwrap_err().to_string();
    assert!(error.contains("limits.steps_per_workflow"), "{error}");
}

#[test]
fn an_input_is_as_large_and_as_deep_as_the_settings_say() {
    let settings = configuration(&json!({"limits": {"payload_depth": 2, "payload_bytes": "20B"}}));
    let compiled = Workflow::compile(&workflow("one", &[("a", &[])]), &settings).unwrap();
    compiled.validate_input(r#"{"a": {"b": 1}}"#).unwrap();
    let deep = compiled.validate_input(r#"{"a": {"b": {}}}"#).unwrap_err().to_string();
    assert!(deep.contains("limits.payload_depth"), "{deep}");
    let large = compiled.validate_input(r#"{"a": "0123456789abcdef"}"#).unwrap_err().to_string();
    assert!(large.contains("limits.payload_bytes"), "{large}");
}

#[test]
fn a_step_whose_handler_is_unknown_is_offered_again_after_the_time_that_the_settings_say() {
    World::run(|world| async move {
        ready(&world, 1).await;
        let orchestrator = world.orchestrator(&json!({"discovery": {"unknown_handler_delay": "50m"}})).await;
        let token = orchestrator.next_step().await.unwrap().token;
        orchestrator.finish(Outcome::Released { token, reason: ReleaseReason::UnknownHandler }).await.unwrap();
        let waits = "select count(*) from tasker_waiting_steps where reason = 'unknown_handler' \
                     and run_at between now() + interval '40 minutes' and now() + interval '51 minutes'";
        world.eventually(|| async { (world.number(waits).await == 1).then_some(()) }).await;
        stop(&orchestrator).await;
    });
}
