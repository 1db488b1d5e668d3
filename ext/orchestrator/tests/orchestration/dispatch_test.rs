//! Steps that run as jobs, from the dispatcher to the process that runs the job, with a queue in memory.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{json, Value};
use sqlx::Executor;
use tasker_orchestrator::database::Address;
use tasker_orchestrator::orchestrator::{Role, Settings};
use tasker_orchestrator::task_enqueuer::{EnqueueError, Enqueued, StepJob, TaskEnqueuer};
use tasker_orchestrator::{Claim, EventPublisher, Orchestrator, Outcome};

use crate::support::{configuration, raw, with, workflow, World};

/// A queue that keeps the batches that it accepts, and refuses them while it is away.
#[derive(Default)]
struct Queue {
    batches: Mutex<Vec<Vec<StepJob>>>,
    refused: Mutex<usize>,
    away: Mutex<bool>,
}

impl TaskEnqueuer for Queue {
    fn enqueue(&self, jobs: Vec<StepJob>) -> Pin<Box<dyn Future<Output = Enqueued> + Send + '_>> {
        Box::pin(async move {
            let count = jobs.len();
            if *self.away.lock().unwrap() {
                *self.refused.lock().unwrap() += count;
                let error = EnqueueError { class: "QueueAway".to_owned(), message: "connection refused".to_owned() };
                return vec![Err(error); count];
            }
            self.batches.lock().unwrap().push(jobs);
            vec![Ok(()); count]
        })
    }
}

impl Queue {
    fn jobs(&self) -> Vec<StepJob> {
        self.batches.lock().unwrap().concat()
    }

    /// Waits until the queue has this number of jobs.
    async fn jobs_within(&self, world: &World, count: usize) -> Vec<StepJob> {
        world.eventually(|| async { (self.jobs().len() >= count).then(|| self.jobs()) }).await
    }
}

async fn start(world: &World, role: Role, overrides: &Value) -> Orchestrator {
    let configuration = configuration(overrides);
    Orchestrator::start(Settings {
        address: Address::from_url(&world.url),
        events: EventPublisher::new(configuration.events.clone()),
        configuration,
        name: "test".to_owned(),
        hostname: "localhost".to_owned(),
        pid: std::process::id(),
        role,
    })
    .await
    .unwrap()
}

async fn stop(orchestrators: &[&Orchestrator]) {
    for orchestrator in orchestrators {
        orchestrator.stop(Duration::from_secs(5)).await.unwrap();
    }
}

async fn complete(orchestrator: &Orchestrator, claim: &Claim) {
    let result = raw(&json!({"done": claim.position}));
    orchestrator.finish(Outcome::Completed { token: claim.token, result }).await.unwrap();
}

fn line(steps: &[(&str, &[&str])]) -> Value {
    let mut line = workflow("line", steps);
    line["dispatch"] = json!("active_job");
    line
}

#[test]
fn jobs_run_a_line_of_steps_and_a_worker_its_last() {
    World::run(|world| async move {
        let queue = Arc::new(Queue::default());
        let dispatcher = start(&world, Role::Dispatcher(queue.clone()), &json!({})).await;
        let jobs = start(&world, Role::Jobs, &json!({})).await;
        let line = with(line(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]), 2, "dispatch", json!("worker"));
        let line = with(with(line, 0, "queue", json!("urgent")), 0, "priority", json!(-5));
        let task = world.create_task(&line, &json!({"n": 1})).await;
        for (count, name, queue_name, priority) in [(1, "a", "urgent", -5), (2, "b", "default", 0)] {
            let job = queue.jobs_within(&world, count).await.remove(count - 1);
            assert_eq!((job.step.as_str(), job.queue.as_str(), job.priority), (name, queue_name, priority));
            assert_eq!((job.task_uuid, job.workflow.as_str()), (task.uuid, "line"));
            let claim = jobs.adopt(job.claim).await.unwrap().expect("the job may run");
            assert!(jobs.adopt(job.claim).await.unwrap().is_none(), "the queue runs it twice");
            complete(&jobs, &claim).await;
        }
        let last = dispatcher.next_step().await.unwrap();
        complete(&dispatcher, &last).await;
        assert_eq!(world.ended(task.id).await, "complete");
        let outline = world.outline(task.id).await;
        assert!(outline.iter().all(|(_, state, attempts)| state == "complete" && *attempts == 1), "{outline:?}");
        assert_eq!((dispatcher.health().dispatched, jobs.health().finished), (2, 2));
        stop(&[&jobs, &dispatcher]).await;
        assert!(world.broken_invariants().await.is_empty());
    });
}

#[test]
fn jobs_are_dispatched_in_batches_up_to_in_flight() {
    for (batch, in_flight) in [(2, 5), (4, 8)] {
        World::run(move |world| async move {
            world.create_tasks(&line(&[("s", &[])]), &vec![json!({}); 20]).await;
            let queue = Arc::new(Queue::default());
            let settings = json!({"dispatch": {"batch": batch, "in_flight": in_flight}});
            let dispatcher = start(&world, Role::Dispatcher(queue.clone()), &settings).await;
            let jobs = start(&world, Role::Jobs, &json!({})).await;
            let enqueued = queue.jobs_within(&world, in_flight).await;
            assert_eq!(enqueued.len(), in_flight);
            assert_eq!(queue.batches.lock().unwrap().iter().map(Vec::len).max(), Some(batch));
            // Each end makes room for one more.
            for done in 0..20 {
                let job = queue.jobs_within(&world, done + 1).await[done].clone();
                let claim = jobs.adopt(job.claim).await.unwrap().unwrap();
                complete(&jobs, &claim).await;
                assert!(queue.jobs().len() <= in_flight + done + 1);
            }
            world.eventually(|| async { (jobs.health().finished == 20).then_some(()) }).await;
            stop(&[&jobs, &dispatcher]).await;
        });
    }
}

#[test]
fn a_step_waits_while_the_queue_is_away_and_uses_no_attempt() {
    World::run(|world| async move {
        let queue = Arc::new(Queue::default());
        *queue.away.lock().unwrap() = true;
        let settings = json!({"discovery": {"unknown_handler_delay": "100ms"}});
        let dispatcher = start(&world, Role::Dispatcher(queue.clone()), &settings).await;
        let jobs = start(&world, Role::Jobs, &json!({})).await;
        let task = world.create_task(&line(&[("s", &[])]), &json!({})).await;
        world.eventually(|| async { (*queue.refused.lock().unwrap() >= 2).then_some(()) }).await;
        world.step_is(task.id, "s", "waiting").await;
        assert_eq!(world.steps(task.id).await[0].error["class"], "QueueAway");
        *queue.away.lock().unwrap() = false;
        let job = queue.jobs_within(&world, 1).await.remove(0);
        let claim = jobs.adopt(job.claim).await.unwrap().unwrap();
        assert_eq!(claim.attempt, 1);
        complete(&jobs, &claim).await;
        assert_eq!(world.ended(task.id).await, "complete");
        stop(&[&jobs, &dispatcher]).await;
    });
}

#[test]
fn a_job_that_no_process_starts_is_dispatched_again() {
    World::run(|world| async move {
        let queue = Arc::new(Queue::default());
        let settings = json!({"dispatch": {"start_timeout": "1s"}, "maintenance": {"sweep_interval": "100ms"},
                              "leases": {"heartbeat_interval": "50ms", "process_timeout": "5s"}});
        let dispatcher = start(&world, Role::Dispatcher(queue.clone()), &settings).await;
        let jobs = start(&world, Role::Jobs, &json!({})).await;
        let task = world.create_task(&line(&[("s", &[])]), &json!({})).await;
        let enqueued = queue.jobs_within(&world, 2).await;
        assert!(jobs.adopt(enqueued[0].claim).await.unwrap().is_none(), "the queue runs it late");
        let claim = jobs.adopt(enqueued[1].claim).await.unwrap().unwrap();
        assert_eq!(claim.attempt, 1, "no attempt is used");
        complete(&jobs, &claim).await;
        assert_eq!(world.ended(task.id).await, "complete");
        stop(&[&jobs, &dispatcher]).await;
    });
}

#[test]
fn an_enqueued_job_runs_after_its_dispatcher_has_stopped() {
    World::run(|world| async move {
        let queue = Arc::new(Queue::default());
        let dispatcher = start(&world, Role::Dispatcher(queue.clone()), &json!({})).await;
        let task = world.create_task(&line(&[("s", &[])]), &json!({})).await;
        let job = queue.jobs_within(&world, 1).await.remove(0);
        stop(&[&dispatcher]).await;
        let jobs = start(&world, Role::Jobs, &json!({})).await;
        let claim = jobs.adopt(job.claim).await.unwrap().expect("its claim outlives the dispatcher");
        complete(&jobs, &claim).await;
        assert_eq!(world.ended(task.id).await, "complete");
        stop(&[&jobs]).await;
        assert!(jobs.adopt(job.claim).await.is_err(), "the process has ended");
    });
}

#[test]
fn steps_of_the_configured_queues_run_as_jobs() {
    for (queues, expected) in [(json!(["mail"]), vec!["mail"]), (json!([]), vec![])] {
        World::run(move |world| async move {
            let steps = with(workflow("w", &[("plain", &[]), ("mail", &[])]), 1, "queue", json!("mail"));
            world.create_task(&steps, &json!({})).await;
            let queue = Arc::new(Queue::default());
            let settings = json!({"dispatch": {"queues": queues}});
            let dispatcher = start(&world, Role::Dispatcher(queue.clone()), &settings).await;
            let claimed = 2 - expected.len();
            world.eventually(|| async { (dispatcher.health().held == claimed).then_some(()) }).await;
            let jobs = queue.jobs_within(&world, expected.len()).await;
            assert_eq!(jobs.iter().map(|job| job.step.as_str()).collect::<Vec<_>>(), expected);
            stop(&[&dispatcher]).await;
        });
    }
}

#[test]
fn a_worker_runs_steps_of_a_queue_that_was_removed_from_the_setting() {
    World::run(|world| async move {
        let steps = with(workflow("w", &[("mail", &[])]), 0, "queue", json!("mail"));
        world.create_task(&steps, &json!({})).await;
        assert_eq!(world.functions.dispatch_queues(&["mail".to_owned()]).await.unwrap(), 1);
        let fail_twice = "create sequence calls; \
            alter function tasker_core_v1.dispatch_queues(jsonb) rename to working; \
            create function tasker_core_v1.dispatch_queues(p_queues jsonb) returns integer language plpgsql as $$ begin \
              if nextval('calls') <= 2 then raise 'away'; end if; \
              return tasker_core_v1.working(p_queues); \
            end $$";
        world.pool.execute(fail_twice).await.unwrap();
        let worker = start(&world, Role::Worker, &json!({})).await;
        let claim =
            tokio::time::timeout(Duration::from_secs(60), worker.next_step()).await.expect("a worker claims it");
        complete(&worker, &claim.unwrap()).await;
        stop(&[&worker]).await;
    });
}

#[test]
fn a_process_of_jobs_reports_the_most_that_it_has_run_as_its_threads() {
    World::run(|world| async move {
        let queue = Arc::new(Queue::default());
        let settings = json!({"execution": {"threads": 9}, "leases": {"heartbeat_interval": "50ms"}});
        let dispatcher = start(&world, Role::Dispatcher(queue.clone()), &json!({})).await;
        let jobs = start(&world, Role::Jobs, &settings).await;
        world.create_tasks(&line(&[("s", &[])]), &[json!({}), json!({}), json!({})]).await;
        let mut claims = Vec::new();
        for job in &queue.jobs_within(&world, 3).await[..2] {
            claims.push(jobs.adopt(job.claim).await.unwrap().unwrap());
        }
        complete(&jobs, &claims[0]).await;
        // Reported after the first one had ended.
        let threads = "select case when stats ? 'run_us' then stats->>'threads' else '' end \
                       from tasker_processes where id = $1";
        world.eventually(|| async { (world.text(threads, jobs.process_id()).await == "2").then_some(()) }).await;
        complete(&jobs, &claims[1]).await;
        stop(&[&jobs, &dispatcher]).await;
    });
}
