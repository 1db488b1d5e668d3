//! Sweep, retention, audit and repair, called directly: what they change, what they keep, and that no table grows
//! without limit.

use std::collections::BTreeMap;

use serde_json::{json, Value};
use tasker_orchestrator::Workflow;

use crate::session::{
    all_held, completed, content, failed, failed_for_good, quoted, register, request, stop_the_clock, tables, text,
    token, tokens, waits_for, Session,
};
use crate::support::{with, workflow, World, DIAMOND};

/// The counts of a sweep, without its events of attempts and tasks.
fn counts(swept: &Value) -> Value {
    let mut counts = swept.clone();
    for reported in ["attempts", "ended", "clock_jump", "set_aside", "unstarted"] {
        counts.as_object_mut().unwrap().remove(reported).unwrap();
    }
    counts
}

/// Four claimed steps that are tried twice, and a clock at 20 s: one step's process is silent, one's is not registered,
/// and two are of a live process, one of them with a time limit of 5 s.
struct Claimed {
    session: Session,
    silent: i64,
    missing: i64,
    live: i64,
    tasks: [i64; 4],
}

impl Claimed {
    async fn prepare(world: &World) -> Self {
        stop_the_clock(world).await;
        let mut session = Session::open(world).await;
        let retry = json!({"max_attempts": 2, "backoff": "fixed", "base": "10s", "jitter": 0});
        let long = with(with(workflow("long", &[("s", &[])]), 0, "retry", retry.clone()), 0, "timeout", json!("1h"));
        let short = with(with(workflow("short", &[("s", &[])]), 0, "retry", retry), 0, "timeout", json!("5s"));
        let (long, short) = (register(world, &long).await, register(world, &short).await);
        let [silent, live, missing] =
            [session.process("*").await, session.process("*").await, session.process("*").await];
        let mut tasks = [0; 4];
        for (task, (workflow, process)) in
            tasks.iter_mut().zip([(&long, silent), (&long, live), (&short, live), (&long, missing)])
        {
            *task = session.create(workflow, json!({})).await;
            session.claim(process, "*", 1).await;
        }
        session.run(&format!("delete from tasker_processes where id = {missing}")).await;
        let mut claimed = Self { session, silent, missing, live, tasks };
        claimed.at("20 s").await;
        claimed
    }

    /// Moves the clock; the live process sends a heartbeat.
    async fn at(&mut self, offset: &str) {
        self.session.at(offset).await;
        self.session.call(&format!("heartbeat({}, {})", self.live, all_held(self.live))).await;
    }

    async fn sweep(&mut self) -> Value {
        self.session.call("sweep(null, 100)").await
    }
}

#[test]
fn a_sweep_ends_the_attempts_of_dead_processes() {
    World::run(|world| async move {
        let mut claimed = Claimed::prepare(&world).await;
        let swept = claimed.sweep().await;
        assert_eq!(
            counts(&swept),
            json!({"lost_attempts": 2, "due_steps": 0, "ready_queues": [], "next_due_ms": 10_000})
        );
        let lost = [(claimed.tasks[0], claimed.silent), (claimed.tasks[3], claimed.missing)];
        let error =
            |process: i64| json!({"class": "TaskerCore::LostAttempt", "message": format!("process {process} died")});
        assert_eq!(swept["attempts"].as_array().unwrap().len(), 2);
        for ((task, process), reported) in lost.iter().zip(swept["attempts"].as_array().unwrap()) {
            for (field, value) in [
                ("task_id", json!(task)),
                ("step", json!("s")),
                ("workflow", json!("long")),
                ("attempt", json!(1)),
                ("max_attempts", json!(2)),
                ("delay_ms", json!(10_000)),
                ("error", error(*process)),
            ] {
                assert_eq!(reported[field], value, "{field}");
            }
        }
        let sql = "select task_id, outcome, process_id, error from tasker_step_attempts order by task_id";
        let recorded = |(task, process): (i64, i64)| json!({"task_id": task, "outcome": "lost", "process_id": process, "error": error(process)});
        assert_eq!(claimed.session.rows(sql).await, lost.map(recorded));
        let processes = claimed.session.one("select json_agg(id) from tasker_processes").await;
        assert_eq!(processes, json!([claimed.live]));
        let again = claimed.sweep().await;
        assert_eq!((&again["attempts"], &again["ended"]), (&json!([]), &json!([])));
        assert_eq!(
            counts(&again),
            json!({"lost_attempts": 0, "due_steps": 0, "ready_queues": [], "next_due_ms": 10_000})
        );
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_sweep_ends_an_attempt_at_the_end_of_its_lease() {
    World::run(|world| async move {
        let mut claimed = Claimed::prepare(&world).await;
        claimed.sweep().await;
        // A lease is the step's limit and the process's grace period: 5 s and 30 s.
        claimed.at("34.999 s").await;
        let swept = claimed.sweep().await;
        assert_eq!(
            counts(&swept),
            json!({"lost_attempts": 0, "due_steps": 2, "ready_queues": ["default"], "next_due_ms": null})
        );
        claimed.session.at("35 s").await;
        assert_eq!(claimed.sweep().await["lost_attempts"], 1);
        let Claimed { mut session, tasks, .. } = claimed;
        let sql = format!("select error->>'message' from tasker_step_attempts where task_id = {}", tasks[2]);
        assert_eq!(text(&session.one(&sql).await), "the lease ended at 2030-01-01 12:00:35+00");
        let mut states = Vec::new();
        for task in tasks {
            states.push(session.state(task, "s").await);
        }
        assert_eq!(states, ["ready", "in_progress", "waiting", "ready"]);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_step_whose_last_attempt_is_lost_fails() {
    World::run(|world| async move {
        let mut claimed = Claimed::prepare(&world).await;
        claimed.sweep().await;
        claimed.at("35 s").await;
        claimed.sweep().await;
        let Claimed { mut session, live, tasks, .. } = claimed;
        session.claim(live, "*", 1).await;
        session.at("1 hour").await;
        session.call("sweep(null, 100)").await;
        assert_eq!(session.state(tasks[0], "s").await, "error");
        assert_eq!(session.task_state(tasks[0]).await, "error");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_sweep_takes_due_steps_oldest_first_in_bounded_batches() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let mut on = BTreeMap::new();
        for (queue, priority) in [("a", 1), ("b", 2)] {
            let w =
                with(with(workflow(queue, &[("s", &[])]), 0, "queue", json!(queue)), 0, "priority", json!(priority));
            on.insert(queue, register(&world, &w).await);
        }
        let mut tasks = Vec::new();
        for (queue, minute) in [("a", 5), ("b", 3), ("a", 1), ("b", 4), ("a", 2)] {
            let options = json!({"wait_until": format!("2030-01-01T12:0{minute}:00Z"), "priority": 10});
            tasks.push(session.create(&on[queue], options).await);
        }
        let bounded = session.call("sweep(null, 2)").await;
        assert_eq!(
            counts(&bounded),
            json!({"lost_attempts": 0, "due_steps": 0, "ready_queues": [], "next_due_ms": 60_000})
        );
        session.at("3 minutes 30 seconds").await;
        let first = session.call("sweep(null, 2)").await;
        assert_eq!(
            counts(&first),
            json!({"lost_attempts": 0, "due_steps": 2, "ready_queues": ["a"], "next_due_ms": 0}),
            "there is more at once"
        );
        let second = session.call("sweep(null, 2)").await;
        assert_eq!(
            counts(&second),
            json!({"lost_attempts": 0, "due_steps": 1, "ready_queues": ["b"], "next_due_ms": 30_000})
        );
        let ready =
            session.rows("select task_id, queue, priority, ready_at from tasker_ready_steps order by seq").await;
        let row = |task: i64, queue: &str, priority: i32| json!({"task_id": task, "queue": queue, "priority": priority, "ready_at": "2030-01-01T12:03:30+00:00"});
        assert_eq!(json!(ready), json!([row(tasks[2], "a", 11), row(tasks[4], "a", 11), row(tasks[1], "b", 12)]));
        assert!(world.broken_invariants().await.is_empty());

        // Lost attempts are bounded as well.
        let process = session.process("*").await;
        session.claim(process, "*", 3).await;
        session.at("1 day").await;
        assert_eq!(session.call("sweep(null, 2)").await["lost_attempts"], 2);
        assert_eq!(session.call("sweep(null, 2)").await["lost_attempts"], 1);
        assert_eq!(session.call("sweep(null, 2)").await["lost_attempts"], 0);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn concurrent_sweeps_share_the_work_without_waiting() {
    World::run(|world| async move {
        let (mut first, mut second) = (Session::open(&world).await, Session::open(&world).await);
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let process = first.process("*").await;
        first.create_all(&vec![request(&one, json!({})); 4]).await;
        first.claim(process, "*", 4).await;
        first.create_all(&vec![request(&one, json!({"wait_until": "2100-01-01T00:00:00Z"})); 4]).await;
        second.run("set lock_timeout = '1ms'").await;
        for session in [&mut first, &mut second] {
            session.at("90 years").await;
        }
        first.run("begin").await;
        let here = first.call("sweep(null, 3)").await;
        assert_eq!((&here["lost_attempts"], &here["due_steps"]), (&json!(3), &json!(3)));
        let there = second.call("sweep(null, 3)").await;
        assert_eq!(
            (&there["lost_attempts"], &there["due_steps"]),
            (&json!(1), &json!(1)),
            "what the first one has not taken"
        );
        first.run("commit").await;
        assert_eq!(first.count("tasker_step_attempts where outcome = 'lost'").await, 4);
        assert_eq!(first.count("tasker_processes").await, 1, "it had claims when the others checked");
        let rest = second.call("sweep(null, 100)").await;
        assert_eq!((&rest["lost_attempts"], second.count("tasker_processes").await), (&json!(0), 0));

        // A heartbeat holds its process: the sweep passes over it.
        let process = first.process("*").await;
        second.at("91 years").await;
        first.run("begin").await;
        first.call(&format!("heartbeat({process}, '[]')")).await;
        second.call("sweep(null, 100)").await;
        first.run("commit").await;
        assert_eq!(first.count("tasker_processes").await, 1);
        assert!(world.broken_invariants().await.is_empty());
    });
}

/// How many rows each table holds, without the prefix.
async fn sizes(world: &World, session: &mut Session) -> BTreeMap<String, i64> {
    let mut sizes = BTreeMap::new();
    for table in tables(world).await {
        sizes.insert(table.trim_start_matches("tasker_").to_owned(), session.count(&table).await);
    }
    sizes
}

/// Removes tasks that ended five days ago, with repeated calls; returns the sum of what was removed.
async fn prune_all(session: &mut Session, limit: usize, dry_run: bool) -> BTreeMap<String, i64> {
    let mut removed = BTreeMap::new();
    let mut after = "null".to_owned();
    loop {
        let response = session.call(&format!("prune('5 days', {after}, {limit}, {dry_run})")).await;
        for (table, count) in response["removed"].as_object().unwrap() {
            *removed.entry(table.clone()).or_default() += count.as_i64().unwrap();
        }
        match response["after"].as_str() {
            Some(uuid) => after = format!("'{uuid}'"),
            None => return removed,
        }
    }
}

/// Creates tasks that end in every possible way, one of them after its process has died.
async fn live_a_little(world: &World, session: &mut Session, version: usize) {
    let mut definition = workflow("diamond", DIAMOND);
    definition["version"] = json!(version.to_string());
    definition["steps"][0]["config"] = json!({"version": version});
    for step in 0..4 {
        definition["steps"][step]["retry"] = json!({"max_attempts": 2, "backoff": "none", "jitter": 0});
    }
    let diamond = register_here(session, &definition).await;
    let mut requests: Vec<Value> =
        (0..6).map(|key| request(&diamond, json!({"idempotency_key": format!("{version} {key}")}))).collect();
    requests.push(request(&diamond, json!({"wait_until": "2030-01-01T12:00:00Z"})));
    let subscription = quoted(&json!([{"name": "s", "events": ["task.cancelled"]}]));
    session.call(&format!("register_subscriptions({subscription})")).await;
    let tasks = session.create_all(&requests).await;
    let doomed = session.process("*").await;
    session.claim(doomed, "*", 2).await;
    session.run(&format!("update tasker_processes set heartbeat_timeout = '0' where id = {doomed}")).await;
    session.call("sweep(null, 100)").await;
    let process = session.process("*").await;
    session.call("sweep(null, 100)").await;
    let claims = session.claim(process, "*", 100).await;
    let of = |task: i64| claims.iter().find(|claim| claim["task_id"] == task).unwrap();
    session
        .finish(process, &[failed_for_good(of(tasks[0])), failed_for_good(of(tasks[1])), failed(of(tasks[2]))], 0)
        .await;
    session.call(&format!("cancel_task({}, 'x', 'y')", tasks[3])).await;
    session.call(&format!("resolve_task({}, 'x', 'y')", tasks[0])).await;
    let rest: Vec<Value> =
        claims.iter().filter(|claim| tasks[4..].contains(&claim["task_id"].as_i64().unwrap())).map(completed).collect();
    session.finish(process, &rest, 0).await;
    session.call("sweep(null, 100)").await;
    session.complete_all(process).await;
    session.call(&format!("deregister_process({process})")).await;
    assert_eq!(session.count("tasker_tasks where ended_at is null").await, 0);
    assert!(world.broken_invariants().await.is_empty());
}

/// Registers a workflow at the time of the session's clock.
async fn register_here(session: &mut Session, definition: &Value) -> Workflow {
    let workflow = crate::session::compile(definition);
    session.call(&format!("register_workflow('{}')", workflow.definition_json().replace('\'', "''"))).await;
    workflow
}

#[test]
fn retention_removes_exactly_what_its_dry_run_counts() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        live_a_little(&world, &mut session, 1).await;
        session.at("1 day").await;
        live_a_little(&world, &mut session, 2).await;
        session.at("10 days").await;
        live_a_little(&world, &mut session, 3).await;
        let before = sizes(&world, &mut session).await;
        let content_before = content(&world).await;
        let reported = prune_all(&mut session, 3, true).await;
        assert_eq!(content(&world).await, content_before, "a dry run changes nothing");
        let removed = prune_all(&mut session, 3, false).await;
        let after = sizes(&world, &mut session).await;
        for (table, size) in before.iter().filter(|(table, _)| *table != "counts") {
            assert_eq!(size - after[table], *removed.get(table).unwrap_or(&0), "{table}");
        }
        assert_eq!((removed["tasks"], removed["workflow_steps"], removed["idempotency_keys"]), (14, 56, 12));
        assert!(removed["step_attempts"] > 40 && removed["task_events"] == 4, "{removed:?}");
        // The first version is the one that has been replaced for as long.
        assert_eq!((removed["workflow_versions"], removed["step_definitions"]), (1, 4));
        // While tasks exist, the dry run does not count their version, which would be removed after them.
        let mut without_versions = removed.clone();
        without_versions.extend([("workflow_versions".to_owned(), 0), ("step_definitions".to_owned(), 0)]);
        assert_eq!(reported, without_versions);
        assert_eq!(prune_all(&mut session, 3, true).await.values().sum::<i64>(), 0);
        assert!(world.broken_invariants().await.is_empty());
        // A key is free again when its task has gone.
        let diamond = session.one("select json_build_object('namespace', namespace, 'workflow', name, 'version', version) from tasker_workflow_versions where version = '2'").await;
        let mut again = diamond;
        again["idempotency_key"] = json!("1 0");
        assert_eq!(session.call(&format!("create_tasks({})", quoted(&json!([again])))).await[0]["existing"], false);
    });
}

#[test]
fn retention_keeps_open_and_recent_tasks_and_resumes() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let process = session.process("*").await;
        // The task number n is created at minute n; every third is not ended.
        let mut tasks = Vec::new();
        for minute in 0..12 {
            session.at(&format!("{minute} minutes")).await;
            tasks.push(session.create(&one, json!({})).await);
            if minute % 3 != 2 {
                let claims = session.claim(process, "*", 9).await;
                let own = claims.iter().find(|claim| claim["task_id"] == tasks[minute]).unwrap();
                session.finish(process, &[completed(own)], 0).await;
                let others: Vec<Value> = claims.into_iter().filter(|claim| claim["task_id"] != tasks[minute]).collect();
                session.call(&format!("return_claims({}, '0', 'shutdown')", tokens(&others))).await;
            }
        }
        // The first of them ends late.
        session
            .run(&format!("update tasker_tasks set ended_at = ended_at + interval '1 hour' where id = {}", tasks[0]))
            .await;
        session.at("5 days 6 minutes").await;
        let (mut after, mut calls, mut removed) = ("null".to_owned(), 0, 0);
        loop {
            let response = session.call(&format!("prune('5 days', {after}, 2, false)")).await;
            let now = response["removed"]["tasks"].as_i64().unwrap();
            assert!(now <= 2, "{response}");
            (calls, removed) = (calls + 1, removed + now);
            match response["after"].as_str() {
                Some(uuid) => after = format!("'{uuid}'"),
                None => break,
            }
        }
        let left: Vec<i64> = session
            .rows("select id from tasker_tasks order by id")
            .await
            .iter()
            .map(|row| row["id"].as_i64().unwrap())
            .collect();
        let expected: Vec<i64> = (0..12)
            .filter(|minute| *minute == 0 || minute % 3 == 2 || *minute >= 6)
            .map(|minute| tasks[minute])
            .collect();
        assert_eq!((left, removed, calls), (expected, 3, 4), "six were created before, scanned by two");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn no_table_grows_without_limit() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let (mut bounds, mut most): (BTreeMap<String, i64>, BTreeMap<String, i64>) = (BTreeMap::new(), BTreeMap::new());
        for round in 1..=6 {
            session.at(&format!("{} days", round * 10)).await;
            live_a_little(&world, &mut session, round).await;
            for (table, size) in sizes(&world, &mut session).await {
                most.entry(table).and_modify(|most| *most = size.max(*most)).or_insert(size);
            }
            prune_all(&mut session, 4, false).await;
            let now = sizes(&world, &mut session).await;
            if round == 2 {
                bounds = now;
            } else if round > 2 {
                assert_eq!(now, bounds, "after round {round}");
            }
        }
        assert_eq!(bounds.len(), 15, "{bounds:?}");
        for live in ["ready_steps", "claimed_steps", "waiting_steps", "processes"] {
            assert_eq!(bounds[live], 0, "{live}");
            most.remove(live);
        }
        assert_eq!(bounds["subscriptions"], 1);
        assert!(most.values().all(|most| *most > 0), "each was written to: {most:?}");
    });
}

/// Four versions of a workflow, one on each of the first four days.
struct Versions {
    session: Session,
    versions: Vec<Workflow>,
    ids: Vec<i64>,
}

impl Versions {
    async fn register(world: &World) -> Self {
        stop_the_clock(world).await;
        let mut session = Session::open(world).await;
        let mut versions = Vec::new();
        for number in 1..=4 {
            session.at(&format!("{number} days")).await;
            let mut definition = workflow("diamond", DIAMOND);
            definition["version"] = json!(number.to_string());
            definition["steps"][0]["config"] = json!({"version": number});
            versions.push(register_here(&mut session, &definition).await);
        }
        let rows = session.rows("select id from tasker_workflow_versions order by id").await;
        Self { session, versions, ids: rows.iter().map(|row| row["id"].as_i64().unwrap()).collect() }
    }

    /// Removes what has been unused for five days; returns the number of removed rows by table.
    async fn prune(&mut self) -> Value {
        self.session.call("prune('5 days', null, 100, false)").await["removed"].take()
    }
}

#[test]
fn a_version_stays_while_it_is_the_newest_or_in_use() {
    World::run(|world| async move {
        let Versions { mut session, versions, ids } = Versions::register(&world).await;
        let unused_before = |before: &str| {
            format!("unused_versions('2030-01-01T12:00:00Z'::timestamptz + interval '{before}', null, true)")
        };
        // A version can be removed when another has replaced it before that time.
        for (before, unused) in
            [("1 day", 0), ("2 days 1 s", 1), ("3 days", 1), ("3 days 1 s", 2), ("4 days 1 s", 3), ("9 days", 3)]
        {
            assert_eq!(session.call(&unused_before(before)).await, json!(ids[..unused]), "before {before}");
        }
        session.create(&versions[1], json!({})).await;
        assert_eq!(session.call(&unused_before("9 days")).await, json!([ids[0], ids[2]]), "the second is in use");
    });
}

#[test]
fn a_version_stays_if_an_open_transaction_creates_a_task_of_it() {
    World::run(|world| async move {
        let mut all = Versions::register(&world).await;
        let mut creator = Session::open(&world).await;
        let task = all.session.create(&all.versions[1], json!({})).await;
        all.session.at("20 days").await;
        creator.run("begin").await;
        let created = creator.create(&all.versions[0], json!({})).await;
        assert_eq!(all.prune().await["workflow_versions"], 0);
        creator.run("commit").await;
        let removed = all.prune().await;
        assert_eq!((&removed["workflow_versions"], &removed["step_definitions"]), (&json!(1), &json!(4)));

        // Once its tasks are removed, a version is unused at the next time.
        let process = all.session.process("*").await;
        all.session.complete_all(process).await;
        for task in [task, created] {
            assert_eq!(all.session.task_state(task).await, "complete");
        }
        all.session.at("40 days").await;
        let removed = all.prune().await;
        assert_eq!((&removed["tasks"], &removed["workflow_versions"]), (&json!(2), &json!(0)));
        assert_eq!(all.prune().await["workflow_versions"], 2);
        assert_eq!(all.session.one("select json_agg(id) from tasker_workflow_versions").await, json!([all.ids[3]]));
    });
}

#[test]
fn a_creation_waits_for_the_removal_of_its_version_and_fails() {
    World::run(|world| async move {
        let mut all = Versions::register(&world).await;
        let creator = Session::open(&world).await;
        all.session.at("20 days").await;
        let create = format!("create_tasks({})", quoted(&json!([request(&all.versions[0], json!({}))])));
        all.session.run("begin").await;
        assert_eq!(all.prune().await["workflow_versions"], 3);
        let (holder, waiter) = (all.session.backend, creator.backend);
        let waiting = creator.begin(&create);
        waits_for(&world, waiter, holder).await;
        all.session.run("commit").await;
        let (_, response) = waiting.await.unwrap();
        assert_eq!(response.unwrap_err().code, "TC002");
        assert_eq!(all.session.one("select json_agg(id) from tasker_workflow_versions").await, json!([all.ids[3]]));
    });
}

#[test]
fn unused_versions_are_removed_in_bounded_parts() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        for number in 1..=9 {
            let mut definition = workflow("diamond", DIAMOND);
            definition["version"] = json!(number.to_string());
            register_here(&mut session, &definition).await;
        }
        session.at("20 days").await;
        let mut removed = async |limit: usize| {
            let pruned = session.call(&format!("prune('5 days', null, {limit}, false)")).await;
            let rows = |table: &str| pruned["removed"][table].as_i64().unwrap();
            (rows("workflow_versions"), rows("step_definitions"), pruned["after"].is_string())
        };
        assert_eq!(removed(2).await, (2, 8, true), "up to the limit, and then the next ones");
        // Of many steps together: 6,000, 4,001, 10,001, and the others.
        let more = "insert into tasker_step_definitions \
                    select workflow_version_id, 3 + number, name || number, handler, queue, priority, level, dependencies, \
                      dependents, max_attempts, backoff, base_ms, factor, cap_ms, jitter, timeout_ms, system, config \
                    from (select *, dense_rank() over (order by workflow_version_id) as nth from tasker_step_definitions) d \
                    cross join lateral generate_series(1, (array[5996, 3997, 9997, 0, 0, 0, 0])[nth]) as number \
                    where position = 3";
        sqlx::query(more).execute(&world.pool).await.unwrap();
        for expected in [(1, 6000, true), (1, 4001, true), (1, 10_001, true), (3, 12, true), (0, 0, false)] {
            assert_eq!(removed(100).await, expected);
        }
    });
}

#[test]
fn retention_leaves_the_calling_transactions_settings_alone() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        for number in 1..=2 {
            let mut definition = workflow("one", &[("s", &[])]);
            definition["version"] = json!(number.to_string());
            register(&world, &definition).await;
        }
        session.at("20 days").await;
        session.run("begin; set local lock_timeout = '7s'").await;
        let response = session.call("prune('5 days', null, 100, false)").await;
        assert_eq!(response["removed"]["workflow_versions"], 1);
        assert_eq!(session.one("select current_setting('lock_timeout')").await, "7s");
        session.run("commit").await;
    });
}

#[test]
fn retention_in_one_snapshot_keeps_a_version_with_a_new_task() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let (mut session, mut creator) = (Session::open(&world).await, Session::open(&world).await);
        let mut versions = Vec::new();
        for number in 1..=2 {
            let mut definition = workflow("one", &[("s", &[])]);
            definition["version"] = json!(number.to_string());
            versions.push(register(&world, &definition).await);
        }
        session.at("20 days").await;
        session.run("begin isolation level repeatable read; select 1 from tasker_tasks").await;
        let task = creator.create(&versions[0], json!({})).await;
        let removed = session.try_call("prune('5 days', null, 100, false)").await;
        session.run("commit").await;
        assert!(removed.is_err() || removed.as_ref().unwrap()["removed"]["workflow_versions"] == 0, "{removed:?}");
        let process = creator.process("*").await;
        creator.complete_all(process).await;
        assert_eq!(creator.task_state(task).await, "complete");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn retention_and_a_reset_of_one_task_serialize() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let process = session.process("*").await;
        for (first_is_reset, end) in [(true, "commit"), (true, "rollback"), (false, "commit"), (false, "rollback")] {
            let case = format!("{first_is_reset}, {end}");
            session.at("0").await;
            let task = session.create(&one, json!({})).await;
            let claims = session.claim(process, "*", 9).await;
            session.finish(process, &[failed_for_good(claims.last().unwrap())], 0).await;
            let mut second = Session::open(&world).await;
            for session in [&mut session, &mut second] {
                session.at("6 days").await;
            }
            let reset = format!("retry_step({task}, 0, 'x', 'y')");
            let prune = "prune('5 days', null, 100, false)".to_owned();
            let (done, call) = if first_is_reset { (&reset, &prune) } else { (&prune, &reset) };
            session.run("begin").await;
            session.call(done).await;
            let (holder, waiter) = (session.backend, second.backend);
            let waiting = second.begin(call);
            waits_for(&world, waiter, holder).await;
            session.run(end).await;
            let (mut second, response) = waiting.await.unwrap();
            match (first_is_reset, end == "commit") {
                (true, committed) => {
                    assert_eq!(response.unwrap()["removed"]["tasks"], i32::from(!committed), "{case}");
                }
                (false, true) => assert_eq!(response.unwrap_err().code, "TC003", "{case}"),
                (false, false) => assert_eq!(response.unwrap()["state"], "ready", "{case}"),
            }
            assert!(world.broken_invariants().await.is_empty(), "{case}");
            second.run("truncate tasker_tasks, tasker_task_inputs, tasker_workflow_steps, tasker_ready_steps, tasker_step_attempts, tasker_task_events").await;
        }
    });
}

#[test]
fn retention_by_two_at_once_removes_each_task_once() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let (mut first, mut second) = (Session::open(&world).await, Session::open(&world).await);
        live_a_little(&world, &mut first, 1).await;
        for session in [&mut first, &mut second] {
            session.at("20 days").await;
        }
        let (holder, waiter) = (first.backend, second.backend);
        first.run("begin").await;
        let here = first.call("prune('5 days', null, 4, false)").await;
        assert_eq!(here["removed"]["tasks"], 4);
        let waiting = second.begin("prune('5 days', null, 100, false)");
        waits_for(&world, waiter, holder).await;
        first.run("commit").await;
        let (mut second, there) = waiting.await.unwrap();
        assert_eq!(there.unwrap()["removed"]["tasks"], 3);
        assert_eq!(second.count("tasker_workflow_steps").await, 0);
        assert_eq!(second.count("tasker_tasks").await, 0);
    });
}

/// A break of the data, what an audit says of it, and what it says after the repair.
struct Break {
    sql: &'static str,
    findings: &'static [(&'static str, &'static str)],
    left: &'static [(&'static str, &'static str)],
}

const fn repairable(sql: &'static str, findings: &'static [(&'static str, &'static str)]) -> Break {
    Break { sql, findings, left: &[] }
}

/// Of a task of a diamond with a complete, b in progress, c ready and d pending. TASK is its id.
const BREAKS: &[Break] = &[
    repairable(
        "insert into tasker_waiting_steps select task_id, position, now(), 'retry' from tasker_ready_steps where task_id = TASK",
        &[("counters", "active is 2, but the task has 3 live rows"), ("I1", "step c has 2 live rows: ready, waiting")],
    ),
    repairable(
        "insert into tasker_ready_steps (queue, priority, task_id, position, ready_at) values ('default', 0, TASK, 0, now())",
        &[("counters", "active is 2, but the task has 3 live rows"), ("I1", "step a is complete and has a live row: ready")],
    ),
    repairable(
        "insert into tasker_waiting_steps values (TASK, 3, now(), 'retry')",
        &[("counters", "active is 2, but the task has 3 live rows"), ("I3", "step d started with 0 of 2 parents done")],
    ),
    repairable(
        "delete from tasker_ready_steps where task_id = TASK",
        &[("counters", "active is 2, but the task has 1 live rows"), ("I4", "step c can run, but nothing will start it")],
    ),
    repairable(
        "delete from tasker_ready_steps where task_id = TASK; delete from tasker_claimed_steps where task_id = TASK",
        &[
            ("counters", "active is 2, but the task has 0 live rows"),
            ("I4", "the task has not ended, but no step is active"),
            ("I4", "step b can run, but nothing will start it"),
            ("I4", "step c can run, but nothing will start it"),
        ],
    ),
    repairable(
        "update tasker_tasks set state = 'complete', ended_at = now() where id = TASK",
        &[("counters", "the task is complete with 3 steps not done"), ("I4", "the task is complete and has 2 live rows")],
    ),
    repairable(
        "update tasker_tasks set state = 'cancelled', ended_at = now() where id = TASK",
        &[("I4", "the task is cancelled and has 2 live rows")],
    ),
    repairable(
        "update tasker_tasks set state = 'resolved_manually', ended_at = now() where id = TASK",
        &[("I4", "the task is resolved_manually and has 2 live rows")],
    ),
    repairable(
        "update tasker_tasks set ended_at = '2030-01-01' where id = TASK",
        &[("counters", "the task is pending, but ended_at is 2030-01-01 00:00:00+00")],
    ),
    repairable("update tasker_tasks set active = 1 where id = TASK", &[("counters", "active is 1, but the task has 2 live rows")]),
    repairable("update tasker_tasks set remaining = 4 where id = TASK", &[("counters", "remaining is 4, but 3 steps are not done")]),
    repairable(
        "update tasker_workflow_steps set pending_parents = 1 where task_id = TASK and position = 3",
        &[("counters", "step d: pending_parents is 1, but 2 of 2 parents are not done")],
    ),
    repairable(
        "update tasker_workflow_steps set attempts = 2 where task_id = TASK and position = 3",
        &[("counters", "step d: attempts is 2, but 0 of 3 were made")],
    ),
    // History does not change.
    Break {
        sql: "insert into tasker_step_attempts select task_id, position, attempt, token + 1000, process_id, ready_at, claimed_at, \
              started_at, finished_at, outcome from tasker_step_attempts where task_id = TASK and position = 0",
        findings: &[("I2", "step a has 2 successful attempts")],
        left: &[("I2", "step a has 2 successful attempts")],
    },
    Break {
        sql: "insert into tasker_step_attempts select task_id, 3, attempt, token + 1000, process_id, ready_at, claimed_at, \
              started_at, finished_at, 'failed' from tasker_step_attempts where task_id = TASK and position = 0",
        findings: &[("I3", "step d started with 0 of 2 parents done")],
        left: &[("I3", "step d started with 0 of 2 parents done")],
    },
    Break {
        sql: "delete from tasker_step_attempts where task_id = TASK and position = 0",
        findings: &[("counters", "step a: attempts is 1, but 0 of 3 were made"), ("I5", "step a is complete without a successful attempt")],
        left: &[("I5", "step a is complete without a successful attempt")],
    },
    // What people entered cannot be made up.
    Break {
        sql: "delete from tasker_task_inputs where task_id = TASK",
        findings: &[("rows", "the task has 4 steps of 4 and no input")],
        left: &[("rows", "the task has 4 steps of 4 and no input")],
    },
    Break {
        sql: "delete from tasker_workflow_steps where task_id = TASK and position = 3",
        findings: &[("counters", "remaining is 3, but 2 steps are not done"), ("rows", "the task has 3 steps of 4")],
        left: &[("rows", "the task has 3 steps of 4")],
    },
];

fn sorted(findings: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut sorted: Vec<_> =
        findings.iter().map(|(rule, explanation)| ((*rule).to_owned(), (*explanation).to_owned())).collect();
    sorted.sort();
    sorted
}

/// What an audit says of a task.
async fn findings_of(session: &mut Session, task: i64) -> Vec<(String, String)> {
    let response = session.call("audit(0, 1000)").await;
    let mut findings: Vec<_> = response["findings"]
        .as_array()
        .unwrap()
        .iter()
        .inspect(|finding| assert_eq!(finding["task_id"], task, "the others are sound: {finding}"))
        .map(|finding| (text(&finding["rule"]), text(&finding["explanation"])))
        .collect();
    findings.sort();
    findings
}

#[test]
fn each_broken_invariant_is_found_explained_and_repaired() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        session.run("set timezone = 'UTC'").await;
        let process = session.process("*").await;
        let diamond = register(&world, &workflow("diamond", DIAMOND)).await;
        for it in BREAKS {
            session.run("truncate tasker_tasks, tasker_task_inputs, tasker_workflow_steps, tasker_ready_steps, tasker_claimed_steps, \
                         tasker_waiting_steps, tasker_step_attempts, tasker_task_events").await;
            let task = session.create(&diamond, json!({})).await;
            let claims = session.claim(process, "*", 1).await;
            session.finish(process, &[completed(&claims[0])], 0).await;
            let held = session.claim(process, "*", 1).await;
            // Another one beside it, to see that nothing else is touched.
            let other = session.create(&diamond, json!({})).await;
            assert_eq!(findings_of(&mut session, task).await, []);
            session.run(&it.sql.replace("TASK", &task.to_string())).await;
            assert_eq!(findings_of(&mut session, task).await, sorted(it.findings), "{}", it.sql);

            let response = session.call(&format!("repair_task({task}, 'found by an audit', 'ada')")).await;
            assert_eq!(findings_of(&mut session, task).await, sorted(it.left), "after the repair of: {}", it.sql);
            assert_eq!(
                response["state"],
                session.one(&format!("select state from tasker_tasks where id = {task}")).await
            );
            assert_eq!(session.events(task).await, ["repair ada: found by an audit"]);
            assert_eq!(session.state(other, "a").await, "ready");

            // The outcome of the handler that was running is rejected; the task ends.
            let late = session.finish(process, &[completed(&held[0])], 0).await;
            assert_eq!(late["stale"], json!([token(&held[0])]), "{}", it.sql);
            if !it.findings.iter().any(|(_, reported)| reported.contains("no input")) {
                session.call("sweep(null, 100)").await;
                session.complete_all(process).await;
                let expected = ["cancelled", "resolved_manually"]
                    .into_iter()
                    .find(|state| it.sql.contains(state))
                    .unwrap_or("complete");
                assert_eq!(session.task_state(task).await, expected, "{}", it.sql);
                assert_eq!(session.task_state(other).await, "complete");
            }
        }
    });
}

#[test]
fn a_repair_keeps_waiting_times_and_removes_orphaned_rows() {
    World::run(|world| async move {
        stop_the_clock(&world).await;
        let mut session = Session::open(&world).await;
        let process = session.process("*").await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let task = session.create(&one, json!({"wait_until": "2030-02-01T00:00:00Z"})).await;
        session.run("update tasker_tasks set active = 0").await;
        let response = session.call(&format!("repair_task({task}, 'x', 'y')")).await;
        assert_eq!(response, json!({"state": "pending", "removed": 1, "ready_queues": []}));
        let waiting = session.rows("select run_at, reason from tasker_waiting_steps").await;
        assert_eq!(json!(waiting), json!([{"run_at": "2030-02-01T00:00:00+00:00", "reason": "delay"}]));
        assert!(world.broken_invariants().await.is_empty());

        session.run("insert into tasker_ready_steps (queue, priority, task_id, position, ready_at) values ('a', 0, 4711, 0, now()); \
                     insert into tasker_waiting_steps values (4711, 1, now(), 'retry')").await;
        let found: Vec<Value> = session.call("audit(0, 10)").await["findings"].as_array().unwrap().clone();
        let finding = |position: i32, kind: &str| json!({"task_id": 4711, "position": position, "rule": "rows", "explanation": format!("a {kind} row refers to a step that does not exist")});
        assert_eq!(found, [finding(0, "ready"), finding(1, "waiting")]);
        assert_eq!(
            session.call("repair_task(4711, 'x', 'y')").await,
            json!({"state": null, "removed": 2, "ready_queues": []})
        );
        assert!(world.broken_invariants().await.is_empty());

        // A step that an operator has completed needs no attempt; a sound task is left as it is but for its claims.
        let task = session.create(&one, json!({})).await;
        session.call(&format!("complete_step({task}, 0, '{{}}', 'x', 'y')")).await;
        assert!(world.broken_invariants().await.is_empty());
        let ended = session.rows(&format!("select * from tasker_tasks where id = {task}")).await;
        session.at("1 hour").await;
        session.call(&format!("repair_task({task}, 'x', 'y')")).await;
        assert_eq!(session.rows(&format!("select * from tasker_tasks where id = {task}")).await, ended);
        let task = session.create(&one, json!({})).await;
        let claims = session.claim(process, "*", 1).await;
        let response = session.call(&format!("repair_task({task}, 'stuck', 'ada')")).await;
        assert_eq!(response, json!({"state": "pending", "removed": 1, "ready_queues": ["default"]}));
        let cut = session
            .rows(&format!("select token, outcome, error from tasker_step_attempts where task_id = {task}"))
            .await;
        let error = json!({"class": "TaskerCore::TaskRepaired", "message": "stuck"});
        assert_eq!(json!(cut), json!([{"token": token(&claims[0]), "outcome": "released", "error": error}]));
    });
}

#[test]
fn an_audit_goes_through_all_tasks_in_bounded_steps() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let one = register(&world, &workflow("one", &[("s", &[])])).await;
        let tasks = session.create_all(&vec![request(&one, json!({})); 7]).await;
        session.run("delete from tasker_ready_steps; update tasker_tasks set active = 0").await;
        let (mut after, mut found) = (json!(0), Vec::new());
        while !after.is_null() {
            let response = session.call(&format!("audit({after}, 3)")).await;
            let page: Vec<i64> = response["findings"]
                .as_array()
                .unwrap()
                .iter()
                .map(|finding| finding["task_id"].as_i64().unwrap())
                .collect();
            assert!(page.len() <= 6, "two for each of three tasks: {response}");
            found.extend(page);
            after = response["after"].clone();
        }
        assert_eq!(found, tasks.iter().flat_map(|task| [*task, *task]).collect::<Vec<_>>());
        assert_eq!(session.call(&format!("audit({}, 3)", tasks[6])).await, json!({"findings": [], "after": null}));
    });
}

#[test]
fn a_chore_passes_to_the_next_task_by_id_or_by_uuid() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let w = register(&world, &workflow("w", &[("s", &[])])).await;
        let tasks = session.create_all(&vec![request(&w, json!({})); 3]).await;
        let mut uuids = Vec::new();
        for task in &tasks {
            uuids.push(session.one(&format!("select uuid from tasker_tasks where id = {task}")).await);
        }
        let next = json!({"id": tasks[1], "uuid": uuids[1]});
        assert_eq!(session.call(&format!("next_task({}, null)", tasks[0])).await, next);
        assert_eq!(session.call("next_task(0, null)").await["id"], json!(tasks[0]));
        assert_eq!(session.call(&format!("next_task({}, null)", tasks[2])).await, Value::Null);
        let mut in_order: Vec<&str> = uuids.iter().map(|uuid| uuid.as_str().unwrap()).collect();
        in_order.sort_unstable();
        assert_eq!(session.call("next_task(null, null)").await["uuid"], json!(in_order[0]));
        let call = format!("next_task(null, '{}')", in_order[0]);
        assert_eq!(session.call(&call).await["uuid"], json!(in_order[1]));
        assert_eq!(session.call(&format!("next_task(null, '{}')", in_order[2])).await, Value::Null);
        assert_eq!(session.call("next_task(null, null, '1 hour')").await, Value::Null, "none is old enough");
        session.at("2 hours").await;
        assert_eq!(session.call("next_task(null, null, '1 hour')").await["uuid"], json!(in_order[0]));
    });
}
