//! Settings that no scenario changes: with another value, the behaviour changes.

use std::time::{Duration, Instant};

use serde_json::{json, Value};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tasker_orchestrator::database::{self, Address};
use tasker_orchestrator::outcome::ReleaseReason;
use tasker_orchestrator::{Error, Functions, HandlerError, Orchestrator, Outcome, StepContext, Workflow};
use tokio::net::TcpListener;

use crate::support::{configuration, handlers, raw, with, workflow, World};

/// Tasks of one step, ready before a worker polls.
async fn ready(world: &World, count: usize) {
    world.create_tasks(&workflow("one", &[("s", &[])]), &vec![json!({}); count]).await;
}

/// Runs every step that is claimed until none is left.
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
fn the_pool_and_its_sessions_follow_the_settings() {
    World::run(|world| async move {
        let settings = json!({"database": {"statement_timeout": "4321ms", "lock_timeout": "1234ms", "pool": {
            "max_connections": 7, "min_connections": 2, "acquire_timeout": "1500ms", "idle_timeout": "77s", "max_lifetime": "99s"}}});
        let address = Address::from_url(&world.url);
        let connections = database::connect(&address, &configuration(&settings).database).await.unwrap();
        let pool = connections.pool();
        let options = pool.options();
        assert_eq!((options.get_max_connections(), options.get_min_connections()), (7, 2));
        assert_eq!(options.get_acquire_timeout(), Duration::from_millis(1500));
        assert_eq!(options.get_idle_timeout(), Some(Duration::from_secs(77)));
        assert_eq!(options.get_max_lifetime(), Some(Duration::from_secs(99)));
        let sql = "select current_setting('statement_timeout') || ' ' || current_setting('lock_timeout')";
        let timeouts: String = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
        assert_eq!(timeouts, "4321ms 1234ms");
        pool.close().await;
    });
}

#[test]
fn an_unresponsive_server_is_given_up_after_connect_timeout() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://stranger@127.0.0.1:{}/nothing", silent.local_addr().unwrap().port());
        let settings = configuration(&json!({"database": {"connect_timeout": "123ms"}})).database;
        let error = database::connect(&Address::from_url(url), &settings).await.unwrap_err();
        assert!(error.to_string().contains("no connection within 123ms (database.connect_timeout)"), "{error}");
    });
}

#[test]
fn a_process_claims_up_to_the_configured_batch() {
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
fn quick_handlers_claim_ahead_up_to_the_setting() {
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
fn children_are_handed_over_up_to_hand_over_limit() {
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
fn outcomes_flush_in_batches_over_parallel_statements() {
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

/// Replaces a function by one that only records its last argument.
async fn instead_of(world: &World, function: &str, arguments: &str, result: &Value) {
    let sql = format!(
        "create table if not exists seen (function text, given integer); \
         create or replace function tasker_core_v1.{function}({arguments}) returns json language plpgsql as $$ \
         begin insert into seen values ('{function}', p_limit); return '{result}'; end $$"
    );
    world.pool.execute(AssertSqlSafe(sql)).await.unwrap();
}

#[test]
fn chores_scan_up_to_their_configured_limits() {
    World::run(|world| async move {
        let swept = json!({"lost_attempts": 0, "unstarted": 0, "due_steps": 0, "ready_queues": [], "next_due_ms": null, "attempts": [], "ended": []});
        instead_of(
            &world,
            "sweep",
            "p_process bigint, p_limit integer, p_heartbeat_age interval default null, p_may_declare_dead boolean default true",
            &swept,
        )
        .await;
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
fn tasks_are_removed_at_the_configured_age() {
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
fn steps_take_configured_defaults_unless_they_override_them() {
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
fn an_input_is_limited_in_size_and_depth_by_the_settings() {
    let settings = configuration(&json!({"limits": {"payload_depth": 2, "payload_bytes": "20B"}}));
    let compiled = Workflow::compile(&workflow("one", &[("a", &[])]), &settings).unwrap();
    compiled.validate_input(r#"{"a": {"b": 1}}"#).unwrap();
    let deep = compiled.validate_input(r#"{"a": {"b": {}}}"#).unwrap_err().to_string();
    assert!(deep.contains("limits.payload_depth"), "{deep}");
    let large = compiled.validate_input(r#"{"a": "0123456789abcdef"}"#).unwrap_err().to_string();
    assert!(large.contains("limits.payload_bytes"), "{large}");
}

#[test]
fn a_step_without_a_handler_returns_after_unknown_handler_delay() {
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

#[test]
fn a_statement_without_a_response_times_out() {
    World::run(|world| async move {
        let settings = json!({"database": {"statement_timeout": "200ms", "pool": {"acquire_timeout": "100ms"}}});
        // The pool has the defaults, so the server itself ends nothing here.
        let functions = Functions::new(world.connections.clone(), &configuration(&settings).database);
        let mut holder = PgConnection::connect(&world.url).await.unwrap();
        holder.execute("begin; lock table tasker_processes in access exclusive mode").await.unwrap();
        let error = functions.heartbeat(1, Some(&[]), Duration::ZERO, None).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { after, .. } if after == Duration::from_millis(300)), "{error}");
        holder.execute("rollback").await.unwrap();
    });
}

#[test]
fn a_process_registers_with_its_queues_timeout_and_lease_grace() {
    World::run(|world| async move {
        let settings = json!({"leases": {"process_timeout": "77s", "deadline_grace": "7s"},
                              "execution": {"queues": ["a", "b"]}});
        let orchestrator = world.orchestrator(&settings).await;
        let sql = "select count(*) from tasker_processes where heartbeat_timeout = interval '77 s' \
                   and lease_grace = interval '7 s' and queues = '{a,b}'";
        assert_eq!(world.number(sql).await, 1);
        stop(&orchestrator).await;
    });
}

#[test]
fn chores_run_at_their_configured_intervals() {
    World::run(|world| async move {
        let server = json!({"system": null, "timeline": null});
        let reply = json!({"known": true, "revoked": [], "server": server, "clock_jump": null});
        let swept = json!({"lost_attempts": 0, "unstarted": 0, "due_steps": 0, "ready_queues": [], "next_due_ms": null, "attempts": [], "ended": []});
        let chores = [
            ("heartbeat", "p_process bigint, p_held jsonb, p_age interval default null, p_stats jsonb default null", reply),
            (
                "sweep",
                "p_process bigint, p_limit integer, p_heartbeat_age interval default null, p_may_declare_dead boolean default true",
                swept,
            ),
            ("audit", "p_after bigint, p_limit integer", json!({"findings": [], "after": null})),
            (
                "prune",
                "p_keep interval, p_after uuid, p_limit integer, p_dry_run boolean",
                json!({"removed": {}, "after": null}),
            ),
        ];
        for (function, arguments, result) in &chores {
            counted(&world, function, arguments, result).await;
        }
        let settings = json!({"leases": {"heartbeat_interval": "50ms"},
            "maintenance": {"sweep_interval": "50ms", "audit_interval": "1s"}, "retention": {"interval": "1s"}});
        let began = Instant::now();
        let orchestrator = world.orchestrator(&settings).await;
        // With the defaults, each of them would take half a minute at least.
        let often = "select count(*) from (values ('heartbeat', 10), ('sweep', 10), ('audit', 2), ('prune', 2)) as least (function, calls) \
                     where calls <= (select count(*) from seen where seen.function = least.function)";
        world.eventually(|| async { (world.number(often).await == 4).then_some(()) }).await;
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
        stop(&orchestrator).await;
    });
}

/// Replaces a function by one that only records its calls.
async fn counted(world: &World, function: &str, arguments: &str, result: &Value) {
    let returns: String = sqlx::query_scalar(
        "select pg_get_function_result(oid) from pg_proc where proname = $1 and pronamespace = 'tasker_core_v1'::regnamespace",
    )
    .bind(function)
    .fetch_one(&world.pool)
    .await
    .unwrap();
    let sql = format!(
        "create table if not exists seen (function text); \
         create or replace function tasker_core_v1.{function}({arguments}) returns {returns} language plpgsql as $$ \
         begin insert into seen values ('{function}'); return '{result}'; end $$"
    );
    world.pool.execute(AssertSqlSafe(sql)).await.unwrap();
}

#[test]
fn heartbeats_continue_while_every_sweep_finds_more() {
    World::run(|world| async move {
        let server = json!({"system": null, "timeline": null});
        let reply = json!({"known": true, "revoked": [], "server": server, "clock_jump": null});
        counted(
            &world,
            "heartbeat",
            "p_process bigint, p_held jsonb, p_age interval default null, p_stats jsonb default null",
            &reply,
        )
        .await;
        let swept = json!({"lost_attempts": 0, "unstarted": 0, "due_steps": 1_000_000, "ready_queues": [], "next_due_ms": null, "attempts": [], "ended": []});
        let arguments =
            "p_process bigint, p_limit integer, p_heartbeat_age interval default null, p_may_declare_dead boolean default true";
        counted(&world, "sweep", arguments, &swept).await;
        let settings = json!({"leases": {"heartbeat_interval": "50ms"}, "maintenance": {"sweep_interval": "10m"}});
        let orchestrator = world.orchestrator(&settings).await;
        let both = "select count(*) from (select function from seen group by function having count(*) >= 10) as often";
        world.eventually(|| async { (world.number(both).await == 2).then_some(()) }).await;
        stop(&orchestrator).await;
    });
}

#[test]
fn other_processes_are_woken_once_in_each_notify_debounce() {
    World::run(|world| async move {
        let sql = "create table seen (queues text[]); \
                   create or replace function tasker_core_v1.wake_workers(p_queues text[]) returns integer language plpgsql as $$ \
                   begin insert into seen values (p_queues); return 0; end $$";
        world.pool.execute(sql).await.unwrap();
        let pairs = with(workflow("pair", &[("first", &[]), ("second", &["first"])]), 1, "queue", json!("other"));
        world.create_tasks(&pairs, &vec![json!({}); 20]).await;
        let settings = json!({"execution": {"threads": 20, "queues": ["default"], "flush_delay": 0},
                              "discovery": {"notify_debounce": "1s"}});
        let orchestrator = world.orchestrator(&settings).await;
        let began = Instant::now();
        // Each outcome is committed before the next is handed in, so each names the other queue by itself.
        for finished in 1..=20 {
            complete(&orchestrator, 1).await;
            world.eventually(|| async { (orchestrator.health().finished == finished).then_some(()) }).await;
        }
        world.eventually(|| async { (world.number("select count(*) from seen").await > 0).then_some(()) }).await;
        let notices = world.number("select count(*) from seen").await;
        let whole_seconds = i64::try_from(began.elapsed().as_secs()).unwrap();
        assert!(notices <= 1 + whole_seconds, "{notices} notices in {whole_seconds} s");
        stop(&orchestrator).await;
    });
}

#[test]
fn steps_without_room_are_released_after_claim_ahead_wait() {
    World::run(|world| async move {
        let pair = workflow("pair", &[("a", &[]), ("b", &[])]);
        world.create_task(&pair, &json!({})).await;
        let settings = json!({"execution": {"threads": 2, "parallel_steps_per_task": 1, "claim_ahead_wait": "2s"}});
        let orchestrator = world.orchestrator(&settings).await;
        let running = orchestrator.next_step().await.unwrap();
        // Held for that time, and kept back for that time: neither is shorter.
        let until_due = "select coalesce(max(extract(epoch from w.run_at - c.claimed_at) * 1000), 0)::bigint \
                         from tasker_waiting_steps w, tasker_claimed_steps c where w.reason = 'limited'";
        let millis = || async { Some(world.number(until_due).await).filter(|millis| *millis > 0) };
        let millis = world.eventually(millis).await;
        assert!(millis >= 4_000, "{millis} ms");
        orchestrator.finish(Outcome::Completed { token: running.token, result: raw(&json!({})) }).await.unwrap();
        stop(&orchestrator).await;
    });
}

#[test]
fn buffered_claims_are_checked_every_claim_ahead_wait() {
    World::run(|world| async move {
        world.create_task(&workflow("pair", &[("a", &[]), ("b", &[])]), &json!({})).await;
        let settings = json!({"execution": {"threads": 2, "parallel_steps_per_task": 1, "claim_ahead_wait": "20ms"}});
        let orchestrator = world.orchestrator(&settings).await;
        let began = Instant::now();
        let running = orchestrator.next_step().await.unwrap();
        // Ten times claimed and released: with the default that takes twenty seconds.
        let claimed = "select last_value from tasker_claimed_steps_token_seq";
        world.eventually(|| async { (world.number(claimed).await >= 11).then_some(()) }).await;
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        orchestrator.finish(Outcome::Completed { token: running.token, result: raw(&json!({})) }).await.unwrap();
        stop(&orchestrator).await;
    });
}

#[test]
fn a_step_blocked_by_a_limit_waits_for_claim_ahead_wait() {
    World::run(|world| async move {
        ready(&world, 1).await;
        let orchestrator = world.orchestrator(&json!({"execution": {"claim_ahead_wait": "9m"}})).await;
        let token = orchestrator.next_step().await.unwrap().token;
        orchestrator.finish(Outcome::Released { token, reason: ReleaseReason::Limited }).await.unwrap();
        let waits = "select count(*) from tasker_waiting_steps where reason = 'limited' \
                     and run_at between now() + interval '8 minutes' and now() + interval '10 minutes'";
        world.eventually(|| async { (world.number(waits).await == 1).then_some(()) }).await;
        stop(&orchestrator).await;
    });
}

#[test]
fn a_step_takes_the_configured_retry_policy_unless_it_has_one() {
    let settings = configuration(&json!({"retry": {"max_attempts": 7, "backoff": "linear", "base": "2s", "factor": 3,
                                                    "cap": "1m", "jitter": 0.5}}));
    let compiled = Workflow::compile(&workflow("one", &[("a", &[])]), &settings).unwrap();
    let definition: Value = serde_json::from_str(compiled.definition_json()).unwrap();
    for (field, value) in [
        ("max_attempts", json!(7)),
        ("backoff", json!("linear")),
        ("base_ms", json!(2000)),
        ("factor", json!(3.0)),
        ("cap_ms", json!(60_000)),
        ("jitter", json!(0.5)),
    ] {
        assert_eq!(definition["steps"][0][field], value, "{field}");
    }
}

#[test]
fn a_worker_that_only_polls_does_not_listen_and_finds_steps() {
    World::run(|world| async move {
        let settings = json!({"database": {"poll_only": true}, "discovery": {"poll_only_interval": "20ms"}});
        let orchestrator = world.orchestrator(&settings).await;
        ready(&world, 1).await;
        complete(&orchestrator, 1).await;
        let listeners =
            "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen %'";
        assert_eq!(world.number(listeners).await, 0);
        assert!(!orchestrator.health().listening);
        stop(&orchestrator).await;
    });
}
