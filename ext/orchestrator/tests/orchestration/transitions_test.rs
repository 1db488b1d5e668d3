//! Every transition, allowed or rejected: every function on every reachable state of some small tasks.
//!
//! The search visits all states by savepoints of one transaction. In each it calls every function on every step,
//! records the transitions, and audits the result. The recorded transitions must be those of the tables in `states.rs`.

use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use serde_json::{json, Value};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::bounds_test::{replace, OPENING};
use crate::states::{StepState, TaskState, Transition, STEP_TRANSITIONS, TASK_TRANSITIONS};
use crate::support::{with, workflow, World};

/// From, to, and the function that made the transition.
type Arrow = (String, String, &'static str);

/// An operator's actions on one step, and the arguments of their calls besides task, position, reason and actor.
const STEP_ACTIONS: [(&str, &str); 5] = [
    ("resolve_step", ""),
    ("complete_step", r#", '{"by": "hand"}'"#),
    ("update_result", r#", '{"by": "hand"}'"#),
    ("retry_step", ""),
    ("release_step", ""),
];

/// How an attempt may end, and how many steps its process claims with it.
const ENDINGS: [(&str, u32); 4] = [
    (r#""outcome": "completed", "result": {}"#, 0),
    (r#""outcome": "completed", "result": {}"#, 1),
    (r#""outcome": "failed", "error": {}, "retryable": true"#, 0),
    (r#""outcome": "failed", "error": {}, "retryable": false"#, 0),
];

/// A call, and the step that it acts on, if it is one.
struct Action {
    by: &'static str,
    step: Option<(i64, i32)>,
    sql: String,
}

/// Everything that the search has observed.
#[derive(Default)]
struct Seen {
    situations: HashSet<String>,
    steps: BTreeSet<Arrow>,
    tasks: BTreeSet<Arrow>,
    /// States of steps, and the functions that were called on them.
    tried: BTreeSet<(String, &'static str)>,
    refused: BTreeSet<(String, &'static str)>,
}

/// The whole state, without values that differ in every run.
#[derive(Debug, Clone, PartialEq)]
struct Situation {
    tasks: Vec<(i64, String)>,
    /// Task, position, state, token of its claim.
    steps: Vec<(i64, i32, String, Option<i64>)>,
    signature: String,
}

struct Search {
    connection: PgConnection,
    process: i64,
    seen: Seen,
}

impl Search {
    async fn open(world: &World) -> Self {
        let connection = PgConnection::connect(&world.url).await.unwrap();
        Self { connection, process: world.process().await, seen: Seen::default() }
    }

    async fn run(&mut self, sql: &str) {
        self.connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn json(&mut self, sql: &str) -> Value {
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await;
        let text: Option<String> = row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0);
        text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    }

    async fn situation(&mut self) -> Situation {
        let seen = self
            .json(
                "select json_build_object('tasks', (select json_agg(json_build_array(t.id, c.state, t.active, t.remaining) \
                 order by t.id) from tasker_tasks t cross join tasker_core_v1.task_execution_context(t.id) c), \
                 'steps', (select json_agg(json_build_array(s.task_id, s.position, s.state, c.token, s.attempts, s.waiting_reason, \
                 s.result is null) order by s.task_id, s.position) from tasker_core_v1.step_states(array(select id from \
                 tasker_tasks)) s left join tasker_claimed_steps c on c.task_id = s.task_id and c.position = s.position))::text",
            )
            .await;
        let mut signed = seen.clone();
        for step in signed["steps"].as_array_mut().unwrap() {
            step[3] = json!(step[3].is_null());
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Situation {
            tasks: seen["tasks"].as_array().unwrap().iter().map(|it| (it[0].as_i64().unwrap(), text(&it[1]))).collect(),
            steps: seen["steps"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| {
                    let position = i32::try_from(it[1].as_i64().unwrap()).unwrap();
                    (it[0].as_i64().unwrap(), position, text(&it[2]), it[3].as_i64())
                })
                .collect(),
            signature: signed.to_string(),
        }
    }

    /// All calls to try in a situation, sensible or not.
    fn actions(&self, situation: &Situation) -> Vec<Action> {
        let process = self.process;
        let mut actions = Vec::new();
        let mut add = |by, step, call: &str| {
            actions.push(Action { by, step, sql: format!("select (tasker_core_v1.{call})::text") });
        };
        add("claim_steps", None, &format!("claim_steps({process}, '{{*}}', 1)"));
        add("claim_steps", None, &format!("claim_steps({process}, '{{*}}', 1, 0, true)"));
        add("sweep", None, "sweep(null, 100)");
        add("deregister_process", None, &format!("deregister_process({process})"));
        add("heartbeat", None, &format!("heartbeat({process}, '[]')"));
        for (task, _) in &situation.tasks {
            for action_name in ["cancel_task", "resolve_task", "retry_task", "repair_task"] {
                add(action_name, None, &format!("{action_name}({task}, 'why', 'who')"));
            }
        }
        for (task, position, _, token) in &situation.steps {
            let step = Some((*task, *position));
            // Without a claim, a token that is none any more.
            let token_is_good = token.is_some();
            let token = token.unwrap_or(0);
            let held = format!(
                "(select coalesce(jsonb_agg(to_jsonb(c)), '[{{\"token\": {token}}}]') from tasker_claimed_steps c where token = {token})"
            );
            for (outcome, limit) in ENDINGS.iter().take(if token_is_good { ENDINGS.len() } else { 1 }) {
                let outcomes =
                    format!("(select jsonb_agg(held || '{{{outcome}}}') from jsonb_array_elements({held}) as held)");
                add("finish_steps", step, &format!("finish_steps({process}, {outcomes}, {limit})"));
            }
            add("release_steps", step, &format!("release_steps({process}, {held}, '0', 'shutdown')"));
            if token_is_good {
                add("release_steps", step, &format!("release_steps({process}, {held}, '5 s', 'unknown_handler')"));
            }
            for (action_name, result) in STEP_ACTIONS {
                add(action_name, step, &format!("{action_name}({task}, {position}{result}, 'why', 'who')"));
            }
        }
        actions
    }

    /// Performs an action at a time when it can have an effect; returns whether it was rejected.
    async fn perform(&mut self, action: &Action) -> bool {
        let later = if matches!(action.by, "sweep" | "heartbeat") { "1 hour" } else { "0" };
        self.run(&format!("set local tasker_core.clock_offset = '{later}'")).await;
        let result = sqlx::query(AssertSqlSafe(action.sql.as_str())).fetch_one(&mut self.connection).await;
        match result {
            Ok(_) => {
                self.run("set local tasker_core.clock_offset = '0'").await;
                false
            }
            Err(sqlx::Error::Database(error))
                if matches!(error.code().as_deref(), Some("TC003" | "TC004" | "TC005")) =>
            {
                true
            }
            Err(error) => panic!("{}: {error}", action.sql),
        }
    }

    /// Tries every action from this situation on, as long as that leads to new situations.
    fn explore<'a>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(async move {
            let before = self.situation().await;
            if !self.seen.situations.insert(before.signature.clone()) {
                return;
            }
            let audited = self.json("select tasker_core_v1.audit(0, 100)::text").await;
            assert_eq!(audited["findings"], json!([]), "{before:?}");
            for action in self.actions(&before) {
                self.run("savepoint here").await;
                let refused = self.perform(&action).await;
                self.note(&before, &action, refused).await;
                if !refused {
                    self.explore().await;
                }
                self.run("rollback to savepoint here; release savepoint here").await;
            }
        })
    }

    async fn note(&mut self, before: &Situation, action: &Action, refused: bool) {
        if let Some((task, position)) = action.step {
            let (_, _, state, _) = before.steps.iter().find(|step| (step.0, step.1) == (task, position)).unwrap();
            self.seen.tried.insert((state.clone(), action.by));
            if refused {
                self.seen.refused.insert((state.clone(), action.by));
            }
        }
        if refused {
            return;
        }
        let after = self.situation().await;
        for (from, to) in before.steps.iter().zip(&after.steps).filter(|(from, to)| from.2 != to.2) {
            self.seen.steps.insert((from.2.clone(), to.2.clone(), action.by));
        }
        for (from, to) in before.tasks.iter().zip(&after.tasks).filter(|(from, to)| from.1 != to.1) {
            self.seen.tasks.insert((from.1.clone(), to.1.clone(), action.by));
        }
    }
}

/// Whether a claim without payloads succeeds.
#[derive(Clone, Copy, PartialEq)]
enum Rows {
    Sound,
    Damaged,
}

/// Searches a world that starts with this number of tasks of a workflow.
fn search(definition: Value, tasks: usize, rows: Rows) -> Seen {
    let found = Arc::new(Mutex::new(None));
    let result = found.clone();
    World::run(|world| async move {
        world.create_tasks(&definition, &vec![json!({}); tasks]).await;
        if rows == Rows::Damaged {
            let damage = "if p_inline_bytes = 0 and p_tasks <> '{}' then raise exception 'missing chunk' using errcode = 'XX001'; end if; \
                          return tasker_core_v1.insert_claims_before(
                 p_process, p_tasks, p_positions, p_ready_at, p_inline_bytes, p_dispatch, p_start_timeout);";
            replace(&world, "insert_claims", OPENING, "json", damage).await;
        }
        let mut search = Search::open(&world).await;
        search.run("begin").await;
        search.explore().await;
        search.run("rollback").await;
        *result.lock().unwrap() = Some(search.seen);
    });
    let seen = found.lock().unwrap().take();
    seen.unwrap()
}

fn arrows<State: std::fmt::Display>(table: &[Transition<State>]) -> BTreeSet<Arrow> {
    table.iter().map(|arrow| (arrow.from.to_string(), arrow.to.to_string(), arrow.by)).collect()
}

#[test]
fn transitions_match_the_tables_in_both_directions() {
    // A retry that waits for longer than a sweep is early here, but not than a second one would be.
    let retry = json!({"max_attempts": 2, "backoff": "fixed", "base": "59m", "cap": "59m", "jitter": 0});
    let single = workflow("single", &[("a", &[])]);
    let chain = with(workflow("chain", &[("a", &[]), ("b", &["a"])]), 1, "retryable", json!(false));
    let pair = with(workflow("pair", &[("a", &[]), ("b", &[])]), 0, "retryable", json!(false));
    let worlds = [
        (with(single.clone(), 0, "retry", retry.clone()), 1, Rows::Sound),
        (with(single.clone(), 0, "retryable", json!(false)), 2, Rows::Sound),
        (with(chain, 0, "retry", retry.clone()), 1, Rows::Sound),
        (with(pair, 1, "retry", retry.clone()), 1, Rows::Sound),
        (with(single, 0, "retry", retry), 1, Rows::Damaged),
    ];
    let mut all = Seen::default();
    for (definition, tasks, rows) in worlds {
        let seen = search(definition, tasks, rows);
        assert!(seen.situations.len() > 10, "the search ended too soon: {}", seen.situations.len());
        all.steps.extend(seen.steps);
        all.tasks.extend(seen.tasks);
        all.tried.extend(seen.tried);
        all.refused.extend(seen.refused);
    }
    let beyond = |seen: &BTreeSet<Arrow>, table: &BTreeSet<Arrow>| seen.difference(table).cloned().collect::<Vec<_>>();
    let (steps, tasks) = (arrows(STEP_TRANSITIONS), arrows(TASK_TRANSITIONS));
    assert_eq!(beyond(&all.steps, &steps), [], "steps: happened, and no table allows it");
    assert_eq!(beyond(&all.tasks, &tasks), [], "tasks: happened, and no table allows it");
    assert_eq!(beyond(&steps, &all.steps), [], "steps: in the table, and never happened");
    assert_eq!(beyond(&tasks, &all.tasks), [], "tasks: in the table, and never happened");

    // Every action on a step was tried in every state, and rejected where no arrow begins (update_result needs none).
    for (action_name, _) in STEP_ACTIONS {
        for state in StepState::ALL {
            assert!(
                all.tried.contains(&(state.to_string(), action_name)),
                "{action_name} was never tried on a step that is {state}"
            );
            let allowed = STEP_TRANSITIONS.iter().any(|arrow| arrow.from == state && arrow.by == action_name)
                || (action_name == "update_result" && state.is_done());
            let refused = all.refused.contains(&(state.to_string(), action_name));
            assert!(refused || allowed, "{action_name} on a step that is {state} was not refused");
        }
    }
    for state in TaskState::ALL {
        let reached = all.tasks.iter().any(|(from, to, _)| [from, to].contains(&&state.to_string()));
        assert!(reached, "no task was ever {state}");
    }
}
