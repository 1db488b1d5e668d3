//! Scans while a long transaction elsewhere prevents vacuum: they start where the last one found live rows, and miss no
//! row for long.

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};
use sqlx::{Connection, Executor, PgConnection, Row};
use support::{handlers, with, workflow, World};
use tasker_orchestrator::{StepContext, TaskInitializer, Workflow};

const SINGLE: &[(&str, &[&str])] = &[("a", &[])];

/// A session that claims in a database with so many dead rows before the first ready one that a scan over them is slow.
struct Claimer {
    session: PgConnection,
    process: i64,
    /// Holds the snapshot that needs the dead rows.
    _pinning: PgConnection,
}

impl Claimer {
    async fn start(world: &World) -> Self {
        let pinning = pin(world).await;
        let session = PgConnection::connect(&world.url).await.unwrap();
        let mut claimer = Self { session, process: world.process().await, _pinning: pinning };
        claimer.claim(1).await;
        claimer.claim(1).await;
        claimer
    }

    /// Claims; returns the tasks of the steps.
    async fn claim(&mut self, limit: i32) -> Vec<i64> {
        let sql = "select (claim->>'task_id')::bigint \
                   from json_array_elements(tasker_core_v1.claim_steps($1, '{*}', $2)) with ordinality as c(claim, number) \
                   order by number";
        sqlx::query_scalar(sql).bind(self.process).bind(limit).fetch_all(&mut self.session).await.unwrap()
    }

    /// The number of the first ready row that a scan of the queue finds.
    async fn first_ready(&mut self, queue: &str) -> Option<i64> {
        let sql = "select (tasker_core_v1.ready_scan_starts(array[$1], false)).seqs[1]";
        sqlx::query_scalar(sql).bind(queue).fetch_one(&mut self.session).await.unwrap()
    }

    /// Whether the next scan starts at marks.
    async fn has_marks(&mut self) -> bool {
        let sql = "select tasker_core_v1.scan_mark('tasker_ready_steps') is not null";
        sqlx::query_scalar(sql).fetch_one(&mut self.session).await.unwrap()
    }

    /// Makes scans start at marks for longer than any test takes.
    async fn keep_marks(&mut self) {
        assert!(self.has_marks().await, "a scan over the dead rows was fast: they are too few");
        let sql = "select set_config(name, (look::jsonb || '{\"whole_at\": 1e12}')::text, false) \
                   from (select 'tasker_core.scan_' || 'tasker_ready_steps'::regclass::oid) as setting(name) \
                   cross join lateral current_setting(name) as look";
        self.session.execute(sql).await.unwrap();
    }

    async fn forget_marks(&mut self) {
        let sql = "select set_config('tasker_core.scan_' || 'tasker_ready_steps'::regclass::oid, '', false)";
        self.session.execute(sql).await.unwrap();
    }
}

/// Creates dead rows before all later rows, and holds the snapshot that needs them.
async fn pin(world: &World) -> PgConnection {
    let mut pinning = PgConnection::connect(&world.url).await.unwrap();
    pinning.execute("begin isolation level repeatable read; select 1").await.unwrap();
    let ready = "insert into tasker_ready_steps (queue, priority, task_id, position, ready_at) \
                 select 'default', 0, -1, number, now() from generate_series(1, 300000) as number";
    let claimed = "insert into tasker_claimed_steps \
                     (process_id, task_id, position, attempt, ready_at, claimed_at, deadline) \
                   select 0, -1, number, 1, now(), now(), now() from generate_series(1, 300000) as number";
    world.pool.execute(ready).await.unwrap();
    world.pool.execute(claimed).await.unwrap();
    world.pool.execute("delete from tasker_ready_steps").await.unwrap();
    world.pool.execute("delete from tasker_claimed_steps").await.unwrap();
    pinning
}

/// A session that is in the middle of creating a task.
async fn creating(world: &World) -> PgConnection {
    let one = Arc::new(Workflow::compile(&workflow("one", SINGLE), &support::configuration(&json!({}))).unwrap());
    let initializer = TaskInitializer::new(world.functions.clone(), one.clone());
    world.functions.register_workflow(&one).await.unwrap();
    let requests = json!([initializer.request(support::raw(&json!({}))).unwrap()]);
    let mut slow = PgConnection::connect(&world.url).await.unwrap();
    slow.execute("begin").await.unwrap();
    sqlx::query("select tasker_core_v1.create_tasks($1)").bind(requests).execute(&mut slow).await.unwrap();
    slow
}

#[test]
fn a_slow_scan_makes_later_scans_start_at_its_marks() {
    World::run(|world| async move {
        let mut claimer = Claimer::start(&world).await;
        claimer.keep_marks().await;
        let tasks = world.create_tasks(&workflow("one", SINGLE), &vec![json!({}); 5]).await;
        let mut claimed = claimer.claim(2).await;
        claimed.extend(claimer.claim(2).await);
        claimed.extend(claimer.claim(2).await);
        assert_eq!(claimed, tasks.iter().map(|task| task.id).collect::<Vec<_>>());

        let sql = "explain (analyze, buffers, format json) select tasker_core_v1.claim_steps(0, '{*}', 1)";
        let plan: Value = sqlx::query(sql).fetch_one(&mut claimer.session).await.unwrap().get(0);
        let buffers = plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap();
        assert!(buffers < 100, "a scan that starts at marks reads {buffers} pages");
    });
}

#[test]
fn a_step_that_a_slow_scan_found_is_found_again_from_its_marks() {
    World::run(|world| async move {
        let mut claimer = Claimer::start(&world).await;
        let task = world.create_tasks(&workflow("one", SINGLE), &[json!({})]).await[0].id;
        let seq: i64 =
            sqlx::query_scalar("select seq from tasker_ready_steps").fetch_one(&mut claimer.session).await.unwrap();
        for queue in ["*", "default"] {
            claimer.forget_marks().await;
            assert_eq!(claimer.first_ready(queue).await, Some(seq), "{queue}");
            claimer.keep_marks().await;
            assert_eq!(claimer.first_ready(queue).await, Some(seq), "{queue}, from its mark");
        }
        assert_eq!(claimer.claim(1).await, [task]);
    });
}

#[test]
fn urgent_steps_are_claimed_first_although_scans_start_at_marks() {
    World::run(|world| async move {
        let mut claimer = Claimer::start(&world).await;
        claimer.keep_marks().await;
        // What has no mark yet, then more and less urgent, then each with a mark; and the less urgent ones first.
        for priorities in [&[7, 0][..], &[32_767, 3, 0, -1, -32_768], &[32_767, 7, 3, 0, -1, -32_768]] {
            let mut waiting = Vec::new();
            for &priority in priorities {
                let name = format!("p{}", 40_000 + priority);
                let one = with(workflow(&name, SINGLE), 0, "priority", json!(priority));
                waiting.push(world.create_task(&one, &json!({})).await.id);
            }
            for task in waiting.into_iter().rev() {
                assert_eq!(claimer.claim(1).await, vec![task]);
            }
            assert_eq!(claimer.claim(1).await, Vec::<i64>::new());
        }
    });
}

#[test]
fn an_unseen_queue_is_served_although_scans_start_at_marks() {
    World::run(|world| async move {
        let mut claimer = Claimer::start(&world).await;
        claimer.keep_marks().await;
        for queue in ["default", "zeta", "alpha", "middle", "default", "alpha"] {
            let one = with(workflow(&format!("in_{queue}"), SINGLE), 0, "queue", json!(queue));
            let task = world.create_task(&one, &json!({})).await;
            assert_eq!(claimer.claim(5).await, vec![task.id], "in the queue {queue}");
        }
    });
}

#[test]
fn a_released_or_locked_step_is_found_although_scans_use_marks() {
    World::run(|world| async move {
        let mut claimer = Claimer::start(&world).await;
        claimer.keep_marks().await;
        let tasks: Vec<i64> = world
            .create_tasks(&workflow("one", SINGLE), &vec![json!({}); 3])
            .await
            .iter()
            .map(|task| task.id)
            .collect();
        let mut other = PgConnection::connect(&world.url).await.unwrap();
        other.execute("begin").await.unwrap();
        sqlx::query("select tasker_core_v1.claim_steps($1, '{*}', 2)")
            .bind(claimer.process)
            .execute(&mut other)
            .await
            .unwrap();
        assert_eq!(claimer.claim(5).await, vec![tasks[2]]);
        other.execute("rollback").await.unwrap();
        assert_eq!(claimer.claim(5).await, tasks[..2]);

        let sql = "select tasker_core_v1.return_claims(array(select token from tasker_claimed_steps), '0', 'shutdown')";
        world.pool.execute(sql).await.unwrap();
        assert_eq!(claimer.claim(5).await.len(), 3);
    });
}

#[test]
fn a_step_committed_late_is_found_by_the_next_full_scan() {
    World::run(|world| async move {
        let mut claimer = Claimer::start(&world).await;
        let early = world.create_task(&workflow("one", SINGLE), &json!({})).await;
        assert_eq!(claimer.claim(5).await, vec![early.id]);
        claimer.keep_marks().await;

        let mut slow = creating(&world).await;
        let later = world.create_task(&workflow("one", SINGLE), &json!({})).await;
        assert_eq!(claimer.claim(5).await, vec![later.id]);
        slow.execute("commit").await.unwrap();

        assert_eq!(claimer.claim(5).await, Vec::<i64>::new());
        claimer.forget_marks().await;
        assert_eq!(claimer.claim(5).await.len(), 1);
    });
}

#[test]
fn a_worker_at_rest_finds_a_step_that_was_committed_late() {
    World::run(|world| async move {
        let pinning = pin(&world).await;
        let worker = world.worker(&handlers([("a", |_: &StepContext| Ok(json!({})))]), &json!({})).await;
        let mut slow = creating(&world).await;
        let later = world.create_task(&workflow("one", SINGLE), &json!({})).await;
        assert_eq!(world.ended(later.id).await, "complete");
        // Without a notice, as when it gets lost.
        slow.execute("commit").await.unwrap();
        let sql = "select count(*) from tasker_tasks where state <> 'complete'";
        world.eventually(|| async { (world.number(sql).await == 0).then_some(()) }).await;
        worker.stop(Duration::from_secs(5)).await.unwrap();
        drop(pinning);
    });
}

#[test]
fn a_lost_attempt_is_found_although_scans_start_at_marks() {
    World::run(|world| async move {
        let mut claimer = Claimer::start(&world).await;
        for _ in 0..2 {
            claimer.session.execute("select tasker_core_v1.sweep(null, 10)").await.unwrap();
        }
        let sql = "select tasker_core_v1.scan_mark('tasker_claimed_steps') is not null";
        let marked: bool = sqlx::query_scalar(sql).fetch_one(&mut claimer.session).await.unwrap();
        assert!(marked, "a scan over the dead rows was fast: they are too few");

        let task = world.create_task(&workflow("one", SINGLE), &json!({})).await;
        assert_eq!(claimer.claim(5).await, vec![task.id]);
        world.pool.execute("delete from tasker_processes").await.unwrap();
        let sql = "select (tasker_core_v1.sweep(null, 10)->>'lost_attempts')::bigint";
        assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut claimer.session).await.unwrap(), 1);
    });
}
