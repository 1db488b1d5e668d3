//! Calls with repeated, contradictory or unknown arguments.

use serde_json::{json, Value};

use crate::session::{completed, content, failed, held_by, register, request, steps, stop_the_clock, token, Session};
use crate::support::{workflow, World};

/// Claims on the steps of `count` tasks of one step each.
async fn claims(world: &World, session: &mut Session, process: i64, count: usize) -> Vec<Value> {
    let one = register(world, &workflow("one", &[("s", &[])])).await;
    session.create_all(&vec![request(&one, json!({})); count]).await;
    session.claim(process, "*", count).await
}

#[test]
fn the_first_of_several_outcomes_of_a_claim_counts() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let claims = claims(&world, &mut session, process, 40).await;
        let outcomes: Vec<Value> = claims.iter().rev().flat_map(|claim| [completed(claim), failed(claim)]).collect();
        let response = session.finish(process, &outcomes, 0).await;
        assert_eq!((&response["stale"], &response["retries"]), (&json!([]), &json!([])));
        assert_eq!(response["ended"].as_array().unwrap().len(), 40);
        assert_eq!(session.count("tasker_workflow_steps where state = 'complete'").await, 40);
        assert_eq!(session.count("tasker_step_attempts").await, 40);
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());

        // Sent again, both are stale.
        let response = session.finish(process, &outcomes[..2], 0).await;
        assert_eq!(response["stale"], json!([token(&claims[39]), token(&claims[39])]));
    });
}

#[test]
fn an_outcome_of_another_claim_does_not_displace_the_right_one() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let claim = claims(&world, &mut session, process, 1).await.remove(0);
        let mut other = failed(&claim);
        other["attempt"] = json!(2);
        let response = session.finish(process, &[other, completed(&claim)], 0).await;
        assert_eq!(response["stale"], json!([]));
        assert_eq!(session.state(claim["task_id"].as_i64().unwrap(), "s").await, "complete");
    });
}

#[test]
fn a_claim_given_twice_is_released_once() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let claims = claims(&world, &mut session, process, 2).await;
        let twice = held_by(&[claims[0].clone(), claims[1].clone(), claims[0].clone()]);
        for delay in ["0", "1 h"] {
            session.run("begin").await;
            let call = format!("release_steps({process}, {twice}, '{delay}', 'shutdown', true)");
            let queues = if delay == "0" { json!(["default"]) } else { json!([]) };
            assert_eq!(session.call(&call).await, json!({"ready_queues": queues}));
            let live = "(select from tasker_ready_steps union all select from tasker_waiting_steps) as live";
            assert_eq!(session.count(live).await, 2, "{delay}");
            assert_eq!(session.count("tasker_claimed_steps").await, 0);
            assert_eq!(session.count("tasker_step_attempts where outcome = 'released'").await, 2);
            session.run("rollback").await;
        }
    });
}

#[test]
fn an_unregistered_process_is_named_with_the_possible_reasons() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        assert_eq!(session.call("claim_steps(4711, '{*}', 1)").await, json!([]), "no step is ready");
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        session.create(&one, json!({})).await;
        let before = content(&world).await;
        for (id, facts) in [("4711", json!({"process": 4711})), ("null", json!({"process": null}))] {
            let refused = session.refused("TC005", &format!("claim_steps({id}, '{{*}}', 1)")).await;
            let message = format!("process {id} is not registered: it never was, has ended or was declared dead");
            assert_eq!(refused, (message, facts));
        }
        assert_eq!(content(&world).await, before);
    });
}

#[test]
fn setting_steps_aside_returns_one_form_whatever_the_limit_of_payloads() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        for bytes in ["null", "0", "1000"] {
            for queues in ["*", "default"] {
                let call = format!("claim_steps({process}, '{{{queues}}}', 1, {bytes}, true)");
                let nothing = json!({"versions": {}, "claims": [], "set_aside": []});
                assert_eq!(session.call(&call).await, nothing, "{call}");
                session.create(&one, json!({"input": {"n": 1}})).await;
                let response = session.call(&call).await;
                let claim = &response["claims"][0];
                assert_eq!((&claim["input"], &claim["deferred"]["input"]), (&Value::Null, &json!(true)), "{call}");
                assert_eq!(response["set_aside"], json!([]), "{call}");
                assert_eq!(response["versions"].as_object().unwrap().len(), 1, "{call}");
            }
        }
        // Without it, what callers without definitions get.
        assert_eq!(session.claim(process, "*", 1).await, [] as [Value; 0]);
        session.create(&one, json!({})).await;
        assert_eq!(steps(&session.claim(process, "*", 1).await), ["s"]);
    });
}

#[test]
fn an_unknown_task_or_step_has_no_state_and_no_definition() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let diamond = register(&world, &workflow("pair", &[("a", &[]), ("b", &["a"])])).await;
        let task = session.create(&diamond, json!({})).await;
        assert_eq!(session.call(&format!("task_state({task})")).await, "pending");
        let refused = session.refused("TC003", "task_state(4711)").await;
        assert_eq!(refused, ("there is no task 4711".to_owned(), json!({"task": 4711})));
        for action in ["cancel_task", "resolve_task", "retry_task"] {
            assert_eq!(session.refused("TC003", &format!("{action}(4711, 'why', 'ada')")).await, refused, "{action}");
        }

        let version = session.one("select workflow_version_id from tasker_tasks").await;
        let definition = |position: &str| {
            format!("select name, dependencies, dependents from tasker_core_v1.step_definition({version}, {position})")
        };
        let second = json!([{"name": "b", "dependencies": [0], "dependents": []}]);
        assert_eq!(json!(session.rows(&definition("1")).await), second);
        for position in ["2", "null"] {
            assert_eq!(session.rows(&definition(position)).await, [] as [Value; 0]);
        }
    });
}
