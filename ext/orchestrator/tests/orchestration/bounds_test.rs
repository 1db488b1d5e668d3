//! Statements that are too large for the database are split, down to the row at fault, which ends with an error; the
//! others continue.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{json, Value};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tasker_orchestrator::database::functions::TaskRequest;
use tasker_orchestrator::database::{self, Address};
use tasker_orchestrator::error::ErrorKind;
use tasker_orchestrator::logs::Record;
use tasker_orchestrator::{
    Configuration, Error, Functions, HandlerError, HandlerRegistry, Outcome, StepContext, StepHandler, TaskInitializer,
    Workflow,
};

use crate::logs_test::{field, listening, Kept};
use crate::support::{handlers, raw, with, workflow, World};

/// Renames a function to `{name}_before` and installs another in its place, which can call it.
pub async fn replace(world: &World, name: &str, arguments: &str, returns: &str, body: &str) {
    let sql = format!(
        "alter function tasker_core_v1.{name} rename to {name}_before; \
         create function tasker_core_v1.{name}({arguments}) returns {returns} language plpgsql as $$ begin {body} end $$"
    );
    world.pool.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// The arguments of `insert_claims`.
pub const OPENING: &str = "p_process bigint, p_tasks bigint[], p_positions integer[], p_ready_at timestamptz[], \
                           p_inline_bytes integer default null, p_dispatch text default null, \
                           p_start_timeout interval default null";

async fn restore(world: &World, name: &str) {
    let sql = format!(
        "drop function tasker_core_v1.{name}; \
         alter function tasker_core_v1.{name}_before rename to {name}"
    );
    world.pool.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// Counts calls, including those of transactions that are rolled back.
async fn counter(world: &World) {
    world.pool.execute("create sequence calls").await.unwrap();
}

async fn counted(world: &World, calls: i64) {
    world
        .eventually(|| async {
            let called = world.number("select case when is_called then last_value else 0 end from calls").await;
            (called >= calls).then_some(())
        })
        .await;
}

/// Awaits that many log lines; they are written after the change that they report.
async fn logged_lines(world: &World, logged: &Kept, count: usize, is_own: impl Fn(&Record) -> bool) -> Vec<Record> {
    world
        .eventually(|| async {
            let lines: Vec<_> = logged.records.lock().unwrap().iter().filter(|it| is_own(it)).cloned().collect();
            (lines.len() >= count).then_some(lines)
        })
        .await
}

/// Reads the results of its parents one by one.
struct AsksForResults;

#[async_trait]
impl StepHandler for AsksForResults {
    async fn call(&self, context: &StepContext) -> Result<Value, HandlerError> {
        let at_hand = context.result("short")?;
        let refusal = context.result("long").unwrap_err().to_string();
        let fetched = context.ancestor_result("long").await?;
        let input = context.input()?;
        Ok(json!({"short": at_hand, "refusal": refusal, "long": fetched["text"].as_str().unwrap().len(),
                  "input": input["text"].as_str().unwrap().len()}))
    }
}

#[test]
fn payloads_beyond_claim_bytes_are_read_when_a_handler_asks() {
    World::run(|world| async move {
        let mut registry = handlers([("long", |_: &StepContext| Ok(json!({"text": "x".repeat(5000)})))]);
        registry.register("short", crate::support::Does(|_: &StepContext| Ok(json!({"n": 1}))));
        registry.register("join", AsksForResults);
        let worker = world.worker(&registry, &json!({"execution": {"claim_bytes": "1KiB", "claim_ahead": 0}})).await;
        let graph: &[(&str, &[&str])] = &[("long", &[]), ("short", &[]), ("join", &["long", "short"])];
        let input = json!({"text": "i".repeat(3000)});
        let task = world.create_task(&workflow("w", graph), &input).await.id;
        assert_eq!(world.ended(task).await, "complete", "{:?}", world.steps(task).await);
        let refusal = "the result of `long` is too long to come with the claim: ask `ancestor_result`";
        let expected = json!({"short": {"n": 1}, "refusal": refusal, "long": 5000, "input": 3000});
        assert_eq!(world.result(task, "join").await, expected);
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_claim_that_cannot_be_built_ends_its_step_and_no_other() {
    World::run(|world| async move {
        let one = workflow("w", &[("s", &[])]);
        let inputs: Vec<Value> = (0..5).map(|n| json!({ "n": n })).collect();
        let tasks: Vec<i64> = world.create_tasks(&one, &inputs).await.iter().map(|task| task.id).collect();
        // As if the third one's input lay on a damaged page.
        let damage = format!(
            "if {} = any(p_tasks) and p_inline_bytes is distinct from 0 then \
               raise exception 'missing chunk' using errcode = 'XX001'; end if; \
             return tasker_core_v1.insert_claims_before(
                 p_process, p_tasks, p_positions, p_ready_at, p_inline_bytes, p_dispatch, p_start_timeout);",
            tasks[2]
        );
        replace(&world, "insert_claims", OPENING, "json", &damage).await;
        let unreadable = format!(
            "if p_task = {} then raise exception 'missing chunk' using errcode = 'XX001'; end if; \
             return tasker_core_v1.task_input_before(p_task, p_process, p_held);",
            tasks[2]
        );
        let arguments = "p_task bigint, p_process bigint default null, p_held jsonb default null";
        replace(&world, "task_input", arguments, "json", &unreadable).await;
        let registry = handlers([("s", |context: &StepContext| context.input())]);
        let worker = world.worker(&registry, &json!({"discovery": {"poll_interval": "50ms"}})).await;
        for (number, task) in tasks.iter().enumerate() {
            let state = if number == 2 { "error" } else { "complete" };
            assert_eq!(world.ended(*task).await, state, "task {number}");
        }
        let error = &world.steps(tasks[2]).await[0].error;
        let expected = "step `s`: the task's input cannot be read: the database cannot read stored data: missing chunk";
        assert_eq!(error["message"], json!(expected));
        // Once the fault has passed, claims grow again and ride on outcomes as before.
        let more = world.create_tasks(&one, &vec![json!({}); 40]).await;
        for task in more {
            assert_eq!(world.ended(task.id).await, "complete");
        }
        worker.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
    });
}

#[test]
fn a_damaged_task_is_set_aside_and_holds_up_no_other() {
    let logged = listening();
    World::run(|world| async move {
        let one = workflow("w", &[("s", &[])]);
        let tasks: Vec<i64> = world.create_tasks(&one, &vec![json!({}); 9]).await.iter().map(|task| task.id).collect();
        // In a row, and for one worker: one that finds nothing claims up to three times more in any case.
        let damaged = &tasks[..6];
        for task in damaged {
            world.damage(*task).await;
        }
        let registry = handlers([("s", |_: &StepContext| Ok(json!({})))]);
        // Nothing but the claims themselves says that there is more to claim.
        let settings = json!({"discovery": {"poll_interval": "10m"}});
        let worker = world.worker(&registry, &settings).await;
        for task in tasks.iter().filter(|task| !damaged.contains(task)) {
            assert_eq!(world.ended(*task).await, "complete");
        }
        for task in damaged {
            world.step_is(*task, "s", "waiting").await;
            assert_eq!(world.status(*task).await, "waiting_for_repair");
        }
        world.eventually(|| async { (worker.health().set_aside == 6).then_some(()) }).await;
        // Another test sets steps aside too, because of XX002.
        let is_own = |record: &Record| {
            record.message.contains("cannot be claimed and is set aside")
                && field(record, "error.code") == Some(json!("XX001"))
        };
        let lines = logged_lines(&world, &logged, 6, is_own).await;
        let mut logged: Vec<_> = lines.iter().filter_map(|line| field(line, "task_id")?.as_i64()).collect();
        logged.sort_unstable();
        assert_eq!(logged, damaged, "each is logged once");
        for line in &lines {
            assert_eq!((field(line, "position"), line.level.as_str()), (Some(json!(0)), "ERROR"));
        }
        // Repaired, it runs once an operator or a sweep has made it ready.
        world.restore_tags(damaged[0]).await;
        let changed = world.functions.retry_step(damaged[0], 0, "repaired", "ada").await.unwrap();
        world.functions.try_wake_workers(&changed.ready_queues).await;
        assert_eq!(world.ended(damaged[0]).await, "complete");
        for task in &damaged[1..] {
            world.restore_tags(*task).await;
        }
        assert_eq!(world.sweep_after("6 minutes").await, 5);
        for task in &damaged[1..] {
            assert_eq!(world.ended(*task).await, "complete");
        }
        worker.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
    });
}

#[test]
fn errors_that_fewer_rows_may_avoid_are_recognized() {
    World::run(|world| async move {
        let raised = async |code: &str| {
            let sql = format!("do $$ begin raise exception 'why' using errcode = '{code}'; end $$");
            Error::from(world.pool.execute(AssertSqlSafe(sql)).await.unwrap_err())
        };
        for code in ["XX001", "XX002", "58030", "58P01"] {
            let error = raised(code).await;
            assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Overload, true), "{code}");
        }
        for code in ["22003", "23514", "54000"] {
            assert_eq!(raised(code).await.kind(), ErrorKind::Data, "{code}");
        }
        for code in ["XX000", "57014", "55P03", "53200", "53400"] {
            let error = raised(code).await;
            assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Overload, false), "{code}");
        }
        for code in ["53100", "40001", "58000", "57P01", "42883"] {
            assert_eq!(raised(code).await.kind(), ErrorKind::Transient, "{code}");
        }
    });
}

#[test]
fn a_lost_attempt_that_cannot_be_ended_holds_up_no_other() {
    let logged = listening();
    World::run(|world| async move {
        // With one attempt: no retry makes a sweep due.
        let once = with(workflow("w", &[("s", &[])]), 0, "retry", json!({"max_attempts": 1}));
        let tasks: Vec<i64> =
            world.create_tasks(&once, &vec![json!({}); 40]).await.iter().map(|task| task.id).collect();
        let guilty = tasks[20];
        let damage = format!(
            "select tasker_core_v1.claim_steps(tasker_core_v1.register_process('{{\"name\": \"gone\", \"hostname\": \"here\", \
               \"pid\": 1, \"queues\": [\"*\"], \"heartbeat_timeout_ms\": 1000, \"lease_grace_ms\": 1000}}'), '{{*}}', 40); \
             update tasker_claimed_steps set deadline = now() - interval '1 second'; \
             create function damaged() returns trigger language plpgsql as \
               $$ begin raise exception 'invalid page' using errcode = '58030'; end $$; \
             create trigger damaged before update on tasker_workflow_steps for each row \
               when (new.task_id = {guilty} and new.attempts > old.attempts) execute function damaged()"
        );
        world.pool.execute(AssertSqlSafe(damage)).await.unwrap();
        // A sweep that fails is repeated soon: its interval is longer than the test.
        let settings = json!({"maintenance": {"sweep_interval": "10m"}, "leases": {"heartbeat_interval": "1s"}});
        let orchestrator = world.orchestrator(&settings).await;
        let lost = "select count(*) from tasker_step_attempts where outcome = 'lost'";
        world.eventually(|| async { (world.number(lost).await == 39).then_some(()) }).await;
        world.step_is(guilty, "s", "waiting").await;
        assert_eq!(world.status(guilty).await, "waiting_for_repair");
        world.eventually(|| async { (orchestrator.health().set_aside == 1).then_some(()) }).await;
        let is_own = |record: &Record| record.message.contains("a lost attempt cannot be ended");
        let lines = logged_lines(&world, &logged, 1, is_own).await;
        assert_eq!(lines.len(), 1);
        assert_eq!((field(&lines[0], "position"), lines[0].level.as_str()), (Some(json!(0)), "ERROR"));
        orchestrator.stop(Duration::ZERO).await.unwrap();
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
    });
}

#[test]
fn few_steps_are_set_aside_where_every_claim_fails() {
    World::run(|world| async move {
        let broken = "if p_tasks <> '{}' then raise exception 'an index is damaged' using errcode = 'XX002'; end if; \
                      return tasker_core_v1.insert_claims_before(
                 p_process, p_tasks, p_positions, p_ready_at, p_inline_bytes, p_dispatch, p_start_timeout);";
        replace(&world, "insert_claims", OPENING, "json", broken).await;
        world.create_tasks(&workflow("w", &[("s", &[])]), &vec![json!({}); 20]).await;
        let registry = handlers([("s", |_: &StepContext| Ok(json!({})))]);
        let worker = world.worker(&registry, &json!({})).await;
        world.eventually(|| async { (worker.health().set_aside >= 6).then_some(()) }).await;
        // The five pauses between them are 100, 200, 400, 800 and 1600 ms, each by half shorter at most.
        let sql = "select extract(epoch from max(run_at) - min(run_at))::bigint from \
                   (select run_at from tasker_waiting_steps order by run_at limit 6) as first";
        assert!(world.number(sql).await >= 1, "the pauses grow");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_claim_that_takes_too_long_sets_nothing_aside() {
    World::run(|world| async move {
        counter(&world).await;
        let slow = "if p_inline_bytes = 0 then perform nextval('calls'); end if; perform pg_sleep(10); return null;";
        replace(&world, "insert_claims", OPENING, "json", slow).await;
        let task = world.create_task(&workflow("w", &[("s", &[])]), &json!({})).await.id;
        let registry = handlers([("s", |_: &StepContext| Ok(json!({})))]);
        let worker = world.worker(&registry, &json!({"database": {"statement_timeout": "500ms"}})).await;
        counted(&world, 3).await;
        assert_eq!(world.outline(task).await, [("s".to_owned(), "ready".to_owned(), 0)]);
        assert_eq!(worker.health().set_aside, 0);
        restore(&world, "insert_claims").await;
        assert_eq!(world.ended(task).await, "complete");
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn an_outcome_that_is_always_too_slow_ends_its_step_only() {
    World::run(|world| async move {
        world
            .pool
            .execute(
                "create function slow() returns trigger language plpgsql as \
                   $$ begin perform pg_sleep(10) where new.result ? 'slow'; return new; end $$; \
                 create trigger slow before update on tasker_workflow_steps for each row execute function slow()",
            )
            .await
            .unwrap();
        let tasks: Vec<i64> = world
            .create_tasks(&workflow("w", &[("s", &[])]), &(0..8).map(|n| json!({ "n": n })).collect::<Vec<_>>())
            .await
            .iter()
            .map(|task| task.id)
            .collect();
        let registry = handlers([("s", |context: &StepContext| {
            let n = context.input()?["n"].clone();
            Ok(if n == json!(3) { json!({"slow": true}) } else { json!({ "n": n }) })
        })]);
        let settings = json!({"database": {"statement_timeout": "500ms"}, "discovery": {"poll_interval": "20ms"},
                              "execution": {"threads": 8}});
        let worker = world.worker(&registry, &settings).await;
        for (number, task) in tasks.iter().enumerate() {
            let state = if number == 3 { "error" } else { "complete" };
            assert_eq!(world.ended(*task).await, state, "task {number}");
        }
        let error = &world.steps(tasks[3]).await[0].error;
        assert_eq!(error["class"], json!("TaskerCore::UnstorableResult"));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("the outcome cannot be stored") && message.contains("statement timeout"), "{message}");
        worker.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
    });
}

#[test]
fn outcomes_are_sent_and_handlers_begun_as_bytes_allow() {
    World::run(|world| async move {
        let settings =
            json!({"execution": {"threads": 4, "statements": 1, "flush_bytes": "1000B", "undelivered_bytes": "1500B"}});
        let orchestrator = world.orchestrator(&settings).await;
        let tasks = world.create_tasks(&workflow("w", &[("s", &[])]), &vec![json!({}); 4]).await;
        let mut claims = Vec::new();
        for _ in 0..3 {
            claims.push(orchestrator.next_step().await.unwrap());
        }
        let mut holder = PgConnection::connect(&world.url).await.unwrap();
        let mut held = holder.begin().await.unwrap();
        sqlx::query("select from tasker_workflow_steps for update").execute(&mut *held).await.unwrap();
        for claim in &claims {
            let result = raw(&json!({"text": "x".repeat(600)}));
            orchestrator.finish(Outcome::Completed { token: claim.token, result }).await.unwrap();
        }
        assert_eq!(orchestrator.health().buffered, 1, "the fourth is at hand");
        assert!(orchestrator.try_next_step().is_none(), "too much waits for the database");
        held.rollback().await.unwrap();
        let last = orchestrator.next_step().await.unwrap();
        orchestrator.finish(Outcome::Completed { token: last.token, result: raw(&json!({})) }).await.unwrap();
        for task in tasks {
            assert_eq!(world.ended(task.id).await, "complete");
        }
        // Commits of outcomes: each has its own time.
        let sql = "select count(distinct s.xmin::text) from tasker_workflow_steps s where result_bytes > 100";
        assert_eq!(world.number(sql).await, 3, "two of 600 bytes are more than 1000");
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn nothing_is_claimed_while_outcomes_cannot_be_delivered() {
    World::run(|world| async move {
        counter(&world).await;
        let arguments = "p_process bigint, p_outcomes jsonb, p_claim_limit integer, \
                         p_hand_over_limit integer default null, p_inline_bytes integer default null";
        let away = "perform nextval('calls'); raise exception 'away' using errcode = '57P03';";
        replace(&world, "finish_steps", arguments, "json", away).await;
        let tasks = world.create_tasks(&workflow("w", &[("s", &[])]), &vec![json!({}); 6]).await;
        let ran = Arc::new(AtomicU32::new(0));
        let registry = handlers([("s", {
            let ran = ran.clone();
            move |_: &StepContext| {
                ran.fetch_add(1, Ordering::SeqCst);
                Ok(json!({}))
            }
        })]);
        let settings = json!({"execution": {"threads": 2, "claim_ahead": 0}, "discovery": {"poll_interval": "20ms"}});
        let worker = world.worker(&registry, &settings).await;
        counted(&world, 4).await;
        assert!(ran.load(Ordering::SeqCst) <= 4, "those that were claimed before the first failure was known");
        let claimed = world.number("select count(*) from tasker_claimed_steps").await;
        counted(&world, 6).await;
        assert_eq!(world.number("select count(*) from tasker_claimed_steps").await, claimed);
        restore(&world, "finish_steps").await;
        for task in tasks {
            assert_eq!(world.ended(task.id).await, "complete");
        }
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_return_that_fails_is_tried_again_until_the_step_is_free() {
    World::run(|world| async move {
        counter(&world).await;
        let away = "perform nextval('calls'); raise exception 'away' using errcode = '57P03';";
        replace(&world, "release_steps", RELEASE_STEPS, "json", away).await;
        let settings =
            json!({"execution": {"threads": 1, "claim_ahead_wait": "10ms"}, "discovery": {"poll_interval": "1m"}});
        let orchestrator = world.orchestrator(&settings).await;
        world.create_task(&workflow("w", &[("s", &[])]), &json!({})).await;
        counted(&world, 3).await;
        assert_eq!(orchestrator.health().held, 1, "it holds the claim until it has been released");
        restore(&world, "release_steps").await;
        world.eventually(|| async { (orchestrator.health().released > 0).then_some(()) }).await;
        orchestrator.stop(Duration::ZERO).await.unwrap();
        assert_eq!(world.number("select count(*) from tasker_ready_steps").await, 1);
    });
}

const RELEASE_STEPS: &str =
    "p_process bigint, p_held jsonb, p_delay interval, p_reason text, p_begun boolean default false";

#[test]
fn claims_are_released_in_batches() {
    World::run(|world| async move {
        counter(&world).await;
        let count = "perform nextval('calls'); \
                     return tasker_core_v1.release_steps_before(p_process, p_held, p_delay, p_reason, p_begun);";
        replace(&world, "release_steps", RELEASE_STEPS, "json", count).await;
        let settings = json!({"execution": {"threads": 8, "claim_batch": 3, "claim_ahead_wait": "10m"}});
        let orchestrator = world.orchestrator(&settings).await;
        world.create_tasks(&workflow("w", &[("s", &[])]), &vec![json!({}); 8]).await;
        world.eventually(|| async { (orchestrator.health().buffered == 8).then_some(()) }).await;
        orchestrator.drain().await.unwrap();
        assert_eq!(world.number("select last_value from calls").await, 3, "3, 3, and 2");
        assert_eq!(world.number("select count(*) from tasker_ready_steps").await, 8);
        assert_eq!(orchestrator.health().held, 0);
        orchestrator.stop(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn a_claim_that_cannot_be_released_blocks_no_other() {
    let logged = listening();
    World::run(|world| async move {
        counter(&world).await;
        let settings =
            json!({"execution": {"threads": 9, "statements": 1, "claim_batch": 4, "claim_ahead_wait": "10m"}});
        let orchestrator = world.orchestrator(&settings).await;
        let tasks = world.create_tasks(&workflow("w", &[("s", &[])]), &vec![json!({}); 9]).await;
        world.eventually(|| async { (orchestrator.health().buffered == 9).then_some(()) }).await;
        let running = orchestrator.next_step().await.unwrap();
        let others: Vec<i64> = tasks.iter().map(|task| task.id).filter(|id| *id != running.task_id).collect();
        let guilty = others[5];
        // As if the guilty one's row lay on a damaged page. More than a batch is refused in any case.
        let damage = format!(
            "if p_held @> '[{{\"task_id\": {guilty}}}]' then \
               perform nextval('calls') where jsonb_array_length(p_held) = 1; \
               raise exception 'missing chunk' using errcode = 'XX001'; \
             elsif jsonb_array_length(p_held) > 4 then \
               raise exception 'too many'; \
             end if; \
             return tasker_core_v1.release_steps_before(p_process, p_held, p_delay, p_reason, p_begun);"
        );
        replace(&world, "release_steps", RELEASE_STEPS, "json", &damage).await;
        let refusal = orchestrator.drain().await.unwrap_err();
        assert!(refusal.to_string().contains("missing chunk"), "{refusal}");
        let free = || async { (world.number("select count(*) from tasker_ready_steps").await == 7).then_some(()) };
        world.eventually(free).await;
        counted(&world, 3).await;
        let holder = "select process_id::text from tasker_claimed_steps where task_id = $1";
        assert_eq!(world.text(holder, guilty).await, orchestrator.process_id().to_string());
        let records = logged.records.lock().unwrap().clone();
        let mut named =
            records.iter().filter(|line| line.message == "a claim could not be released and is tried again");
        let last = named.rfind(|line| line.context.task_id == Some(guilty)).unwrap();
        assert_eq!((field(last, "position"), last.level.as_str()), (Some(json!(0)), "WARN"));
        // Refused again and again, it delays no outcome.
        orchestrator.finish(Outcome::Completed { token: running.token, result: raw(&json!({})) }).await.unwrap();
        assert_eq!(world.ended(running.task_id).await, "complete");
        // The outcome's claim is held until the worker has the response; the other until it has been released.
        world.eventually(|| async { (orchestrator.health().held == 1).then_some(()) }).await;
        restore(&world, "release_steps").await;
        world.eventually(|| async { (orchestrator.health().held == 0).then_some(()) }).await;
        assert_eq!(world.number("select count(*) from tasker_ready_steps").await, 8);
        orchestrator.stop(Duration::ZERO).await.unwrap();
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
    });
}

const HEARTBEAT: &str = "p_process bigint, p_held jsonb, p_age interval default null, p_stats jsonb default null";

#[test]
fn a_process_with_unreadable_claims_stays_alive() {
    World::run(|world| async move {
        counter(&world).await;
        let settings = json!({"execution": {"threads": 1}, "leases": {"heartbeat_interval": "50ms"}});
        let orchestrator = world.orchestrator(&settings).await;
        let task = world.create_task(&workflow("w", &[("s", &[])]), &json!({})).await.id;
        let running = orchestrator.next_step().await.unwrap();
        let damage = "if jsonb_array_length(p_held) > 0 then \
                        raise exception 'missing chunk' using errcode = 'XX001'; \
                      end if; \
                      perform nextval('calls'); \
                      return tasker_core_v1.heartbeat_before(p_process, p_held, p_age, p_stats);";
        replace(&world, "heartbeat", HEARTBEAT, "json", damage).await;
        world
            .pool
            .execute("update tasker_processes set heartbeat_at = heartbeat_at - interval '1 second'")
            .await
            .unwrap();
        counted(&world, 2).await;
        let lives = "select count(*) from tasker_processes where heartbeat_at > now() - interval '1 minute' and \
                     id = (select process_id from tasker_claimed_steps)";
        assert_eq!(world.number(lives).await, 1, "and its claim is not released");
        orchestrator.finish(Outcome::Completed { token: running.token, result: raw(&json!({})) }).await.unwrap();
        assert_eq!(world.ended(task).await, "complete");
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_process_registers_anew_without_claims_that_cannot_be_read() {
    World::run(|world| async move {
        let settings = json!({"execution": {"threads": 1}, "leases": {"heartbeat_interval": "50ms"},
                              "maintenance": {"sweep_interval": "10m"}});
        for broken in ["register_process", "heartbeat"] {
            let orchestrator = world.orchestrator(&settings).await;
            let at_once = with(workflow("w", &[("s", &[])]), 0, "retry", json!({"backoff": "none"}));
            let task = world.create_task(&at_once, &json!({})).await.id;
            let running = orchestrator.next_step().await.unwrap();
            let former = orchestrator.process_id();
            let missing = "raise exception 'missing chunk' using errcode = 'XX001'; end if; return tasker_core_v1";
            if broken == "heartbeat" {
                let damage = format!(
                    "if p_process <> {former} and p_held is not null then {missing}.heartbeat_before(p_process, p_held, p_age, p_stats);"
                );
                replace(&world, "heartbeat", HEARTBEAT, "json", &damage).await;
            } else {
                let damage =
                    format!("if p_former is not null then {missing}.register_process_before(p_process, p_former);");
                let arguments = "p_process jsonb, p_former jsonb default null";
                replace(&world, "register_process", arguments, "bigint", &damage).await;
            }
            world.pool.execute("delete from tasker_processes").await.unwrap();
            world.eventually(|| async { (orchestrator.process_id() != former).then_some(()) }).await;
            restore(&world, broken).await;
            assert!(orchestrator.revoked(running.token), "another process may have its step");
            let late = Outcome::Completed { token: running.token, result: raw(&json!({"late": true})) };
            orchestrator.finish(late).await.unwrap();
            // The worker may sweep too, once it may judge others: then these sweeps find nothing.
            let lost = "update tasker_claimed_steps set deadline = now() where token = $1";
            sqlx::query(lost).bind(running.token).execute(&world.pool).await.unwrap();
            world.sweep_after("0 s").await;
            world.sweep_after("0 s").await;
            let again = orchestrator.next_step().await.unwrap();
            assert_eq!((again.task_id, again.attempt), (task, 2));
            orchestrator.finish(Outcome::Completed { token: again.token, result: raw(&json!({})) }).await.unwrap();
            assert_eq!(world.ended(task).await, "complete");
            assert_eq!(world.result(task, "s").await, json!({}));
            orchestrator.stop(Duration::from_secs(5)).await.unwrap();
        }
    });
}

#[test]
fn many_tasks_are_created_by_several_statements_or_none_of_them() {
    World::run(|world| async move {
        counter(&world).await;
        let count = "perform nextval('calls'); \
                     if p_requests @> '[{\"tags\": [\"bad\"]}]' then \
                       raise exception 'no such tag' using errcode = '22023'; \
                     end if; \
                     return tasker_core_v1.create_tasks_before(p_requests, p_null_if_unregistered);";
        replace(
            &world,
            "create_tasks",
            "p_requests jsonb, p_null_if_unregistered boolean default false",
            "json",
            count,
        )
        .await;
        for poll_only in [false, true] {
            let overrides = json!({"database": {"poll_only": poll_only}});
            let settings = Configuration::load(Some(&overrides)).unwrap();
            let connections = database::connect(&Address::from_url(&world.url), &settings.database).await.unwrap();
            let functions = Functions::new(connections, &settings.database);
            let name = format!("w_{poll_only}");
            let one = Arc::new(Workflow::compile(&workflow(&name, &[("s", &[])]), &settings).unwrap());
            let initializer = TaskInitializer::new(functions.clone(), one);
            let request = |n: usize| initializer.request(raw(&json!({"n": n, "text": "x".repeat(1_000_000)}))).unwrap();
            let mut requests: Vec<TaskRequest> = (0..9).map(request).collect();
            requests[8].tags = vec!["bad".to_owned()];
            let refusal = initializer.create(&requests).await.unwrap_err();
            assert!(refusal.to_string().contains("no such tag"), "{refusal}");
            assert_eq!(world.number("select last_value from calls").await, 3, "4 MB, 4 MB, and the rest");
            assert_eq!(world.number("select count(*) from tasker_tasks").await, 0);
            requests[8].tags.clear();
            let ids: Vec<i64> = initializer.create(&requests).await.unwrap().iter().map(|task| task.id).collect();
            let in_order = "select array_agg(task_id order by (input->>'n')::integer) from tasker_task_inputs";
            let stored: Vec<i64> = sqlx::query_scalar(in_order).fetch_one(&world.pool).await.unwrap();
            assert_eq!(stored, ids);
            assert_eq!(world.number("select last_value from calls").await, 6);
            assert_eq!(initializer.create(&[]).await.unwrap().len(), 0);
            functions.pool().close().await;
            let again = "truncate tasker_tasks, tasker_task_inputs, tasker_workflow_steps, tasker_ready_steps; \
                         alter sequence calls restart";
            world.pool.execute(again).await.unwrap();
        }
    });
}

#[test]
fn a_stop_at_once_delivers_submitted_outcomes() {
    World::run(|world| async move {
        let settings = json!({"execution": {"threads": 2, "statements": 1}});
        let orchestrator = world.orchestrator(&settings).await;
        let tasks = world.create_tasks(&workflow("w", &[("s", &[])]), &[json!({}), json!({})]).await;
        let first = orchestrator.next_step().await.unwrap();
        let second = orchestrator.next_step().await.unwrap();
        // The first outcome is under way and waits; the second has not been sent.
        let mut holder = PgConnection::connect(&world.url).await.unwrap();
        let mut held = holder.begin().await.unwrap();
        sqlx::query("select from tasker_workflow_steps for update").execute(&mut *held).await.unwrap();
        let completed = |token| Outcome::Completed { token, result: raw(&json!({})) };
        orchestrator.finish(completed(first.token)).await.unwrap();
        world
            .eventually(|| async {
                let sql = "select count(*) from pg_stat_activity \
                           where datname = current_database() and wait_event_type = 'Lock'";
                (world.number(sql).await > 0).then_some(())
            })
            .await;
        orchestrator.finish(completed(second.token)).await.unwrap();
        let stopping = tokio::spawn({
            let orchestrator = orchestrator.clone();
            async move { orchestrator.stop(Duration::ZERO).await }
        });
        world.eventually(|| async { orchestrator.health().draining.then_some(()) }).await;
        held.rollback().await.unwrap();
        stopping.await.unwrap().unwrap();
        for task in tasks {
            assert_eq!(world.ended(task.id).await, "complete");
        }
        assert_eq!(world.number("select count(*) from tasker_step_attempts where outcome <> 'completed'").await, 0);
    });
}

#[test]
fn a_worker_learns_a_definition_whose_id_was_given_again() {
    World::run(|world| async move {
        let registry: HandlerRegistry = handlers([
            ("s", (|_: &StepContext| Ok(json!({"by": "s"}))) as fn(&StepContext) -> _),
            ("t", |_: &StepContext| Ok(json!({"by": "t"}))),
        ]);
        let worker = world.worker(&registry, &json!({"discovery": {"poll_interval": "20ms"}})).await;
        let task = world.create_task(&workflow("first", &[("s", &[])]), &json!({})).await.id;
        assert_eq!(world.ended(task).await, "complete");
        let tables = "tasker_workflow_versions, tasker_step_definitions, tasker_tasks, tasker_task_inputs, \
                      tasker_workflow_steps, tasker_step_attempts";
        world.pool.execute(AssertSqlSafe(format!("truncate {tables} restart identity"))).await.unwrap();
        let task = world.create_task(&workflow("second", &[("t", &[])]), &json!({})).await.id;
        assert_eq!(world.ended(task).await, "complete");
        assert_eq!(world.result(task, "t").await, json!({"by": "t"}));
        worker.stop(Duration::from_secs(5)).await.unwrap();
    });
}

/// Creates three tasks that ended long ago, so that retention removes them; returns their ids in the order of their
/// uuids.
async fn old_tasks(world: &World) -> Vec<i64> {
    world.create_tasks(&workflow("old", &[("s", &[])]), &vec![json!({}); 3]).await;
    let age = "select tasker_core_v1.cancel_task(id, 'why', 'ada') from tasker_tasks; \
               update tasker_tasks set uuid = tasker_core_v1.uuid_v7(now() - interval '40 days'), \
                 ended_at = now() - interval '40 days'";
    world.pool.execute(age).await.unwrap();
    sqlx::query_scalar("select id from tasker_tasks order by uuid").fetch_all(&world.pool).await.unwrap()
}

/// Makes a chore fail with several tasks at once, and with the single task that `next` selects.
async fn fail_with(world: &World, task: i64, chore: &str, arguments: &str, next: &str, call: &str) {
    let body = format!(
        "if p_limit > 1 then raise exception 'too much' using errcode = '57014'; end if; \
         if {task} = ({next}) then raise exception 'missing chunk' using errcode = 'XX001'; end if; \
         return tasker_core_v1.{chore}_before({call});"
    );
    replace(world, chore, arguments, "json", &body).await;
}

#[test]
fn retention_skips_a_task_that_it_cannot_remove() {
    World::run(|world| async move {
        let tasks = old_tasks(&world).await;
        let next = "select id from tasker_tasks \
                    where uuid > coalesce(p_after, '00000000-0000-0000-0000-000000000000') order by uuid limit 1";
        let arguments = "p_keep interval, p_after uuid, p_limit integer, p_dry_run boolean";
        fail_with(&world, tasks[1], "prune", arguments, next, "p_keep, p_after, p_limit, p_dry_run").await;
        let settings = json!({"retention": {"interval": "3s", "limit": 10000}, "discovery": {"poll_jitter": 0}});
        let started = Instant::now();
        let orchestrator = world.orchestrator(&settings).await;
        world
            .eventually(|| async { (world.number("select count(*) from tasker_tasks").await == 1).then_some(()) })
            .await;
        assert_eq!(world.number("select id from tasker_tasks").await, tasks[1]);
        // From 10000 tasks to one it takes 13 halvings.
        assert!(started.elapsed() < Duration::from_secs(13 * 3), "an interval passed after each halving");
        orchestrator.stop(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn retention_starts_over_after_an_error_that_no_task_causes() {
    World::run(|world| async move {
        let tasks = old_tasks(&world).await;
        world.create_task(&workflow("young", &[("s", &[])]), &json!({})).await;
        let age = format!("update tasker_tasks set ended_at = now() where id = {}", tasks[1]);
        world.pool.execute(AssertSqlSafe(age)).await.unwrap();
        let broken = "raise exception 'missing chunk' using errcode = 'XX001';";
        replace(
            &world,
            "unused_versions",
            "p_before timestamptz, p_limit integer, p_dry_run boolean",
            "bigint[]",
            broken,
        )
        .await;
        let orchestrator = world.orchestrator(&json!({"retention": {"interval": "1s"}})).await;
        let left = |count: i64| {
            let world = world.clone();
            async move {
                world
                    .eventually(|| async {
                        (world.number("select count(*) from tasker_tasks").await == count).then_some(())
                    })
                    .await;
            }
        };
        left(2).await;
        let age = "update tasker_tasks set ended_at = now() - interval '40 days' where ended_at is not null";
        world.pool.execute(age).await.unwrap();
        left(1).await;
        orchestrator.stop(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn an_audit_skips_a_task_that_it_cannot_check() {
    World::run(|world| async move {
        let mut tasks = old_tasks(&world).await;
        let next = "select id from tasker_tasks where id > p_after order by id limit 1";
        tasks.sort_unstable();
        fail_with(&world, tasks[1], "audit", "p_after bigint, p_limit integer", next, "p_after, p_limit").await;
        let broken = "update tasker_tasks set ended_at = null where id = (select max(id) from tasker_tasks)";
        world.pool.execute(broken).await.unwrap();
        let settings =
            json!({"maintenance": {"audit_interval": "1s", "audit_limit": 2}, "retention": {"enabled": false}});
        let orchestrator = world.orchestrator(&settings).await;
        world.eventually(|| async { (orchestrator.health().broken == 1).then_some(()) }).await;
        orchestrator.stop(Duration::ZERO).await.unwrap();
    });
}
