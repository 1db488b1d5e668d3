//! Steps that run as jobs of the application's queue: which process may claim them, take them over, and give them back.

use serde_json::{json, Value};

use crate::session::{completed, held_by, key, quoted, register, stop_the_clock, text, Session};
use crate::support::{with, workflow, World};

/// A session with a dispatcher, a worker and a process that runs jobs.
struct Scene {
    session: Session,
    dispatcher: i64,
    worker: i64,
    jobs: i64,
}

impl Scene {
    async fn open(world: &World) -> Self {
        stop_the_clock(world).await;
        let mut session = Session::open(world).await;
        let dispatcher = session.dispatcher().await;
        let worker = session.process("*").await;
        let jobs = session.job_process().await;
        Self { session, dispatcher, worker, jobs }
    }

    /// Dispatches up to `limit` steps.
    async fn dispatch(&mut self, limit: usize, in_flight: usize) -> Vec<Value> {
        let dispatched = self.dispatched(limit, in_flight).await;
        dispatched["claims"].as_array().unwrap().clone()
    }

    async fn dispatched(&mut self, limit: usize, in_flight: usize) -> Value {
        let call = format!("dispatch_steps({}, '{{*}}', {limit}, {in_flight}, '5 minutes')", self.dispatcher);
        self.session.call(&call).await
    }

    async fn confirm(&mut self, claims: &[Value]) -> Value {
        self.session.call(&format!("confirm_dispatch({}, {})", self.dispatcher, held_by(claims))).await
    }

    /// The claims that the process of the job gets.
    async fn adopt(&mut self, claim: &Value) -> Vec<Value> {
        let adopted = self.session.call(&format!("adopt_claim({}, {}, 1000)", self.jobs, quoted(&key(claim)))).await;
        adopted["claims"].as_array().unwrap().clone()
    }

    async fn history(&mut self) -> Vec<Value> {
        self.session.rows("select outcome, error->>'message' as message from tasker_step_attempts order by token").await
    }

    async fn sweep(&mut self) -> Value {
        self.session.call("sweep(null, 100)").await
    }
}

/// A first step that runs as a job, and two others after it: one as a job, one in a worker.
fn mixed() -> Value {
    let steps = workflow("mixed", &[("first", &[]), ("job", &["first"]), ("plain", &["first"])]);
    let steps = with(steps, 0, "dispatch", json!("active_job"));
    with(steps, 1, "dispatch", json!("active_job"))
}

fn jobs_only() -> Value {
    with(workflow("jobs", &[("s", &[])]), 0, "dispatch", json!("active_job"))
}

#[test]
fn dispatchers_claim_the_steps_that_run_as_jobs_and_workers_the_others() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let mixed = register(&world, &mixed()).await;
        let task = scene.session.create(&mixed, json!({"priority": 3})).await;
        let (worker, jobs) = (scene.worker, scene.jobs);
        assert_eq!(scene.session.claim(worker, "*", 9).await, Vec::<Value>::new());
        assert_eq!(scene.session.claim(worker, "default", 9).await, Vec::<Value>::new());
        let dispatched = scene.dispatched(9, 100).await;
        let first = dispatched["claims"][0].clone();
        assert_eq!((&first["task_id"], &first["position"], &first["attempt"]), (&json!(task), &json!(0), &json!(1)));
        assert_eq!(dispatched["priorities"], json!({first["token"].to_string(): 3}));
        assert_eq!(scene.confirm(std::slice::from_ref(&first)).await, 1);
        let adopted = scene.adopt(&first).await.remove(0);
        assert_ne!(adopted["token"], first["token"], "the job's process has a claim of its own");
        // The children: even a process that asks for more steps gets none that runs as a job.
        let outcome = json!([completed(&adopted)]);
        let finished = scene.session.call(&format!("finish_steps({jobs}, {}, 9, 9)", quoted(&outcome))).await;
        assert_eq!((&finished["stale"], &finished["handed_over"]), (&json!([]), &Value::Null));
        let named = format!("dispatch_steps({}, '{{other,default}}', 9, 100, '5 minutes')", scene.dispatcher);
        assert_eq!(scene.session.call(&named).await["claims"][0]["position"], 1);
        assert_eq!(scene.session.claim(worker, "other,default", 9).await[0]["step"], "plain");
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn a_worker_that_finishes_a_parent_gets_no_child_that_runs_as_a_job() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let steps = workflow("w", &[("first", &[]), ("job", &["first"]), ("plain", &["first"])]);
        let one = register(&world, &with(steps, 1, "dispatch", json!("active_job"))).await;
        scene.session.create(&one, json!({})).await;
        let claim = scene.session.claim_one(scene.worker).await;
        let finished = scene.session.finish(scene.worker, &[completed(&claim)], 9).await;
        let names: Vec<&Value> = finished["handed_over"].as_array().unwrap().iter().map(|it| &it["step"]).collect();
        assert_eq!(names, [&json!("plain")]);
        assert_eq!(scene.dispatch(9, 9).await.len(), 1);
    });
}

#[test]
fn all_dispatchers_together_keep_no_more_steps_out_than_in_flight() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let one = register(&world, &jobs_only()).await;
        scene.session.create_all(&vec![crate::session::request(&one, json!({})); 6]).await;
        let first = scene.dispatch(2, 3).await;
        assert_eq!(first.len(), 2);
        scene.confirm(&first[..1]).await;
        scene.dispatcher = scene.session.dispatcher().await;
        assert_eq!(scene.dispatch(2, 3).await.len(), 1, "the other's are counted, enqueued or not");
        let full = scene.dispatched(2, 3).await;
        assert_eq!((&full["full"], &full["claims"]), (&json!(true), &json!([])));
        let sql = format!("select idle_dispatcher from tasker_processes where id = {}", scene.dispatcher);
        assert_eq!(scene.session.one(&sql).await, json!(true), "the end of a job wakes it");
        let adopted = scene.adopt(&first[0]).await;
        assert_eq!(scene.dispatch(2, 3).await.len(), 0, "a running job counts too");
        scene.session.finish(scene.jobs, &[completed(&adopted[0])], 0).await;
        assert_eq!(scene.dispatch(2, 3).await.len(), 1);
        assert_eq!(scene.dispatch(2, 9).await.len(), 2);
        assert_eq!(scene.session.one(&sql).await, json!(false), "there may be more");
    });
}

#[test]
fn the_end_of_a_job_wakes_an_idle_dispatcher() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let workers = "select processes from tasker_core_v1.system_health()";
        assert_eq!(scene.session.one(workers).await, 2, "a process that only runs jobs is no worker");
        assert_eq!(scene.session.call("wake_workers('{default}')").await, 0);
        scene.dispatch(1, 1).await;
        assert_eq!(scene.session.call("wake_workers('{default}')").await, 1);
    });
}

#[test]
fn a_job_starts_once_and_only_with_the_whole_key_of_its_claim() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let one = register(&world, &jobs_only()).await;
        scene.session.create(&one, json!({"input": {"n": 1}})).await;
        let claim = scene.dispatch(1, 9).await.remove(0);
        for field in ["token", "task_id", "position", "attempt"] {
            for value in [json!(claim[field].as_i64().unwrap() + 1), Value::Null] {
                let stranger = with_field(&claim, field, value);
                assert_eq!(scene.adopt(&stranger).await, Vec::<Value>::new(), "{stranger}");
            }
        }
        let unknown = format!("adopt_claim(4711, {}, 1000)", quoted(&key(&claim)));
        scene.session.refused("TC005", &unknown).await;
        // Before its dispatcher has confirmed it: queues are fast.
        let adopted = scene.adopt(&claim).await.remove(0);
        assert_eq!(adopted["input"], json!({"n": 1}));
        assert_eq!(scene.confirm(std::slice::from_ref(&claim)).await, 0);
        assert_eq!(scene.adopt(&claim).await, Vec::<Value>::new(), "the queue runs it twice");
        assert_eq!(scene.adopt(&adopted).await, Vec::<Value>::new(), "no claim but a dispatcher's is adopted");
        let lease = "select deadline::text from tasker_claimed_steps";
        assert_eq!(scene.session.one(lease).await, "2030-01-01 12:05:30+00", "its time limit begins with the job");
        scene.session.finish(scene.jobs, &[completed(&adopted)], 0).await;
        assert_eq!(scene.history().await, [json!({"outcome": "completed", "message": null})]);
        assert!(world.broken_invariants().await.is_empty());
    });
}

fn with_field(claim: &Value, field: &str, value: Value) -> Value {
    let mut changed = claim.clone();
    changed[field] = value;
    changed
}

#[test]
fn an_enqueued_job_outlives_its_dispatcher_and_others_return() {
    for end in ["silent", "deregistered", "registered again", "unknown claim"] {
        World::run(move |world| async move {
            let mut scene = Scene::open(&world).await;
            let one = register(&world, &jobs_only()).await;
            scene.session.create_all(&vec![crate::session::request(&one, json!({})); 2]).await;
            let claims = scene.dispatch(2, 9).await;
            scene.confirm(&claims[..1]).await;
            let (dispatcher, worker) = (scene.dispatcher, scene.worker);
            scene.session.at("21 s").await;
            match end {
                "silent" => {
                    scene.session.call(&format!("heartbeat({worker}, '[]')")).await;
                    let swept = scene.sweep().await;
                    assert_eq!((&swept["unstarted"], &swept["lost_attempts"]), (&json!(1), &json!(0)));
                    assert_eq!(swept["ready_queues"], json!(["default"]));
                    let known = format!("select count(*) from tasker_processes where id = {dispatcher}");
                    assert_eq!(scene.session.one(&known).await, 0, "an enqueued job keeps no dead process");
                }
                "deregistered" => drop(scene.session.call(&format!("deregister_process({dispatcher})")).await),
                "registered again" => {
                    let entry = json!({"name": "n", "hostname": "h", "pid": 1, "queues": ["*"], "dispatches": true,
                                       "heartbeat_timeout_ms": 20_000, "lease_grace_ms": 30_000});
                    let former = json!({"process": dispatcher, "held": []});
                    let call = format!("register_process({}, {})", quoted(&entry), quoted(&former));
                    scene.session.call(&call).await;
                }
                _ => drop(scene.session.call(&format!("heartbeat({dispatcher}, '[]')")).await),
            }
            let ready = "select count(*) from tasker_ready_steps where dispatched";
            assert_eq!(scene.session.one(ready).await, 1, "{end}");
            scene.jobs = scene.session.process("none").await;
            assert_eq!(scene.adopt(&claims[1]).await, Vec::<Value>::new(), "{end}: the step has returned");
            assert_eq!(scene.adopt(&claims[0]).await.len(), 1, "{end}: the job was enqueued");
            let attempts = "select max(attempts) from tasker_workflow_steps";
            assert_eq!(scene.session.one(attempts).await, 0, "{end}: no attempt is used");
            assert!(world.broken_invariants().await.is_empty());
        });
    }
}

#[test]
fn a_job_that_is_not_started_in_time_uses_no_attempt() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let one = register(&world, &jobs_only()).await;
        let task = scene.session.create(&one, json!({})).await;
        let claims = scene.dispatch(1, 9).await;
        scene.confirm(&claims).await;
        let attempts = format!("select count(*) from tasker_core_v1.step_attempts(array[{task}])");
        let state = format!("select to_jsonb(s) from tasker_core_v1.step_states(array[{task}]) s");
        let enqueued = scene.session.one(&state).await;
        assert_eq!((&enqueued["attempts"], &enqueued["dispatch"]), (&json!(0), &json!("enqueued")));
        assert_eq!(scene.session.one(&attempts).await, 0, "it has not started");
        scene.session.at("4 minutes 59 seconds").await;
        assert_eq!(scene.sweep().await["unstarted"], 0);
        scene.session.at("5 minutes").await;
        assert_eq!(scene.sweep().await["unstarted"], 1);
        let history = scene.history().await;
        assert_eq!(history[0]["outcome"], "released");
        assert_eq!(scene.session.one("select finished_at = started_at from tasker_step_attempts").await, true);
        assert!(text(&history[0]["message"]).starts_with("no process started the job that process"), "{history:?}");
        assert_eq!(scene.adopt(&claims[0]).await, Vec::<Value>::new(), "the queue runs it late");
        scene.jobs = scene.session.process("none").await;
        scene.dispatcher = scene.session.dispatcher().await;
        let again = scene.dispatch(1, 9).await.remove(0);
        assert_eq!(again["attempt"], 1);
        assert_eq!(scene.adopt(&again).await.len(), 1);
        let started = scene.session.one(&state).await;
        assert_eq!((&started["attempts"], &started["dispatch"]), (&json!(1), &json!("started")));
        assert_eq!(scene.session.one(&attempts).await, 2);
    });
}

#[test]
fn a_started_job_whose_process_dies_is_a_lost_attempt() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let one = register(&world, &jobs_only()).await;
        scene.session.create(&one, json!({})).await;
        let claim = scene.dispatch(1, 9).await.remove(0);
        scene.adopt(&claim).await;
        scene.session.at("21 s").await;
        let swept = scene.sweep().await;
        assert_eq!((&swept["lost_attempts"], &swept["unstarted"]), (&json!(1), &json!(0)));
        assert_eq!(scene.history().await[0]["outcome"], "lost");
    });
}

#[test]
fn a_step_whose_job_is_not_enqueued_waits_with_the_error() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let one = register(&world, &jobs_only()).await;
        let task = scene.session.create(&one, json!({})).await;
        let claims = scene.dispatch(1, 9).await;
        let error = json!({"class": "RedisClient::CannotConnectError", "message": "refused"});
        let dispatcher = scene.dispatcher;
        let held = held_by(&claims);
        let release = format!("release_steps({dispatcher}, {held}, '5 s', 'not_enqueued', false, {})", quoted(&error));
        assert_eq!(scene.session.call(&release).await, json!({"ready_queues": []}));
        let sql = format!("select to_jsonb(s) - 'dependencies' from tasker_core_v1.step_states(array[{task}]) s");
        let state = scene.session.one(&sql).await;
        assert_eq!((&state["state"], &state["waiting_reason"]), (&json!("waiting"), &json!("not_enqueued")));
        assert_eq!((&state["last_error"], &state["attempts"]), (&error, &json!(0)));
        scene.session.at("5 s").await;
        scene.sweep().await;
        assert_eq!(scene.dispatch(1, 9).await.len(), 1);
    });
}

#[test]
fn the_setting_for_queues_applies_to_registered_workflows_and_ready_steps() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let steps = workflow("w", &[("open", &[]), ("worker", &[]), ("job", &[])]);
        let steps = with(with(steps, 1, "dispatch", json!("worker")), 2, "dispatch", json!("active_job"));
        let one = register(&world, &steps).await;
        scene.session.create(&one, json!({})).await;
        let dispatched =
            "select string_agg(d.name, ' ' order by d.name) from tasker_ready_steps r join tasker_tasks t \
                          on t.id = r.task_id join tasker_step_definitions d on d.workflow_version_id = \
                          t.workflow_version_id and d.position = r.position where r.dispatched";
        for (queues, changed, expected) in [
            (json!([]), 0, "job"),
            (json!(["other", "default"]), 1, "job open"),
            (json!(["default"]), 0, "job open"),
            (json!([]), 1, "job"),
        ] {
            assert_eq!(scene.session.call(&format!("dispatch_queues({})", quoted(&queues))).await, changed, "{queues}");
            assert_eq!(scene.session.one(dispatched).await, expected, "{queues}");
        }
    });
}

#[test]
fn an_unstarted_job_of_a_damaged_step_is_set_aside() {
    World::run(|world| async move {
        let mut scene = Scene::open(&world).await;
        let one = register(&world, &jobs_only()).await;
        scene.session.create_all(&vec![crate::session::request(&one, json!({})); 2]).await;
        let claims = scene.dispatch(2, 9).await;
        scene.session.at("5 minutes").await;
        let damage = format!(
            "alter function tasker_core_v1.return_claims rename to return_claims_before; \
             create function tasker_core_v1.return_claims(p_tokens bigint[], p_delay interval, p_reason text, \
               p_begun boolean default false, p_error jsonb default null) returns json language plpgsql as $$ begin \
               if {} = any(p_tokens) then raise exception 'missing chunk' using errcode = 'XX001'; end if; \
               return tasker_core_v1.return_claims_before(p_tokens, p_delay, p_reason, p_begun, p_error); end $$",
            claims[0]["token"]
        );
        sqlx::Executor::execute(&world.pool, sqlx::AssertSqlSafe(damage)).await.unwrap();
        scene.session.refused("XX001", "sweep(null, 100)").await;
        let swept = scene.session.call("sweep(null, 1)").await;
        assert_eq!((&swept["unstarted"], &swept["set_aside"][0]["task_id"]), (&json!(0), &claims[0]["task_id"]));
        assert_eq!(scene.sweep().await["unstarted"], 1, "the other one is not held up");
        assert_eq!(scene.session.count("tasker_waiting_steps where reason = 'unreadable'").await, 1);
        assert_eq!(scene.session.count("tasker_step_attempts where outcome = 'released'").await, 2);
    });
}
