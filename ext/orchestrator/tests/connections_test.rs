//! Connections that break, and connections that stay open without a response.

mod support;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};
use sqlx::postgres::PgConnectOptions;
use sqlx::Executor;
use support::{configuration, handlers, workflow, World};
use tasker_orchestrator::database::{self, Address, Connections, Host, SessionAttributes, Setting};
use tasker_orchestrator::handler;
use tasker_orchestrator::orchestrator::{Role, Settings};
use tasker_orchestrator::{EventPublisher, HandlerError, Orchestrator, Outcome, StepContext};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// A proxy of the server that can silence connections: it discards the server's responses on those that are open then,
/// and both sides keep the connection. Shut, it cuts all connections and accepts none.
struct Door {
    port: u16,
    generation: watch::Sender<u64>,
    shut: watch::Sender<bool>,
}

impl Door {
    async fn open(url: &str) -> Self {
        let server = PgConnectOptions::from_str(url).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (generation, silenced) = watch::channel(0);
        let (shut, is_shut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *is_shut.borrow() {
                    continue;
                }
                let (server, silenced, mut is_shut) = (server.clone(), silenced.clone(), is_shut.clone());
                let carrying = async move {
                    let directory = server
                        .get_socket()
                        .cloned()
                        .or(server.get_host().starts_with('/').then(|| server.get_host().into()));
                    match directory {
                        Some(directory) => {
                            let path = directory.join(format!(".s.PGSQL.{}", server.get_port()));
                            carry(client, UnixStream::connect(path).await.unwrap(), silenced).await;
                        }
                        None => {
                            let address = (server.get_host().to_owned(), server.get_port());
                            carry(client, TcpStream::connect(address).await.unwrap(), silenced).await;
                        }
                    }
                };
                tokio::spawn(async move {
                    tokio::select! {
                        () = carrying => {}
                        _ = is_shut.wait_for(|shut| *shut) => {}
                    }
                });
            }
        });
        Self { port, generation, shut }
    }

    fn shut(&self, shut: bool) {
        self.shut.send_replace(shut);
    }

    /// Silences all connections that are open now.
    fn silence(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn carry(client: TcpStream, server: impl AsyncRead + AsyncWrite, silenced: watch::Receiver<u64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let opened_in = *silenced.borrow();
    let querying = tokio::io::copy(&mut from_client, &mut to_server);
    let responding = async {
        let mut buffer = vec![0; 16_384];
        while let Ok(size @ 1..) = from_server.read(&mut buffer).await {
            if *silenced.borrow() == opened_in && to_client.write_all(&buffer[..size]).await.is_err() {
                return;
            }
        }
        if *silenced.borrow() != opened_in {
            std::future::pending().await
        }
    };
    tokio::select! {
        _ = querying => {}
        () = responding => {}
    }
}

fn address_of(doors: &[&Door], world: &World) -> Address {
    let server = PgConnectOptions::from_str(&world.url).unwrap();
    let host = |door: &&Door| Host { host: Some("127.0.0.1".to_owned()), port: Some(door.port), password: None };
    Address {
        hosts: doors.iter().map(host).collect(),
        user: Some(server.get_username().to_owned()),
        database: server.get_database().map(str::to_owned),
        sslmode: Some("disable".to_owned()),
        ..Address::default()
    }
}

async fn orchestrator_at(address: Address, overrides: &Value) -> Result<Orchestrator, tasker_orchestrator::Error> {
    let configuration = configuration(overrides);
    Orchestrator::start(Settings {
        address,
        events: EventPublisher::new(configuration.events.clone()),
        configuration,
        name: "behind the door".to_owned(),
        hostname: "localhost".to_owned(),
        pid: std::process::id(),
        role: Role::Worker,
    })
    .await
}

/// A worker without handlers: a test takes its claims.
async fn orchestrator_behind(door: &Door, world: &World, overrides: &Value) -> Orchestrator {
    orchestrator_at(address_of(&[door], world), overrides).await.unwrap()
}

async fn worker_behind(door: &Door, world: &World, overrides: &Value) -> Orchestrator {
    with_echo(orchestrator_behind(door, world, overrides).await, overrides)
}

fn with_echo(orchestrator: Orchestrator, overrides: &Value) -> Orchestrator {
    let slots = configuration(overrides).execution.threads;
    let echo = handlers([(
        "only",
        (|context: &StepContext| context.input()) as fn(&StepContext) -> Result<Value, HandlerError>,
    )]);
    handler::run(&orchestrator, echo, slots);
    orchestrator
}

/// Impatient, so that a test need not wait for what a worker rightly waits for.
fn impatient() -> Value {
    json!({
        "database": {"statement_timeout": "500ms", "pool": {"acquire_timeout": "500ms"}},
        "leases": {"heartbeat_interval": "200ms", "process_timeout": "2s"},
        "maintenance": {"sweep_interval": "200ms"},
        "discovery": {"poll_interval": "300ms"},
        "execution": {"shutdown_timeout": "1s"},
    })
}

#[test]
fn a_worker_replaces_silent_connections_and_continues() {
    World::run(|world: Arc<World>| async move {
        let door = Door::open(&world.url).await;
        let worker = worker_behind(&door, &world, &impatient()).await;
        let only = workflow("only", &[("only", &[])]);
        let first = world.create_task(&only, &json!({"n": 1})).await.id;
        assert_eq!(world.ended(first).await, "complete");

        // One statement of the worker is under way when it happens.
        let mut lock = world.pool.begin().await.unwrap();
        lock.execute("lock table tasker_ready_steps in access exclusive mode").await.unwrap();
        let waiting =
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%claim_steps%' \
                       and datname = current_database()";
        world.eventually(|| async { (world.number(waiting).await > 0).then_some(()) }).await;
        door.silence();
        lock.rollback().await.unwrap();

        let inputs: Vec<Value> = (0..50).map(|n| json!({"n": n})).collect();
        let tasks = world.create_tasks(&only, &inputs).await;
        for (task, input) in tasks.iter().zip(&inputs) {
            assert_eq!(world.ended(task.id).await, "complete");
            assert_eq!(&world.result(task.id, "only").await, input);
        }
        assert_eq!(world.number("select count(*) from tasker_step_attempts where outcome = 'completed'").await, 51);
        assert_eq!(world.broken_invariants().await, Vec::<String>::new());
        worker.stop(Duration::from_secs(1)).await.unwrap();
    });
}

#[test]
fn a_listener_that_fell_silent_listens_again() {
    World::run(|world: Arc<World>| async move {
        let door = Door::open(&world.url).await;
        let mut settings = impatient();
        // Found by a notice or not at all: no poll comes in time.
        settings["discovery"]["poll_interval"] = json!("10m");
        let worker = worker_behind(&door, &world, &settings).await;
        world.eventually(|| async { worker.health().listening.then_some(()) }).await;
        door.silence();
        world.eventually(|| async { (!worker.health().listening).then_some(()) }).await;
        world.eventually(|| async { worker.health().listening.then_some(()) }).await;
        worker.stop(Duration::from_secs(1)).await.unwrap();
    });
}

#[test]
fn workers_cut_off_from_the_database_keep_their_claims() {
    World::run(|world: Arc<World>| async move {
        let door = Door::open(&world.url).await;
        let mut settings = impatient();
        // Many sweeps for each sign of life: left to chance, one comes first.
        settings["leases"] = json!({"heartbeat_interval": "500ms", "process_timeout": "1s"});
        settings["maintenance"] = json!({"sweep_interval": "50ms"});
        settings["execution"] = json!({"threads": 1, "claim_ahead": 0, "shutdown_timeout": "1s"});
        let workers =
            [orchestrator_behind(&door, &world, &settings).await, orchestrator_behind(&door, &world, &settings).await];
        let only = workflow("only", &[("only", &[])]);
        let tasks = world.create_tasks(&only, &[json!({}), json!({})]).await;
        let claims = [workers[0].next_step().await.unwrap(), workers[1].next_step().await.unwrap()];

        door.shut(true);
        let silent =
            "select count(*) from tasker_processes where heartbeat_at + heartbeat_timeout <= clock_timestamp()";
        world.eventually(|| async { (world.number(silent).await == 2).then_some(()) }).await;
        door.shut(false);
        world.eventually(|| async { (world.number(silent).await == 0).then_some(()) }).await;

        for (worker, claim) in workers.iter().zip(&claims) {
            let outcome = json!({"token": claim.token, "outcome": "completed", "result": {}}).to_string();
            if let Some(ended) = worker.try_finish(Outcome::from_json(&outcome).unwrap()).unwrap() {
                worker.deliver(ended).await.unwrap();
            }
        }
        for task in tasks {
            assert_eq!(world.ended(task.id).await, "complete");
        }
        assert_eq!(world.number("select count(*) from tasker_step_attempts").await, 2, "each ran once");
        for worker in workers {
            worker.stop(Duration::from_secs(1)).await.unwrap();
        }
    });
}

#[test]
fn a_worker_fails_over_to_the_next_host() {
    World::run(|world: Arc<World>| async move {
        let (gone, first, second) =
            (Door::open(&world.url).await, Door::open(&world.url).await, Door::open(&world.url).await);
        gone.shut(true);
        let address = address_of(&[&gone, &first, &second], &world);
        let worker = with_echo(orchestrator_at(address, &impatient()).await.unwrap(), &impatient());
        let only = workflow("only", &[("only", &[])]);
        assert_eq!(world.ended(world.create_task(&only, &json!({"n": 1})).await.id).await, "complete");
        first.shut(true);
        assert_eq!(world.ended(world.create_task(&only, &json!({"n": 2})).await.id).await, "complete");
        worker.stop(Duration::from_secs(1)).await.unwrap();
    });
}

#[test]
fn a_server_without_the_required_role_is_not_used() {
    World::run(|world: Arc<World>| async move {
        let door = Door::open(&world.url).await;
        for (wanted, is_used) in [
            (SessionAttributes::Primary, true),
            (SessionAttributes::ReadWrite, true),
            (SessionAttributes::PreferStandby, true),
            (SessionAttributes::Standby, false),
            (SessionAttributes::ReadOnly, false),
        ] {
            let mut address = address_of(&[&door, &door], &world);
            address.target_session_attrs = wanted;
            match orchestrator_at(address, &impatient()).await {
                Ok(orchestrator) => {
                    assert!(is_used, "{wanted:?}");
                    orchestrator.stop(Duration::from_secs(1)).await.unwrap();
                }
                Err(error) => {
                    assert!(!is_used, "{wanted:?}: {error}");
                    assert!(error.to_string().contains("not what target_session_attrs asks for"), "{error}");
                }
            }
        }
    });
}

#[test]
fn application_settings_apply_to_sessions_and_statements() {
    World::run(|world: Arc<World>| async move {
        let door = Door::open(&world.url).await;
        for poll_only in [false, true] {
            let mut settings = impatient();
            settings["database"]["poll_only"] = json!(poll_only);
            let setting = |name: &str, value: &str, text| Setting {
                key: format!("variables.{name}"),
                name: name.to_owned(),
                value: value.to_owned(),
                text,
            };
            let mut address = address_of(&[&door], &world);
            address.options = vec![("search_path".to_owned(), "nowhere, public".to_owned())];
            address.session = vec![setting("work_mem", "E'5MB'", false)];
            let connections = database::connect(&address, &configuration(&settings).database).await.unwrap();
            let mut connection = connections.pool().acquire().await.unwrap();
            let query = "select concat_ws('; ', current_setting('search_path'), current_setting('work_mem'), \
                         current_setting('statement_timeout'), current_setting('lock_timeout'))";
            let reported: String = match connections.begin() {
                None => sqlx::query_scalar(query).fetch_one(&mut *connection).await.unwrap(),
                Some(begin) => Connections::in_transaction(&mut connection, begin, async |on| {
                    sqlx::query_scalar(query).fetch_one(on).await
                })
                .await
                .unwrap(),
            };
            assert_eq!(reported, "nowhere, public; 5MB; 500ms; 10s", "poll_only: {poll_only}");
            if poll_only {
                let left: String = sqlx::query_scalar(query).fetch_one(&mut *connection).await.unwrap();
                assert_eq!(left, "\"$user\", public; 4MB; 0; 0", "nothing is left in a session that others may use");
            }

            address.session.push(setting("work_mem", "E'secret'", false));
            let error = database::connect(&address, &configuration(&settings).database).await.unwrap_err().to_string();
            assert!(error.contains("variables.work_mem: the server rejects this setting"), "{error}");
            assert!(!error.contains("secret"), "{error}");
            assert!(!format!("{address:?} {connections:?}").contains("secret"));
        }
    });
}
