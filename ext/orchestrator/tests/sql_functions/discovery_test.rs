//! Many concurrent sessions: no step is claimed twice, batches are full, no session deadlocks, and every commit is
//! sound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use serde_json::{json, Value};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::session::{completed, failed, failed_for_good, finish, held_by, quoted, register, request, Session};
use crate::support::{workflow, World};

/// Random numbers that are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    /// A number from 0 to below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.roll(among.len())]
    }
}

/// Deadlocks that the server has counted in this database.
async fn deadlocks(session: &mut Session) -> Value {
    session.run("select pg_stat_force_next_flush()").await;
    session.one("select deadlocks from pg_stat_database where datname = current_database()").await
}

/// Roots on three queues, of several priorities.
fn roots() -> Value {
    let steps: Vec<Value> = (0..5)
        .map(|number| json!({"name": format!("s{number}"), "handler": "h", "queue": (["a", "b", "c"][number % 3]), "priority": (number * 3) % 4}))
        .collect();
    json!({"name": "roots", "steps": steps})
}

const SESSIONS: usize = 16;
const STEPS: usize = 5000;
const LIMIT: usize = 25;

/// One of the sessions that claim the same steps.
struct Claimer {
    session: Session,
    queues: &'static str,
    /// All begin at once, and none commits its first claims before all have some: the worst contention.
    barrier: Arc<Barrier>,
    /// Number of steps that no session has claimed.
    left: Arc<AtomicUsize>,
}

impl Claimer {
    /// Claims until no step is left; returns task and position of each claimed step.
    async fn run(mut self) -> Vec<(i64, i64)> {
        let process = self.session.process(self.queues).await;
        let mut taken = Vec::new();
        let mut first = true;
        loop {
            self.session.run("begin").await;
            let before = self.left.load(Ordering::SeqCst);
            let claims = self.session.claim(process, self.queues, LIMIT).await;
            self.left.fetch_sub(claims.len(), Ordering::SeqCst);
            if std::mem::take(&mut first) {
                self.barrier.wait().await;
            }
            self.session.run("commit").await;
            // Others may hold a batch each that is not committed, and not counted as taken.
            let scarce = before < LIMIT * (SESSIONS + 1);
            let count = claims.len();
            assert!(count == LIMIT || scarce, "{count} of {LIMIT} were claimed, and {before} were ready");
            if claims.is_empty() && self.left.load(Ordering::SeqCst) == 0 {
                return taken;
            }
            let place = |claim: &Value| (claim["task_id"].as_i64().unwrap(), claim["position"].as_i64().unwrap());
            taken.extend(claims.iter().map(place));
        }
    }
}

#[test]
fn sixteen_sessions_claim_five_thousand_steps_once_each() {
    World::run(|world| async move {
        let roots = register(&world, &roots()).await;
        let mut session = Session::open(&world).await;
        let requests: Vec<Value> =
            (0..STEPS / 5).map(|number| request(&roots, json!({"priority": number % 3}))).collect();
        session.create_all(&requests).await;

        let (barrier, left) = (Arc::new(Barrier::new(SESSIONS)), Arc::new(AtomicUsize::new(STEPS)));
        let mut claimers = JoinSet::new();
        for number in 0..SESSIONS {
            let session = Session::open(&world).await;
            let queues = ["*", "a,b,c", "c,a,b", "b,c,*"][number % 4];
            claimers.spawn(Claimer { session, queues, barrier: barrier.clone(), left: left.clone() }.run());
        }
        let mut all = Vec::new();
        while let Some(taken) = claimers.join_next().await {
            let taken = taken.unwrap();
            assert!(taken.len() >= LIMIT, "each has some");
            all.extend(taken);
        }
        assert_eq!(all.len(), STEPS);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), STEPS, "none twice");
        assert_eq!(session.count("tasker_claimed_steps").await as usize, STEPS);
        assert_eq!(session.count("tasker_ready_steps").await, 0);
        assert_eq!(deadlocks(&mut session).await, 0);
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn one_session_claims_by_priority_and_age_across_queues() {
    World::run(|world| async move {
        let roots = register(&world, &roots()).await;
        let mut session = Session::open(&world).await;
        let requests: Vec<Value> =
            (0..200).map(|number| request(&roots, json!({"priority": (number * 7) % 5}))).collect();
        session.create_all(&requests).await;
        let order = session.rows("select task_id, position from tasker_ready_steps order by priority, seq").await;
        let process = session.process("*").await;
        let mut claimed = Vec::new();
        loop {
            let claims = session.claim(process, "*", 37).await;
            claimed
                .extend(claims.iter().map(|claim| json!({"task_id": claim["task_id"], "position": claim["position"]})));
            if claims.len() < 37 {
                break;
            }
        }
        assert_eq!(claimed, order);
    });
}

#[test]
fn fifty_concurrent_sessions_create_each_task_once() {
    World::run(|world| async move {
        let one = Arc::new(register(&world, &workflow("one", &[("s", &[])])).await);
        let mut sessions = JoinSet::new();
        for number in 0..50 {
            let mut session = Session::open(&world).await;
            let one = one.clone();
            sessions.spawn(async move {
                let mut keys: Vec<u32> = (0..20).collect();
                let mut dice = Dice(number);
                for place in 0..keys.len() {
                    keys.swap(place, dice.roll(20));
                }
                let requests: Vec<Value> =
                    keys.iter().map(|key| request(&one, json!({"idempotency_key": format!("k{key}")}))).collect();
                let created = session.call(&format!("create_tasks({})", quoted(&json!(requests)))).await;
                let responses: Vec<Value> = created.as_array().unwrap().clone();
                keys.into_iter().zip(responses).collect::<Vec<_>>()
            });
        }
        let mut ids: BTreeMap<u32, BTreeSet<i64>> = BTreeMap::new();
        let mut first = 0;
        while let Some(responses) = sessions.join_next().await {
            for (key, response) in responses.unwrap() {
                ids.entry(key).or_default().insert(response["id"].as_i64().unwrap());
                first += usize::from(response["existing"] == false);
            }
        }
        assert_eq!(first, 20);
        assert!(ids.len() == 20 && ids.values().all(|ids| ids.len() == 1), "{ids:?}");
        let mut session = Session::open(&world).await;
        assert_eq!(session.count("tasker_tasks").await, 20);
        assert_eq!(session.count("tasker_ready_steps").await, 20);
        assert_eq!(deadlocks(&mut session).await, 0);
    });
}

/// A session that acts at random, and the claims that it believes it holds.
struct Actor {
    session: Session,
    process: i64,
    held: Vec<Value>,
    dice: Dice,
}

impl Actor {
    /// Calls a function; an error other than those of the functions fails the test.
    async fn does(&mut self, call: &str) -> Option<Value> {
        match self.session.try_call(call).await {
            Ok(response) => Some(response),
            Err(refusal) if ["TC003", "TC004"].contains(&refusal.code.as_str()) => None,
            Err(refusal) if refusal.code == "TC005" => {
                self.process = self.session.process("*").await;
                None
            }
            Err(refusal) => panic!("{call}: {refusal:?}"),
        }
    }

    fn take(&mut self, claims: &Value) {
        self.held.extend(claims.as_array().into_iter().flatten().cloned());
    }

    async fn claims(&mut self) {
        let limit = 1 + self.dice.roll(19);
        if let Some(claims) = self.does(&format!("claim_steps({}, '{{*}}', {limit})", self.process)).await {
            self.take(&claims);
        }
    }

    async fn finishes(&mut self) {
        let mut outcomes = Vec::new();
        for _ in 0..=self.dice.roll(11) {
            if self.held.is_empty() {
                break;
            }
            let pick = self.dice.roll(self.held.len());
            let claim = self.held.swap_remove(pick);
            outcomes.push(match self.dice.roll(10) {
                0 => failed_for_good(&claim),
                1 | 2 => failed(&claim),
                _ => completed(&claim),
            });
        }
        let limit = self.dice.roll(6);
        if let Some(response) = self.does(&finish(self.process, &outcomes, limit)).await {
            self.take(&response["handed_over"]);
            self.take(&response["claimed"]);
        }
    }

    /// Acts `acts` times; creates a task at every tenth, so that some are always open.
    async fn run(mut self, acts: usize, mut tasks: Vec<i64>, create: String) {
        for act in 0..acts {
            self.act(&tasks).await;
            if act % 10 == 0 {
                let created = self.does(&create).await.unwrap();
                tasks.push(created[0]["id"].as_i64().unwrap());
            }
        }
    }

    async fn act(&mut self, tasks: &[i64]) {
        let task = *self.dice.pick(tasks);
        let position = self.dice.roll(6);
        match self.dice.roll(40) {
            0..=9 => self.claims().await,
            10..=21 => self.finishes().await,
            22 | 23 => {
                let held = held_by(self.held.pop().as_slice());
                let begun = self.dice.roll(2) == 0;
                self.does(&format!("release_steps({}, {held}, '0', 'shutdown', {begun})", self.process)).await;
            }
            24 | 25 => {
                let held = held_by(&self.held);
                let reply = self.does(&format!("heartbeat({}, {held})", self.process)).await.unwrap();
                if reply["known"] == false {
                    self.process = self.session.process("*").await;
                }
            }
            26..=28 => {
                // Some leases have ended by then, and some processes seem dead.
                let offset = self.dice.pick(&["0", "9 s", "25 s"]);
                self.session.at(offset).await;
                self.does("sweep(null, 50)").await;
                self.session.at("0").await;
            }
            29 => drop(self.does(&format!("cancel_task({task}, 'x', 'y')")).await),
            30 => drop(self.does(&format!("repair_task({task}, 'x', 'y')")).await),
            31 | 32 => drop(self.does(&format!("resolve_step({task}, {position}, 'x', 'y')")).await),
            33 => drop(self.does(&format!("complete_step({task}, {position}, '{{}}', 'x', 'y')")).await),
            34 | 35 => drop(self.does(&format!("retry_step({task}, {position}, 'x', 'y')")).await),
            36 | 37 => drop(self.does(&format!("retry_task({task}, 'x', 'y')")).await),
            38 => drop(self.does(&format!("update_result({task}, {position}, '{{}}', 'x', 'y')")).await),
            _ => drop(self.does(&format!("resolve_task({task}, 'x', 'y')")).await),
        }
    }
}

/// Six steps that are tried twice, each with a lease that soon ends.
fn fragile() -> Value {
    let graph: &[(&str, &[&str])] =
        &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"]), ("e", &["d"]), ("f", &["a"])];
    let mut definition = workflow("w", graph);
    for step in definition["steps"].as_array_mut().unwrap() {
        step["retry"] = json!({"max_attempts": 2, "backoff": "none", "jitter": 0});
        step["timeout"] = json!("1ms");
    }
    definition
}

#[test]
fn concurrent_actors_never_deadlock_and_keep_every_state_sound() {
    const ACTORS: u64 = 8;
    const ACTS: usize = 150;
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let w = register(&world, &fragile()).await;
        let tasks = session.create_all(&vec![request(&w, json!({})); 12]).await;
        let create = format!("create_tasks({})", quoted(&json!([request(&w, json!({}))])));
        let mut actors = JoinSet::new();
        for number in 0..ACTORS {
            let mut session = Session::open(&world).await;
            let process = session.process("*").await;
            let actor = Actor { session, process, held: Vec::new(), dice: Dice(number) };
            actors.spawn(actor.run(ACTS, tasks.clone(), create.clone()));
        }
        let mut polls = 0;
        while !actors.is_empty() {
            let broken = world.broken_invariants().await;
            assert!(broken.is_empty(), "{broken:#?}");
            polls += 1;
            while let Some(done) = actors.try_join_next() {
                done.unwrap();
            }
        }
        assert!(polls > 10, "{polls} polls in between");
        assert!(world.broken_invariants().await.is_empty());
        assert_eq!(deadlocks(&mut session).await, 0);
        let outcomes = session.one("select json_object_agg(outcome, n) from (select outcome, count(*) as n from tasker_step_attempts group by 1) o").await;
        for outcome in ["completed", "failed", "lost", "released"] {
            assert!(outcomes[outcome].as_i64() > Some(0), "{outcome}: {outcomes}");
        }

        // From here on everything succeeds, and every task ends.
        session.at("1 hour").await;
        let process = session.process("*").await;
        for _ in 0..20 {
            session.call("sweep(null, 10000)").await;
            session.complete_all(process).await;
        }
        assert_eq!(session.count("tasker_tasks where ended_at is null").await, 0);
        assert!(world.broken_invariants().await.is_empty());
    });
}
