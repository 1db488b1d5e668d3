//! Which process may finish, release or keep a claim, and until when, even if the database's sequences and clock are
//! reset.

use serde_json::{json, Value};

use crate::session::{
    all_held, completed, finish, held_by, key, quoted, register, request, stop_the_clock, text, token, Session,
};
use crate::support::{workflow, World};

#[test]
fn a_claim_is_held_only_with_its_whole_key_and_its_process() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let (process, other) = (session.process("*").await, session.process("*").await);
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let task = session.create(&one, json!({})).await;
        let claim = session.claim(process, "*", 1).await.remove(0);
        let mut strangers = vec![(other, claim.clone()), (4711, claim.clone())];
        for field in ["token", "task_id", "position", "attempt"] {
            for value in [json!(claim[field].as_i64().unwrap() + 1), Value::Null] {
                let mut stranger = claim.clone();
                stranger[field] = value;
                strangers.push((process, stranger));
            }
        }
        let before = crate::session::content(&world).await;
        for (process, stranger) in strangers {
            let held = quoted(&json!([key(&stranger)]));
            let label = format!("process {process}, claim {held}");
            let stale = session.call(&finish_raw(process, &stranger)).await["stale"].clone();
            assert_eq!(stale, json!([stranger["token"]]), "{label}");
            let released = session.call(&format!("release_steps({process}, {held}, '0', 'shutdown', true)")).await;
            assert_eq!(released, json!({"ready_queues": []}), "{label}");
            assert_eq!(session.call(&format!("held_claims({process}, {held})")).await, json!([]), "{label}");
            let query =
                format!("ancestor_results({task}, 0, null, null, null, {process}, {})", quoted(&key(&stranger)));
            // The step that it asks about is named apart from the claim.
            if stranger["task_id"] == claim["task_id"] && stranger["position"] == claim["position"] {
                assert_eq!(session.call(&query).await, Value::Null, "{label}");
            }
            assert_eq!(crate::session::content(&world).await, before, "{label}");
        }
        let held = held_by(std::slice::from_ref(&claim));
        assert_eq!(session.call(&format!("held_claims({process}, {held})")).await, json!([token(&claim)]));
        let query = format!("ancestor_results({task}, 0, null, null, null, {process}, {})", quoted(&key(&claim)));
        assert_eq!(session.call(&query).await["results"], json!({}));
        assert_eq!(session.finish(process, &[completed(&claim)], 0).await["stale"], json!([]));
        assert_eq!(session.call(&query).await, Value::Null, "it has ended");
    });
}

/// As `finish`, of a claim of which anything may be missing.
fn finish_raw(process: i64, claim: &Value) -> String {
    let mut outcome = key(claim);
    outcome["outcome"] = json!("completed");
    outcome["result"] = json!({});
    finish(process, &[outcome], 0)
}

/// Two tasks, of which the database has lost the first: it has returned to a state before that task was claimed,
/// including the sequence of tokens. Returns the claim that a process still has on the lost step, and the later one
/// with the same token.
async fn forgotten(world: &World, session: &mut Session, process: i64) -> (Value, Value) {
    // The worst case: the random part of the token is the same as well.
    session
        .run(
            "create or replace function tasker_core_v1.next_token() returns bigint language sql volatile as \
             $$ select nextval('tasker_claimed_steps_token_seq') << 20 $$",
        )
        .await;
    let one = register(world, &workflow("one", &[("s", &[])])).await;
    session.create_all(&vec![request(&one, json!({})); 2]).await;
    let first = session.claim(process, "*", 1).await.remove(0);
    let numbers = "select setval('tasker_claimed_steps_token_seq', currval('tasker_claimed_steps_token_seq'), false)";
    session.run("delete from tasker_claimed_steps; delete from tasker_workflow_steps where task_id = (select min(id) from tasker_tasks)").await;
    session.run("delete from tasker_task_inputs where task_id = (select min(id) from tasker_tasks); delete from tasker_tasks where id = (select min(id) from tasker_tasks)").await;
    session.run(numbers).await;
    let second = session.claim(process, "*", 1).await.remove(0);
    assert_eq!(token(&first), token(&second));
    (first, second)
}

#[test]
fn a_claim_lost_in_a_restore_gives_no_right_to_its_successor() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let (first, second) = forgotten(&world, &mut session, process).await;
        let reply = session.call(&format!("heartbeat({process}, {})", held_by(std::slice::from_ref(&first)))).await;
        assert_eq!(reply["revoked"], json!([token(&first)]));
        assert_eq!(session.finish(process, &[completed(&first)], 0).await["stale"], json!([token(&first)]));
        let ends = [json!({"from": "first"}), json!({"from": "second"})].map(|result| {
            let mut outcome = completed(&second);
            outcome["result"] = result;
            outcome
        });
        assert_eq!(session.finish(process, &ends[1..], 0).await["stale"], json!([]));
        let result = session.one("select result from tasker_workflow_steps").await;
        assert_eq!(result, json!({"from": "second"}));
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn audit_sees_a_step_that_was_ended_in_the_name_of_another() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let (first, second) = forgotten(&world, &mut session, process).await;
        // As if the token alone were the right to finish.
        let finish_steps = "tasker_core_v1.finish_steps(bigint, jsonb, integer, integer, integer)";
        let source = text(&session.one(&format!("select pg_get_functiondef('{finish_steps}'::regprocedure)")).await);
        let condition = "and (c.task_id, c.position, c.attempt) = (o.task_id, o.position, o.attempt)";
        let flawed = source.replace(condition, "");
        assert_ne!(flawed, source);
        session.run(&flawed).await;
        assert_eq!(session.finish(process, &[completed(&first)], 0).await["stale"], json!([]));
        let broken = world.broken_invariants().await;
        let expected = format!("I5 task {}: step s is complete without a successful attempt", second["task_id"]);
        assert!(broken.contains(&expected), "{broken:?}");
    });
}

#[test]
fn a_new_registration_takes_over_its_claims_and_releases_others() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 5]).await;
        let (former, other) = (session.process("*").await, session.process("*").await);
        let claims = session.claim(former, "*", 4).await;
        let theirs = session.claim(other, "*", 1).await;
        // It holds two of its claims, one of another process, and one with a wrong field.
        let mut wrong = claims[2].clone();
        wrong["attempt"] = json!(2);
        let held = [claims[0].clone(), claims[1].clone(), theirs[0].clone(), wrong];
        let system = session.one("select tasker_core_v1.server_identity()->>'system'").await;
        let entry = json!({"id": 4_503_599_627_370_495_i64, "name": "n", "hostname": "h", "pid": 1, "queues": ["*"],
                           "heartbeat_timeout_ms": 20_000, "lease_grace_ms": 30_000});
        let described = |system: &Value| {
            let former = json!({"process": former, "system": system, "held": held.iter().map(key).collect::<Value>()});
            format!("register_process({}, {})", quoted(&entry), quoted(&former))
        };
        let owners = "select coalesce(json_agg(process_id order by task_id), '[]') from tasker_claimed_steps";
        let taken = [entry["id"].clone(), entry["id"].clone(), json!(other)];
        for again in [false, true] {
            // The response was lost: the same statement is sent again.
            assert_eq!(session.call(&described(&system)).await, entry["id"], "again: {again}");
            assert_eq!(session.one(owners).await, json!(taken));
        }
        assert_eq!(session.count(&format!("tasker_processes where id = {former}")).await, 0);
        let mut states = Vec::new();
        for task in &tasks {
            states.push(session.state(*task, "s").await);
        }
        assert_eq!(states, ["in_progress", "in_progress", "ready", "ready", "in_progress"]);
        assert_eq!(session.count("tasker_step_attempts where outcome = 'released'").await, 2, "it may have begun them");
        let process = entry["id"].as_i64().unwrap();
        assert_eq!(session.finish(former, &[completed(&claims[0])], 0).await["stale"], json!([token(&claims[0])]));
        assert_eq!(session.finish(process, &[completed(&claims[0])], 0).await["stale"], json!([]));

        // Of another system nothing is taken over.
        let last = json!({"process": process, "system": "0", "held": [key(&claims[1])]});
        let entry = json!({"name": "n", "hostname": "h", "pid": 1, "queues": ["*"], "heartbeat_timeout_ms": 1, "lease_grace_ms": 1});
        session.call(&format!("register_process({}, {})", quoted(&entry), quoted(&last))).await;
        assert_eq!(session.state(tasks[1], "s").await, "ready");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_clock_jump_costs_dead_processes_only_their_claims() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 3]).await;
        let (lives, dead) = (session.process("*").await, session.process("*").await);
        let claims = session.claim(lives, "*", 2).await;
        session.claim(dead, "*", 1).await;
        let known = |age_s: i64| {
            let mut held = key(&claims[0]);
            held["age_ms"] = json!(age_s * 1000);
            quoted(&json!([held]))
        };
        let lease = "select claimed_at || ' ' || deadline from tasker_claimed_steps where token";
        let kept = format!("{lease} = {}", token(&claims[0]));
        let unknown = format!("{lease} = {}", token(&claims[1]));
        let judged = |response: &Value| (response["lost_attempts"].clone(), response["clock_jump"]["by_ms"].as_f64());

        // The process's own clock says 10 s, the database's an hour more.
        session.at("1 hour 10 seconds").await;
        let swept = session.call(&format!("sweep({lives}, 10, '10 s')")).await;
        assert_eq!(judged(&swept), (json!(0), Some(3_600_000.0)));
        assert_eq!(swept["clock_jump"]["grace_ms"].as_f64(), Some(20_000.0));
        let reply = session.call(&format!("heartbeat({lives}, {}, '10 s')", known(10))).await;
        assert_eq!(reply["clock_jump"]["by_ms"].as_f64(), Some(3_600_000.0));
        // Both run as before; the response for the unknown one may be on its way.
        assert_eq!(session.one(&kept).await, "2030-01-01 13:00:00+00 2030-01-01 13:05:30+00");
        assert_eq!(session.one(&unknown).await, "2030-01-01 13:00:10+00 2030-01-01 13:05:40+00");
        let quiet = session.call(&format!("sweep({lives}, 10, '0 s', false)")).await;
        assert_eq!((judged(&quiet), session.state(tasks[2], "s").await), ((json!(0), None), "in_progress".to_owned()));

        // And back: the dead one's sign of life, like nothing of the living one, is of a time to come.
        session.at("15 seconds").await;
        let swept = session.call(&format!("sweep({lives}, 10, '5 s')")).await;
        assert_eq!(judged(&swept), (json!(0), Some(-3_600_000.0)));
        session.call(&format!("heartbeat({lives}, {}, '5 s')", known(15))).await;
        assert_eq!(session.one(&kept).await, "2030-01-01 12:00:00+00 2030-01-01 12:05:30+00");
        assert_eq!(session.one(&unknown).await, "2030-01-01 12:00:15+00 2030-01-01 12:05:45+00");
        session.run(&format!("update tasker_processes set heartbeat_at = '2030-01-01 13:00Z' where id = {dead}")).await;
        let swept = session.call(&format!("sweep({lives}, 10, '2 s')")).await;
        assert_eq!(judged(&swept), (json!(1), None), "a small difference is the time of a round trip");
        assert_eq!(session.state(tasks[2], "s").await, "waiting", "it would have sent another heartbeat since");
        assert_eq!(session.state(tasks[0], "s").await, "in_progress");
        assert_eq!(
            session.call(&format!("sweep({dead}, 10, '1 h')")).await["clock_jump"],
            Value::Null,
            "it is off the list"
        );
        let held = all_held(lives);
        assert_eq!(session.call(&format!("heartbeat({lives}, {held}, '0 s')")).await["revoked"], json!([]));
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_role_without_rights_can_read_the_server_identity() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let own = session.call("server_identity()").await;
        assert!(text(&own["system"]).parse::<u64>().is_ok() && text(&own["timeline"]).len() == 8, "{own}");
        let role = format!("owns_nothing_{}", session.backend);
        session
            .run(&format!("create role {role}; grant usage on schema tasker_core_v1 to {role}; set role {role}"))
            .await;
        assert_eq!(session.call("server_identity()").await, own);
        session.run(&format!("reset role; revoke usage on schema tasker_core_v1 from {role}; drop role {role}")).await;
    });
}

#[test]
fn tokens_rise_and_never_repeat_after_a_sequence_reset() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let drawn = "select array_agg(tasker_core_v1.next_token()) from generate_series(1, 50)";
        let first: Vec<i64> = serde_json::from_value(session.one(drawn).await).unwrap();
        assert!(first.is_sorted());
        session.run("select setval('tasker_claimed_steps_token_seq', 1, false)").await;
        let again: Vec<i64> = serde_json::from_value(session.one(drawn).await).unwrap();
        assert!(first.iter().zip(&again).all(|(one, other)| one >> 20 == other >> 20));
        assert!(first.iter().all(|token| !again.contains(token)));
    });
}

#[test]
fn audit_sees_a_sequence_of_tokens_that_is_behind() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let task = session.create(&one, json!({})).await;
        session.run("select setval('tasker_claimed_steps_token_seq', 41)").await;
        let claim = session.claim(process, "*", 1).await.remove(0);
        session.finish(process, &[completed(&claim)], 0).await;
        assert_eq!(session.call("audit(0, 10)").await["findings"], json!([]));
        // As after a restore of the rows without their sequences.
        session.run("select setval('tasker_claimed_steps_token_seq', 1)").await;
        let expected = "step s has an attempt with token number 42, but the sequence of tokens is at 1: advance it, \
                        select setval('tasker_claimed_steps_token_seq', 42)";
        let finding = json!({"task_id": task, "position": 0, "rule": "I6", "explanation": expected});
        assert_eq!(session.call("audit(0, 10)").await["findings"], json!([finding]));
        session.run("select setval('tasker_claimed_steps_token_seq', 42)").await;
        assert_eq!(session.call("audit(0, 10)").await["findings"], json!([]));
    });
}
