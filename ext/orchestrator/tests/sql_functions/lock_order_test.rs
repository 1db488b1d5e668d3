//! The order in which functions lock rows: claims by token, steps by task and position, tasks by id. Each case holds
//! the last of several rows: a call that locks in that order waits for it with the earlier rows locked.

use serde_json::json;

use crate::session::{completed, failed_for_good, finish, held_by, on, register, token, waits_for, Session};
use crate::support::{workflow, World};

/// Rows of two tables, as a condition.
struct Row {
    table: &'static str,
    condition: String,
}

fn claim(token: i64) -> Row {
    Row { table: "tasker_claimed_steps", condition: format!("token = {token}") }
}

fn step(task: i64, position: i32) -> Row {
    Row { table: "tasker_workflow_steps", condition: format!("task_id = {task} and position = {position}") }
}

fn task(id: i64) -> Row {
    Row { table: "tasker_tasks", condition: format!("id = {id}") }
}

impl Row {
    fn lock(&self) -> String {
        format!("select from {} where {} for update", self.table, self.condition)
    }
}

/// Makes the call while another session holds `held`, and returns the rows that it has locked when it waits.
async fn locked_while_waiting(world: &World, call: &str, held: &Row, rows: &[Row]) -> Vec<bool> {
    let mut holder = Session::open(world).await;
    holder.run(&format!("begin; {}", held.lock())).await;
    let caller = Session::open(world).await;
    let waiter = caller.backend;
    let calling = caller.begin(call);
    waits_for(world, waiter, holder.backend).await;
    let mut prober = Session::open(world).await;
    let mut locked = Vec::new();
    for row in rows {
        let free = format!("exists (select from {} where {} for update skip locked)", row.table, row.condition);
        locked.push(prober.one(&free).await == json!(false));
    }
    holder.run("rollback").await;
    let (_, response) = calling.await.unwrap();
    response.unwrap_or_else(|refusal| panic!("{call}: {refusal:?}"));
    locked
}

/// Two tasks of one step each, claimed in the opposite order of their ids, and a process that holds both.
async fn two_claims(world: &World, session: &mut Session) -> (i64, [i64; 2], [i64; 2], Vec<serde_json::Value>) {
    let one = register(world, &workflow("one", &[("s", &[])])).await;
    let process = session.process("*").await;
    let first = session.create(&one, json!({"priority": 5})).await;
    let second = session.create(&one, json!({"priority": 1})).await;
    let claims = session.claim(process, "*", 2).await;
    let tokens = [token(&claims[0]), token(&claims[1])];
    assert!(tokens[0] < tokens[1] && claims[0]["task_id"] == second && first < second);
    (process, [first, second], tokens, claims)
}

#[test]
fn a_finish_locks_claims_by_token_then_steps_then_tasks() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let (process, tasks, tokens, claims) = two_claims(&world, &mut session).await;
        let call = finish(process, &[completed(&claims[1]), completed(&claims[0])], 0);
        let locked =
            locked_while_waiting(&world, &call, &claim(tokens[1]), &[claim(tokens[0]), step(tasks[0], 0)]).await;
        assert_eq!(locked, [true, false]);

        let (process, tasks, _, claims) = two_claims(&world, &mut session).await;
        let call = finish(process, &[completed(&claims[1]), completed(&claims[0])], 0);
        let locked =
            locked_while_waiting(&world, &call, &step(tasks[1], 0), &[step(tasks[0], 0), task(tasks[0])]).await;
        assert_eq!(locked, [true, false]);

        let (process, tasks, _, claims) = two_claims(&world, &mut session).await;
        let call = finish(process, &[completed(&claims[0]), completed(&claims[1])], 0);
        assert_eq!(locked_while_waiting(&world, &call, &task(tasks[1]), &[task(tasks[0])]).await, [true]);
    });
}

#[test]
fn a_release_locks_claims_by_token() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let (_, _, tokens, _) = two_claims(&world, &mut session).await;
        let call = format!("return_claims('{{{},{}}}', '0', 'shutdown')", tokens[1], tokens[0]);
        assert_eq!(locked_while_waiting(&world, &call, &claim(tokens[1]), &[claim(tokens[0])]).await, [true]);
    });
}

#[test]
fn children_are_locked_by_position_before_their_task() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let root: &[&str] = &["root"];
        let fan = register(&world, &workflow("fan", &[("root", &[]), ("a", root), ("b", root), ("c", root)])).await;
        let process = session.process("*").await;
        let id = session.create(&fan, json!({})).await;
        let claims = session.claim(process, "*", 1).await;
        let call = finish(process, &[completed(on(&claims, "root"))], 0);
        let locked = locked_while_waiting(&world, &call, &step(id, 3), &[step(id, 1), step(id, 2), task(id)]).await;
        assert_eq!(locked, [true, true, false]);
    });
}

/// A task of three roots.
async fn three(world: &World, session: &mut Session) -> i64 {
    let three = register(world, &workflow("three", &[("a", &[]), ("b", &[]), ("c", &[])])).await;
    session.create(&three, json!({})).await
}

#[test]
fn a_cancellation_locks_claims_then_steps_then_the_task() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let id = three(&world, &mut session).await;
        let claims = session.claim(process, "*", 3).await;
        let (first, last) = (token(&claims[0]), token(&claims[2]));
        let call = format!("cancel_task({id}, 'why', 'who')");
        let locked = locked_while_waiting(&world, &call, &claim(last), &[claim(first), step(id, 0)]).await;
        assert_eq!(locked, [true, false]);

        let id = three(&world, &mut session).await;
        let call = format!("cancel_task({id}, 'why', 'who')");
        let locked = locked_while_waiting(&world, &call, &step(id, 2), &[step(id, 0), step(id, 1), task(id)]).await;
        assert_eq!(locked, [true, true, false]);
    });
}

#[test]
fn a_retry_locks_waiting_steps_by_position() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let id = three(&world, &mut session).await;
        let claims = session.claim(process, "*", 3).await;
        session.call(&format!("release_steps({process}, {}, '1 h', 'unknown_handler')", held_by(&claims))).await;
        let call = format!("retry_task({id}, 'why', 'who')");
        let locked = locked_while_waiting(&world, &call, &step(id, 2), &[step(id, 0), step(id, 1)]).await;
        assert_eq!(locked, [true, true]);
    });
}

#[test]
fn operators_lock_failed_steps_by_position_then_the_task() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        for action in ["retry_task", "resolve_task"] {
            let process = session.process("*").await;
            let id = three(&world, &mut session).await;
            let outcomes: Vec<_> = session.claim(process, "*", 3).await.iter().map(failed_for_good).collect();
            session.finish(process, &outcomes, 0).await;
            let call = format!("{action}({id}, 'why', 'who')");
            let locked = locked_while_waiting(&world, &call, &step(id, 2), &[step(id, 0), step(id, 1), task(id)]).await;
            assert_eq!(locked, [true, true, false], "{action}");
            session.call(&format!("deregister_process({process})")).await;
            session.run("delete from tasker_ready_steps").await;
        }
    });
}
