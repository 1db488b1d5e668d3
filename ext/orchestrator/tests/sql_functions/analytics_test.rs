//! Analytics, the slowest steps and tasks, and health: exact results for a known history.

use serde_json::{json, Value};
use tasker_orchestrator::Workflow;

use crate::session::{
    completed, ended, failed, failed_for_good, register, request, stop_the_clock, text, tokens, Session,
};
use crate::support::{with, workflow, World};

/// A workflow of one step, tried twice at once.
fn one_step(namespace: &str, name: &str, version: &str) -> Value {
    let mut definition =
        with(workflow(name, &[("s", &[])]), 0, "retry", json!({"max_attempts": 2, "backoff": "none", "jitter": 0}));
    definition["namespace"] = json!(namespace);
    definition["version"] = json!(version);
    definition
}

/// What a task's attempts come to, and how many seconds each takes.
type Attempts<'a> = &'a [(&'a str, f64)];

/// Runs one task: created at a second after noon, ended `seconds` later.
async fn live(
    session: &mut Session,
    process: i64,
    workflow: &Workflow,
    created: i64,
    lasts: i64,
    attempts: Attempts<'_>,
) -> i64 {
    session.at(&format!("{created} s")).await;
    let task = session.create(workflow, json!({})).await;
    session.at(&format!("{} s", created + lasts)).await;
    for (ending, seconds) in attempts {
        session.call("sweep(null, 10)").await;
        let claim = session.claim(process, "*", 1).await.remove(0);
        assert_eq!(claim["task_id"], task);
        let mut outcome = match *ending {
            "completed" => completed(&claim),
            "failed" => failed(&claim),
            "failed for good" => failed_for_good(&claim),
            _ => ended(&claim, json!({"outcome": ending})),
        };
        outcome["waited_us"] = json!(500_000);
        outcome["ran_us"] = json!((seconds * 1e6) as i64);
        session.finish(process, &[outcome], 0).await;
    }
    task
}

/// A history of eleven tasks. Complete orders of version 1 took 10, 20, 30, 40 and 100 s, their attempts 1 to 5 s.
struct History {
    session: Session,
    orders: Vec<i64>,
    failed: i64,
    unended: i64,
}

async fn history(world: &World) -> History {
    stop_the_clock(world).await;
    let mut session = Session::open(world).await;
    let entry = json!({"name": "p", "hostname": "h", "pid": 1, "queues": ["*"], "heartbeat_timeout_ms": 86_400_000, "lease_grace_ms": 86_400_000});
    let process = session.call(&format!("register_process('{entry}')")).await.as_i64().unwrap();
    let first = register(world, &one_step("shop", "order", "1")).await;
    let second = register(world, &one_step("shop", "order", "2")).await;
    let mail = register(world, &one_step("shop", "mail", "1")).await;
    let bank = register(world, &one_step("bank", "order", "1")).await;
    let mut orders = Vec::new();
    for (number, lasts) in [30, 10, 100, 20, 40].into_iter().enumerate() {
        let number = number as i64;
        orders.push(live(&mut session, process, &first, number, lasts, &[("completed", (number + 1) as f64)]).await);
    }
    let failed = live(&mut session, process, &first, 5, 7, &[("failed", 6.0), ("failed for good", 7.0)]).await;
    let resolved = live(&mut session, process, &first, 6, 7, &[("lost", 50.0), ("failed for good", 8.0)]).await;
    session.call(&format!("resolve_task({resolved}, 'x', 'y')")).await;
    live(&mut session, process, &second, 7, 60, &[("lost", 0.0), ("completed", 0.25)]).await;
    live(&mut session, process, &bank, 8, 1, &[("completed", 9.5)]).await;
    let cancelled = live(&mut session, process, &mail, 9, 0, &[]).await;
    session.claim(process, "*", 1).await;
    session.at("20 s").await;
    session.call(&format!("cancel_task({cancelled}, 'x', 'y')")).await;
    let unended = live(&mut session, process, &mail, 10, 0, &[]).await;
    session.at("1000 s").await;
    History { session, orders, failed, unended }
}

/// The rows of a function, each as a list in the order of the columns; fractions to a millionth.
async fn table(session: &mut Session, call: &str) -> Vec<Vec<String>> {
    let rows = session
        .rows(&format!(
            "select array(select coalesce(value, '-') from json_each_text(to_json(f))) as row from tasker_core_v1.{call} f"
        ))
        .await;
    rows.iter().map(|row| row["row"].as_array().unwrap().iter().map(text).map(rounded).collect()).collect()
}

fn rounded(field: String) -> String {
    match field.parse::<f64>() {
        Ok(number) if field.contains('.') => ((number * 1e6).round() / 1e6).to_string(),
        _ => field,
    }
}

fn lines(rows: &[&str]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn analytics_count_tasks_and_attempts_with_duration_percentiles() {
    World::run(|world| async move {
        let mut session = history(&world).await.session;
        // namespace workflow version, tasks: all complete error cancelled resolved unended, seconds: p50 p95,
        // attempts: all completed failed lost, seconds: p50 p95
        // The attempts of version 1 that ended by themselves took 1 to 8 s, the complete tasks 10, 20, 30, 40 and 100
        // s.
        let bank = "bank order 1   1 1 0 0 0 0   1 1      1 1 0 0   9.5 9.5";
        let mail = "shop mail 1    2 0 0 1 0 1   - -      1 0 0 0   - -";
        let first = "shop order 1  7 5 1 0 1 0   30 88    9 5 3 1   4.5 7.65";
        let second = "shop order 2 1 1 0 0 0 0   60 60    2 1 0 1   0.25 0.25";
        let whole = "'2030-01-01T12:00:00Z'";
        assert_eq!(table(&mut session, &format!("analytics({whole})")).await, lines(&[bank, mail, first, second]));
        assert_eq!(table(&mut session, &format!("analytics({whole}, 'shop')")).await, lines(&[mail, first, second]));
        assert_eq!(
            table(&mut session, &format!("analytics({whole}, null, 'order')")).await,
            lines(&[bank, first, second])
        );
        assert_eq!(table(&mut session, &format!("analytics({whole}, 'shop', 'order')")).await, lines(&[first, second]));
        assert_eq!(table(&mut session, &format!("analytics({whole}, 'bank', 'mail')")).await, lines(&[]));
        // Since a time, to the millisecond.
        assert_eq!(table(&mut session, "analytics('2030-01-01T12:00:07Z')").await, lines(&[bank, mail, second]));
        assert_eq!(table(&mut session, "analytics('2030-01-01T12:00:07.001Z')").await, lines(&[bank, mail]));
        let last = "shop mail 1    1 0 0 0 0 1   - -      0 0 0 0   - -";
        assert_eq!(table(&mut session, "analytics('2030-01-01T12:00:10Z')").await, lines(&[last]));
        assert_eq!(table(&mut session, "analytics('2030-01-01T12:00:11Z')").await, lines(&[]));
    });
}

#[test]
fn the_slowest_steps_come_first_with_their_outcomes() {
    World::run(|world| async move {
        let History { mut session, orders, .. } = history(&world).await;
        let of = |arguments: &str| {
            format!(
                "select namespace || '.' || workflow || ' ' || version as workflow, attempt, outcome, seconds \
                     from tasker_core_v1.slowest_steps({arguments})"
            )
        };
        let row = |workflow: &str, attempt: i32, outcome: &str, seconds: f64| {
            json!({"workflow": workflow, "attempt": attempt, "outcome": outcome, "seconds": seconds}).to_string()
        };
        let rows = |rows: Vec<Value>| -> Vec<String> {
            rows.into_iter().map(|row| json!({"workflow": row["workflow"], "attempt": row["attempt"], "outcome": row["outcome"], "seconds": row["seconds"].as_f64()}).to_string()).collect()
        };
        let since = "'2030-01-01T12:00:00Z'";
        // The attempt that was cut off by the cancellation was claimed at 9 s and ended at 20 s.
        let expected = [
            row("shop.order 1", 1, "lost", 50.0),
            row("shop.mail 1", 1, "released", 11.0),
            row("bank.order 1", 1, "completed", 9.5),
            row("shop.order 1", 2, "failed", 8.0),
            row("shop.order 1", 2, "failed", 7.0),
            row("shop.order 1", 1, "failed", 6.0),
            row("shop.order 1", 1, "completed", 5.0),
        ];
        assert_eq!(rows(session.rows(&of(&format!("{since}, 7"))).await), expected);
        assert_eq!(rows(session.rows(&of(&format!("{since}, 2"))).await), expected[..2]);
        assert_eq!(rows(session.rows(&of(&format!("{since}, 1, 'bank'"))).await), expected[2..3]);
        assert_eq!(rows(session.rows(&of(&format!("{since}, 9, 'shop', 'mail'"))).await), expected[1..2]);
        assert_eq!(session.rows(&of(&format!("{since}, 100"))).await.len(), 13);
        assert_eq!(rows(session.rows(&of("'2030-01-01T12:00:08Z', 100")).await), expected[1..3]);
        assert_eq!(session.rows(&of(&format!("{since}, 0"))).await.len(), 0);
        assert_eq!(session.rows(&of(&format!("{since}, 9, 'nowhere'"))).await.len(), 0);
        let whole = session
            .rows(&format!("select * from tasker_core_v1.slowest_steps({since}, 100) where task_id = {}", orders[2]))
            .await;
        let uuid = session.one(&format!("select uuid from tasker_tasks where id = {}", orders[2])).await;
        assert_eq!(
            json!(whole),
            json!([{"task_id": orders[2], "task_uuid": uuid, "namespace": "shop", "workflow": "order", "version": "1", "step": "s",
                    "attempt": 1, "outcome": "completed", "started_at": "2030-01-01T12:01:42.5+00:00", "seconds": 3}])
        );
    });
}

#[test]
fn the_slowest_tasks_come_first_with_open_ones_counted_to_now() {
    World::run(|world| async move {
        let History { mut session, orders, failed, unended } = history(&world).await;
        let of = |arguments: &str| format!("slowest_tasks({arguments})");
        let since = "'2030-01-01T12:00:00Z'";
        let slowest = table(&mut session, &of(&format!("{since}, 100"))).await;
        let seconds: Vec<&str> = slowest.iter().map(|row| row[10].as_str()).collect();
        assert_eq!(seconds, ["990", "100", "60", "40", "30", "20", "11", "10", "7", "7", "1"]);
        let states: Vec<&str> = slowest.iter().map(|row| row[5].as_str()).collect();
        assert_eq!(
            states,
            [
                "pending",
                "complete",
                "complete",
                "complete",
                "complete",
                "complete",
                "cancelled",
                "complete",
                "error",
                "resolved_manually",
                "complete"
            ]
        );
        assert_eq!(
            (slowest[0][0].clone(), slowest[1][0].clone(), slowest[8][0].clone()),
            (unended.to_string(), orders[2].to_string(), failed.to_string())
        );
        let whole = session
            .rows(&format!("select * from tasker_core_v1.slowest_tasks({since}, 9) where task_id = {failed}"))
            .await;
        let uuid = session.one(&format!("select uuid from tasker_tasks where id = {failed}")).await;
        assert_eq!(
            json!(whole),
            json!([{"task_id": failed, "task_uuid": uuid, "namespace": "shop", "workflow": "order", "version": "1", "state": "error",
                    "created_at": "2030-01-01T12:00:05+00:00", "ended_at": "2030-01-01T12:00:12+00:00", "steps": 1, "attempts": 2,
                    "seconds": 7, "running_seconds": 13}])
        );
        assert_eq!(table(&mut session, &of(&format!("{since}, 2"))).await, slowest[..2]);
        assert_eq!(table(&mut session, &of(&format!("{since}, 9, 'bank'"))).await, slowest[10..]);
        assert_eq!(
            table(&mut session, &of(&format!("{since}, 9, null, 'mail'"))).await,
            [slowest[0].clone(), slowest[6].clone()]
        );
        assert_eq!(
            table(&mut session, &of("'2030-01-01T12:00:08Z', 9, 'shop', 'mail'")).await,
            [slowest[0].clone(), slowest[6].clone()]
        );
        assert_eq!(table(&mut session, &of("'2030-01-01T12:00:10Z', 9")).await, slowest[..1]);
        session.at("1010 s").await;
        assert_eq!(table(&mut session, &of(&format!("{since}, 1"))).await[0][10], "1000");
    });
}

#[test]
fn health_counts_ready_claimed_and_waiting_steps_and_processes() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let health = |cap: &str| format!("select * from tasker_core_v1.system_health({cap})");
        let idle_world = json!([{"ready_steps": 0, "oldest_ready_seconds": null, "claimed_steps": 0, "overdue_leases": 0, "waiting_steps": 0,
                                 "overdue_waiting_steps": 0, "unreadable_steps": 0, "next_run_at": null, "processes": 0, "silent_processes": 0, 
                                 "idle_processes": 0}]);
        assert_eq!(json!(session.rows(&health("")).await), idle_world);
        let long = register(&world, &with(workflow("long", &[("s", &[])]), 0, "timeout", json!("1h"))).await;
        let short = register(&world, &with(workflow("short", &[("s", &[])]), 0, "timeout", json!("5s"))).await;
        let (worker, silent, idle) =
            (session.process("*").await, session.process("*").await, session.process("*").await);
        session.claim(idle, "*", 1).await;
        session.create(&short, json!({})).await;
        session.create_all(&vec![request(&long, json!({})); 2]).await;
        session.claim(worker, "*", 3).await;
        for minute in [2, 9, 30] {
            session.create(&long, json!({"wait_until": format!("2030-01-01T12:{minute:02}:00Z")})).await;
        }
        session.at("4 minutes").await;
        session.create_all(&vec![request(&long, json!({})); 2]).await;
        session.at("5 minutes").await;
        session.create_all(&vec![request(&long, json!({})); 3]).await;
        session.at("10 minutes").await;
        for process in [worker, idle] {
            session
                .call(&format!("heartbeat({process}, (select jsonb_agg(to_jsonb(c)) from tasker_claimed_steps c))"))
                .await;
        }
        let expected = |ready: i32, claimed: i32, overdue: i32, waiting: i32, overdue_waiting: i32| {
            json!([{"ready_steps": ready, "oldest_ready_seconds": 360, "claimed_steps": claimed, "overdue_leases": overdue,
                    "waiting_steps": waiting, "overdue_waiting_steps": overdue_waiting, "unreadable_steps": 0, "next_run_at": "2030-01-01T12:02:00+00:00",
                    "processes": 3, "silent_processes": 1, "idle_processes": 1}])
        };
        assert_eq!(json!(session.rows(&health("")).await), expected(5, 3, 1, 3, 2));
        let capped = session.rows(&health("2")).await;
        assert_eq!(
            (&capped[0]["ready_steps"], &capped[0]["claimed_steps"], &capped[0]["waiting_steps"]),
            (&json!(2), &json!(2), &json!(2))
        );
        assert_eq!(capped[0]["next_run_at"], "2030-01-01T12:02:00+00:00");
        session.call(&format!("deregister_process({silent})")).await;
        session.call("sweep(null, 100)").await;
        let after = session.rows(&health("")).await.remove(0);
        assert_eq!(
            (&after["overdue_leases"], &after["overdue_waiting_steps"], &after["ready_steps"]),
            (&json!(0), &json!(0), &json!(7))
        );
        let claims = session.claim(worker, "*", 100).await;
        session.call(&format!("return_claims({}, '0', 'shutdown')", tokens(&claims))).await;
        assert_eq!(session.rows(&health("")).await[0]["oldest_ready_seconds"], 360, "a released step keeps its age");
    });
}

#[test]
fn queues_with_ready_steps_are_read_in_the_order_of_an_index() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        session
            .run(
                "insert into tasker_ready_steps (queue, dispatched, priority, task_id, position, ready_at) \
                 select 'long', n % 2 = 0, (n * 7919) % 1000, n, 0, timestamptz '2030-01-01T12:00:00Z' - n * interval '1 s' \
                 from generate_series(1, 20000) as n \
                 union all values ('jobs', true, 1, 1, 1, timestamptz '2030-01-01T12:00:00Z'), \
                   ('short', false, 1, 2, 1, '2030-01-01T12:00:01Z'), ('short', true, 1, 3, 1, '2030-01-01T12:00:02Z')",
            )
            .await;
        let queues =
            |arguments: &str| format!("select queue, steps, oldest_at from tasker_core_v1.ready_queues({arguments})");
        let jobs = json!({"queue": "jobs", "steps": 1, "oldest_at": "2030-01-01T12:00:00+00:00"});
        let short = json!({"queue": "short", "steps": 2, "oldest_at": "2030-01-01T12:00:01+00:00"});
        let all = session.rows(&queues("10")).await;
        assert_eq!([&all[0], &all[2]], [&jobs, &short]);
        assert_eq!((&all[1]["queue"], &all[1]["steps"], all.len()), (&json!("long"), &json!(10), 3));
        assert_eq!(session.rows(&queues("10, 1")).await, [jobs]);

        let explain = format!("explain (analyze, buffers, format json) {}", queues("10"));
        let plan: Value =
            sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).fetch_one(&mut session.connection).await.unwrap();
        let pages = plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap();
        assert!(pages <= 120, "{pages} pages of the ready steps are read");
    });
}
