//! A workflow of thousands of steps: the cost of a step must not depend on their number.

use serde_json::{json, Value};
use sqlx::{Connection, Executor, PgConnection};

use crate::support::World;

/// One root, `width` branches, one join.
fn wide(width: usize) -> Value {
    let branches: Vec<String> = (0..width).map(|number| format!("branch_{number}")).collect();
    let mut steps = vec![json!({"name": "root", "handler": "noop"})];
    steps.extend(branches.iter().map(|name| json!({"name": name, "handler": "noop", "depends_on": ["root"]})));
    steps.push(json!({"name": "join", "handler": "noop", "depends_on": branches}));
    json!({"name": "wide", "steps": steps})
}

/// Rows that have been read so far of the tables in which each step has one.
async fn rows_read(session: &mut PgConnection) -> i64 {
    session.execute("select pg_stat_force_next_flush()").await.unwrap();
    session.execute("select pg_stat_clear_snapshot()").await.unwrap();
    let sql = "select sum(idx_tup_fetch + seq_tup_read)::bigint from pg_stat_user_tables \
               where relname in ('tasker_step_definitions', 'tasker_workflow_steps')";
    sqlx::query_scalar(sql).fetch_one(session).await.unwrap()
}

#[test]
fn a_step_of_a_wide_workflow_is_handled_without_its_siblings() {
    const WIDTH: i64 = 2000;
    World::run(|world| async move {
        // The planner has no statistics of the workflow's number of steps.
        world.pool.execute("alter table tasker_step_definitions set (autovacuum_enabled = false)").await.unwrap();
        world.create_task(&wide(WIDTH as usize), &json!({})).await;
        let process = world.process().await;
        let mut session = PgConnection::connect(&world.url).await.unwrap();
        let claim = "select array(select (claim->>'token')::bigint \
                     from json_array_elements(tasker_core_v1.claim_steps($1, '{*}', 100)) as claim)";
        let finish = "select tasker_core_v1.finish_steps($1, (select jsonb_agg( \
                      to_jsonb(c) || jsonb_build_object('outcome', 'completed', 'result', '{}'::jsonb)) \
                      from unnest($2) as token cross join lateral ( \
                        select * from tasker_claimed_steps c where c.token = token.token limit 1) as c), 0)::text";
        let release = "select tasker_core_v1.return_claims($1, '0', 'shutdown')::text";

        let root: Vec<i64> = sqlx::query_scalar(claim).bind(process).fetch_one(&mut session).await.unwrap();
        sqlx::query(finish).bind(process).bind(&root).execute(&mut session).await.unwrap();
        for action in ["release", "finish"] {
            let before = rows_read(&mut session).await;
            let tokens: Vec<i64> = sqlx::query_scalar(claim).bind(process).fetch_one(&mut session).await.unwrap();
            assert_eq!(tokens.len(), 100);
            let given_back = match action {
                "release" => sqlx::query(release).bind(&tokens),
                _ => sqlx::query(finish).bind(process).bind(&tokens),
            };
            given_back.execute(&mut session).await.unwrap();
            let read = rows_read(&mut session).await - before;
            assert!(read < 100 * 20, "to claim and {action} 100 steps, {read} rows were read");
        }

        // The join gets the results of all its parents, each of which is read once.
        while world.number("select count(*) from tasker_workflow_steps where state = 'complete'").await <= WIDTH {
            let tokens: Vec<i64> = sqlx::query_scalar(claim).bind(process).fetch_one(&mut session).await.unwrap();
            sqlx::query(finish).bind(process).bind(&tokens).execute(&mut session).await.unwrap();
        }
        let before = rows_read(&mut session).await;
        sqlx::query(claim).bind(process).execute(&mut session).await.unwrap();
        let read = rows_read(&mut session).await - before;
        assert!((2 * WIDTH..3 * WIDTH).contains(&read), "to claim the join, {read} rows were read");
    });
}
