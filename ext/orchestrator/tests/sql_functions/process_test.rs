//! Worker processes: registration, heartbeats, wake-ups, and leaving.

use serde_json::json;
use sqlx::postgres::PgListener;

use crate::session::{held_by, key, quoted, register, request, stop_the_clock, token, Session};
use crate::support::{workflow, World};

#[test]
fn a_heartbeat_returns_revoked_tokens_and_releases_lost_claims() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let (process, other) = (session.process("*").await, session.process("*").await);
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 4]).await;
        let ours = session.claim(process, "*", 3).await;
        let theirs = session.claim(other, "*", 1).await;
        session.call(&format!("cancel_task({}, 'x', 'y')", tasks[0])).await;
        let held = quoted(&json!([key(&ours[0]), key(&ours[1]), {"token": 999}]));
        session.at("20 seconds").await;
        let response = session.call(&format!("heartbeat({process}, {held})")).await;
        assert_eq!((&response["known"], &response["revoked"]), (&json!(true), &json!([token(&ours[0]), 999])));
        assert_eq!(session.state(tasks[2], "s").await, "in_progress", "its response may still be on its way");
        let query = format!("select heartbeat_at from tasker_processes where id = {process}");
        assert_eq!(session.one(&query).await, "2030-01-01T12:00:20+00:00");
        session.at("20.001 seconds").await;
        assert_eq!(session.call(&format!("heartbeat({process}, {held})")).await["known"], true);
        assert_eq!(session.state(tasks[2], "s").await, "ready", "no process will ever finish it");
        let expected_events = format!(
            "select outcome || ': ' || (error->>'message') from tasker_step_attempts where token = {}",
            token(&ours[2])
        );
        let expected = format!("released: process {process} did not know of its claim");
        assert_eq!(session.one(&expected_events).await, expected, "it may have begun it after all");
        assert_eq!(session.state(tasks[1], "s").await, "in_progress");
        assert_eq!(session.state(tasks[3], "s").await, "in_progress", "another one's claim is its own");
        for (process, held, known, revoked) in [
            (other, held_by(&theirs), true, json!([])),
            (other, "'[]'".to_owned(), true, json!([])),
            (process, held_by(&theirs), true, json!([token(&theirs[0])])),
            (4711, r#"'[{"token": 1}]'"#.to_owned(), false, json!([1])),
        ] {
            let response = session.call(&format!("heartbeat({process}, {held})")).await;
            assert_eq!((&response["known"], &response["revoked"]), (&json!(known), &revoked), "{process} {held}");
        }
        assert_eq!(session.count("tasker_step_attempts where outcome <> 'released'").await, 0);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_process_registers_and_releases_its_claims_on_leaving() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let entry = json!({"name": "n", "hostname": "h", "pid": 7, "queues": ["a", "b"], "heartbeat_timeout_ms": 1500,
                           "lease_grace_ms": 250});
        let register_process = format!("register_process({})", quoted(&entry));
        let process = session.call(&register_process).await.as_i64().unwrap();
        let row = session.rows("select * from tasker_processes").await;
        assert_eq!(
            json!(row),
            json!([{"id": process, "name": "n", "hostname": "h", "pid": 7, "queues": ["a", "b"], "idle": false,
                    "idle_dispatcher": null, "started_at": "2030-01-01T12:00:00+00:00", "heartbeat_at": "2030-01-01T12:00:00+00:00",
                    "heartbeat_timeout": "00:00:01.5", "lease_grace": "00:00:00.25",
                    "stats": null}])
        );
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 3]).await;
        let other = session.process("*").await;
        session.claim(process, "*", 2).await;
        session.claim(other, "*", 1).await;
        assert_eq!(session.call(&format!("deregister_process({process})")).await, json!({"ready_queues": ["default"]}));
        assert_eq!(session.one("select json_agg(id) from tasker_processes").await, json!([other]));
        let mut states = Vec::new();
        for task in &tasks {
            states.push(session.state(*task, "s").await);
        }
        assert_eq!(states, ["ready", "ready", "in_progress"]);
        assert_eq!(session.count("tasker_step_attempts where outcome = 'released'").await, 2);
        assert_eq!(session.one("select max(attempts) from tasker_workflow_steps").await, 0);
        assert_eq!(session.call(&format!("deregister_process({process})")).await, json!({"ready_queues": []}));
        assert_ne!(session.call(&register_process).await, json!(process), "an id is never given again");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn only_queues_with_an_idle_process_are_notified_once_each() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let mut listener = PgListener::connect_with(&world.pool).await.unwrap();
        listener.listen("tasker_ready").await.unwrap();
        assert_eq!(session.call("wake_workers('{a,b}')").await, 0);
        let (idle, _busy) = (session.process("a,b").await, session.process("c").await);
        session.claim(idle, "a,b", 1).await;
        assert_eq!(session.call("wake_workers('{c}')").await, 0);
        assert_eq!(session.call("wake_workers('{}')").await, 0);
        assert_eq!(session.call("wake_workers('{a,c,a,d}')").await, 1);
        assert_eq!(listener.recv().await.unwrap().payload(), "a");
        let all = session.process("*").await;
        session.claim(all, "*", 1).await;
        assert_eq!(session.call("wake_workers('{d}')").await, 1);
        assert_eq!(listener.recv().await.unwrap().payload(), "d");
    });
}
