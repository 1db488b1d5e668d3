//! The SQL functions of `db/functions` as typed calls.
//!
//! Invariant: each call is one statement or one transaction. Payloads cross as JSON text. Neighbours: called by the
//! dispatcher and maintenance; `error` classifies the functions' errors.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::Value;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::QueryScalar;
use sqlx::{FromRow, Postgres};
use uuid::Uuid;

use crate::claim::{Claim, ClaimKey, HeldClaim};
use crate::configuration::{Database, Dispatch};
use crate::database::definitions::{ClaimBatchText, Definition, DefinitionText, Definitions, SetAside};
use crate::database::Connections;
use crate::error::{Error, FunctionErrorCode};
use crate::events::{AttemptEvent, EventPayload, StepFacts, TaskFacts};
use crate::measurements::Stats;
use crate::outcome::{AttemptError, EndedAttempt, ReleaseReason};
use crate::workflow::Workflow;

/// The pool, and how long a response may take. Each call may use another connection.
#[derive(Debug, Clone)]
pub struct Functions {
    connections: Connections,
    timeout: Duration,
    definitions: Arc<Definitions>,
}

/// A stored version of a workflow.
#[derive(Debug, Clone, Deserialize)]
pub struct RegisteredVersion {
    pub id: i64,
    /// The event of its registration, if it was not stored before.
    pub emitted: Vec<EventPayload>,
}

/// One task to create.
#[derive(Debug, Clone, Serialize)]
pub struct TaskRequest {
    pub namespace: String,
    pub workflow: String,
    pub version: String,
    pub input: Box<RawValue>,
    pub priority: i32,
    /// RFC 3339 time before which no step starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_correlation_id: Option<Uuid>,
    pub tags: Vec<String>,
}

impl TaskRequest {
    /// Approximate length as JSON text.
    pub fn bytes(&self) -> usize {
        /// Everything that is not counted.
        const FRAME: usize = 400;
        let names = self.namespace.len() + self.workflow.len() + self.version.len();
        let tags = self.tags.iter().map(|tag| tag.len() + 3).sum::<usize>();
        FRAME + names + self.input.get().len() + self.idempotency_key.as_ref().map_or(0, String::len) + tags
    }
}

/// The response to one task request.
#[derive(Debug, Clone, Deserialize)]
pub struct CreatedTask {
    pub id: i64,
    pub uuid: Uuid,
    pub correlation_id: Uuid,
    /// Another task already had the idempotency key: this is that task.
    pub existing: bool,
    /// Queues of its ready root steps.
    pub queues: Vec<String>,
}

/// The response to a claim.
#[derive(Debug, Default)]
pub struct ClaimBatch {
    pub claims: Vec<Claim>,
    pub unbuilt: Vec<UnbuiltClaim>,
    /// Steps that could not be claimed and are no longer ready.
    pub set_aside: Vec<SetAside>,
}

/// A claim of this process that cannot run, as the definition of its workflow could not be read.
#[derive(Debug)]
pub struct UnbuiltClaim {
    pub key: ClaimKey,
    pub error: Arc<Error>,
}

impl ClaimBatch {
    pub fn len(&self) -> usize {
        self.claims.len() + self.unbuilt.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Claims of a dispatcher.
#[derive(Debug)]
pub struct DispatchBatch {
    pub claimed: ClaimBatch,
    /// Priorities of the jobs by token.
    pub priorities: HashMap<i64, i64>,
}

/// How many ready steps a statement may claim.
#[derive(Debug, Clone, Copy, Default)]
pub struct Demand {
    pub steps: usize,
    /// How many of them may be handed over: children that the statement itself makes ready.
    pub hand_over_limit: usize,
    /// Maximum bytes of payloads in each claim; longer ones are read later.
    pub inline_bytes: usize,
}

/// The outcome of a batch of finishes.
#[derive(Debug)]
pub struct FinishResult {
    /// Tokens without a claim; nothing was changed for them.
    pub stale: Vec<i64>,
    /// The shortest time until one of the failed steps is retried.
    pub next_retry: Option<Duration>,
    /// Queues in which steps became ready for other processes.
    pub ready_queues: Vec<String>,
    /// Claims on steps that became ready, then on steps that had been waiting.
    pub claimed: ClaimBatch,
    /// Tasks that ended.
    pub ended: Vec<TaskFacts>,
    /// Time until the next attempt by token.
    pub retries: HashMap<i64, Duration>,
}

/// A worker process's description of itself when it registers.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessEntry {
    /// Drawn by the process if the registration may have to be repeated; otherwise the database draws it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    pub name: String,
    pub hostname: String,
    pub pid: u32,
    pub queues: Vec<String>,
    /// Whether it enqueues jobs for the steps of these queues that run as jobs.
    pub dispatches: bool,
    pub heartbeat_timeout_ms: u64,
    pub lease_grace_ms: u64,
}

/// The registration that a new one replaces.
#[derive(Debug, Clone, Serialize)]
pub struct FormerRegistration<'a> {
    pub process: i64,
    /// The server system on which it was made; on another one nothing is taken over.
    pub system: Option<&'a str>,
    pub held: &'a [HeldClaim],
}

/// The server and its timeline; `None` where the server does not show them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ServerIdentity {
    pub system: Option<String>,
    pub timeline: Option<String>,
}

impl ServerIdentity {
    /// Whether the two are known to differ in server or timeline.
    pub fn differs_from(&self, other: &Self) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| one.is_some() && other.is_some() && one != other;
        differ(&self.system, &other.system) || differ(&self.timeline, &other.timeline)
    }
}

/// A jump of the database's clock since a process's last heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct ClockJump {
    /// Negative if the clock was set back.
    pub by_ms: f64,
    grace_ms: f64,
}

impl ClockJump {
    /// Time until every live process has sent another heartbeat.
    pub fn grace_period(&self) -> Duration {
        from_ms(self.grace_ms)
    }
}

/// The response to a heartbeat.
#[derive(Debug, Deserialize)]
pub struct HeartbeatReply {
    /// `false`: this process was taken for dead and must register again.
    pub known: bool,
    /// Tokens of claims that this process does not or no longer hold.
    pub revoked: Vec<i64>,
    pub server: ServerIdentity,
    pub clock_jump: Option<ClockJump>,
}

/// The outcome of a sweep.
#[derive(Debug, Deserialize)]
pub struct SweepResult {
    /// Number of attempts that were lost and have ended.
    pub lost_attempts: u64,
    /// Number of jobs that no process started, and whose steps have returned.
    pub unstarted: u64,
    /// Steps whose lost attempts the database could not end.
    #[serde(default)]
    pub set_aside: Vec<SetAside>,
    /// Number of waiting steps that were due.
    pub due_steps: u64,
    pub ready_queues: Vec<String>,
    next_due_ms: Option<f64>,
    attempts: Vec<LostAttempt>,
    /// Tasks that ended because attempts of theirs were lost.
    pub ended: Vec<TaskFacts>,
    /// Set if the sweep ended no lease because the database's clock has jumped.
    pub clock_jump: Option<ClockJump>,
}

/// A lost attempt.
#[derive(Debug, Deserialize)]
struct LostAttempt {
    #[serde(flatten)]
    facts: StepFacts,
    error: Value,
    /// Time until the next attempt, if one follows.
    delay_ms: Option<f64>,
}

impl SweepResult {
    /// The lost attempts, for events.
    pub fn attempts(&self) -> impl Iterator<Item = AttemptEvent> + '_ {
        self.attempts.iter().map(|lost| AttemptEvent {
            facts: lost.facts.clone(),
            ran: None,
            error: Some(lost.error.clone()),
            delay: lost.delay_ms.map(from_ms),
        })
    }

    /// Time until the next waiting step is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.next_due_ms.map(from_ms)
    }
}

/// The outcome of an operator's action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionResult {
    /// The task's or the step's state afterwards.
    pub state: String,
    /// Queues in which steps became ready.
    #[serde(default)]
    pub ready_queues: Vec<String>,
    /// Events to publish.
    #[serde(default, skip_serializing)]
    pub emitted: Vec<EventPayload>,
}

/// A broken invariant of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Finding {
    pub task_id: i64,
    /// `None` if it concerns the whole task.
    pub position: Option<i32>,
    /// I1 to I6, `counters` or `rows`: see `audit.sql`.
    pub rule: String,
    pub explanation: String,
}

/// The outcome of an audit of some tasks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuditResult {
    pub findings: Vec<Finding>,
    /// Where the next audit continues; `None` at the end.
    pub after: Option<i64>,
}

/// A counter of tasks that differed from the tasks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CountDifference {
    pub namespace: String,
    pub workflow: String,
    pub state: String,
    pub counted: i64,
    pub actual: i64,
}

/// The next task of a chore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct NextTask {
    pub id: i64,
    pub uuid: Uuid,
}

/// The rows that retention removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PruneResult {
    /// Rows by table, without the prefix.
    pub removed: BTreeMap<String, u64>,
    /// Where the next statement continues; `None` at the end.
    pub after: Option<Uuid>,
}

#[derive(Deserialize)]
struct FinishedText {
    stale: Vec<i64>,
    retries: Vec<RetryText>,
    ready_queues: Vec<String>,
    handed_over: Option<ClaimBatchText>,
    claimed: Option<ClaimBatchText>,
    ended: Vec<TaskFacts>,
}

#[derive(Deserialize)]
struct PrioritiesText {
    priorities: HashMap<i64, i64>,
}

#[derive(Deserialize)]
struct RetryText {
    token: i64,
    delay_ms: f64,
}

#[derive(Deserialize)]
struct ReleasedText {
    ready_queues: Vec<String>,
}

impl Functions {
    pub fn new(connections: Connections, settings: &Database) -> Self {
        // By then the server has cancelled the statement, so its response is lost.
        let timeout = settings.statement_timeout + settings.pool.acquire_timeout;
        Self { connections, timeout, definitions: Arc::default() }
    }

    pub fn pool(&self) -> &PgPool {
        self.connections.pool()
    }

    /// Runs one statement that returns one value.
    async fn fetch<T>(&self, query: QueryScalar<'_, Postgres, T, PgArguments>) -> Result<T, Error>
    where
        T: Send + Unpin,
        (T,): for<'row> FromRow<'row, PgRow>,
    {
        self.on_connection(self.timeout, async |connection| match self.connections.begin() {
            None => query.fetch_one(&mut **connection).await,
            // Unnamed, as another client's statement may have the name.
            Some(begin) => {
                let unnamed = query.persistent(false);
                Connections::in_transaction(connection, begin, async |on| unnamed.fetch_one(on).await).await
            }
        })
        .await
    }

    /// Runs statements on one connection. A connection without a response, as after its peer has vanished, is closed:
    /// the network would detect that only after hours.
    async fn on_connection<T>(
        &self,
        timeout: Duration,
        statements: impl AsyncFnOnce(&mut PoolConnection<Postgres>) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let mut connection = self.pool().acquire().await.inspect_err(|error| {
            self.connections.check_server(error);
        })?;
        match tokio::time::timeout(timeout, statements(&mut connection)).await {
            Ok(Err(error)) => {
                if self.connections.check_server(&error) {
                    connection.close_on_drop();
                }
                Err(error.into())
            }
            Ok(response) => response.map_err(Error::from),
            Err(_) => {
                connection.close_on_drop();
                Err(Error::TimedOut { what: "the database's response", after: timeout })
            }
        }
    }

    /// Like `fetch`, for a value of JSON text.
    async fn fetch_json<T: DeserializeOwned>(
        &self,
        query: QueryScalar<'_, Postgres, String, PgArguments>,
    ) -> Result<T, Error> {
        let text = self.fetch(query).await?;
        from_json(&text)
    }

    /// Stores the workflow's version if it does not exist yet.
    ///
    /// # Errors
    /// `Error::Function` with `VersionConflict` if the version exists with another content.
    pub async fn register_workflow(&self, workflow: &Workflow) -> Result<RegisteredVersion, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.register_workflow($1::text::jsonb)::text")
            .bind(workflow.definition_json());
        self.fetch_json(query).await
    }

    /// Creates tasks in one transaction, with one statement for each part of the requests.
    pub async fn create_tasks(&self, parts: &[&[TaskRequest]]) -> Result<Vec<CreatedTask>, Error> {
        const SQL: &str = "select tasker_core_v1.create_tasks($1::text::jsonb)::text";
        if let [part] = parts {
            return self.fetch_json(sqlx::query_scalar(SQL).bind(to_json(*part)?)).await;
        }
        let begin = self.connections.begin();
        let timeout = self.timeout * u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let texts: Vec<String> = self
            .on_connection(timeout, async |connection| {
                Connections::in_transaction(connection, begin.unwrap_or("begin"), async |on| {
                    let mut texts = Vec::with_capacity(parts.len());
                    for part in parts {
                        let json = to_json(*part).map_err(|error| sqlx::Error::Encode(error.into()))?;
                        let query = sqlx::query_scalar(SQL).bind(json).persistent(begin.is_none());
                        texts.push(query.fetch_one(&mut *on).await?);
                    }
                    Ok(texts)
                })
                .await
            })
            .await?;
        let mut created = Vec::new();
        for text in &texts {
            created.extend(from_json::<Vec<CreatedTask>>(text)?);
        }
        Ok(created)
    }

    /// Claims up to `limit` ready steps of `queues`, each with payloads of up to `inline_bytes`.
    pub async fn claim_steps(
        &self,
        process: i64,
        queues: &[String],
        limit: usize,
        inline_bytes: usize,
    ) -> Result<ClaimBatch, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.claim_steps($1, $2, $3, $4)::text")
            .bind(process)
            .bind(queues)
            .bind(to_limit(limit))
            .bind(to_limit(inline_bytes));
        let claimed = self.fetch_json(query).await?;
        Ok(self.build_claims([claimed]).await)
    }

    /// Claims one ready step without payloads. A step that cannot be claimed even so is set aside.
    pub async fn claim_bare(&self, process: i64, queues: &[String]) -> Result<ClaimBatch, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.claim_steps($1, $2, 1, 0, true)::text")
            .bind(process)
            .bind(queues);
        let claimed = self.fetch_json(query).await?;
        Ok(self.build_claims([claimed]).await)
    }

    /// Claims up to `limit` ready steps of `queues` that run as jobs, as far as `settings` allows more jobs.
    pub async fn dispatch_steps(
        &self,
        process: i64,
        queues: &[String],
        limit: usize,
        settings: &Dispatch,
        set_aside_damaged: bool,
    ) -> Result<DispatchBatch, Error> {
        let sql = "select tasker_core_v1.dispatch_steps($1, $2, $3, $4, make_interval(secs => $5), $6)::text";
        let query = sqlx::query_scalar(sql)
            .bind(process)
            .bind(queues)
            .bind(to_limit(limit))
            .bind(to_limit(settings.in_flight))
            .bind(settings.start_timeout.as_secs_f64())
            .bind(set_aside_damaged);
        let text: String = self.fetch(query).await?;
        let PrioritiesText { priorities } = from_json(&text)?;
        Ok(DispatchBatch { claimed: self.build_claims([from_json(&text)?]).await, priorities })
    }

    /// Records that jobs are enqueued for a dispatcher's claims; returns for how many that it still holds.
    pub async fn confirm_dispatch(&self, process: i64, claims: &[ClaimKey]) -> Result<i32, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.confirm_dispatch($1, $2::text::jsonb)")
            .bind(process)
            .bind(to_json(claims)?);
        self.fetch(query).await
    }

    /// Releases a dispatcher's claims whose jobs were not enqueued because of `error`; they are ready after `delay`.
    pub async fn return_undispatched(
        &self,
        process: i64,
        claims: &[ClaimKey],
        delay: Duration,
        error: &AttemptError,
    ) -> Result<Vec<String>, Error> {
        let sql = "select tasker_core_v1.release_steps($1, $2::text::jsonb, make_interval(secs => $3), \
                   'not_enqueued', false, $4::text::jsonb)::text";
        let query = sqlx::query_scalar(sql)
            .bind(process)
            .bind(to_json(claims)?)
            .bind(delay.as_secs_f64())
            .bind(to_json(error)?);
        let released: ReleasedText = self.fetch_json(query).await?;
        Ok(released.ready_queues)
    }

    /// Takes a dispatcher's claim over for a process that runs its job, with payloads of up to `inline_bytes`. No claim
    /// if the job has been started before or too late.
    pub async fn adopt_claim(&self, process: i64, claim: ClaimKey, inline_bytes: usize) -> Result<ClaimBatch, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.adopt_claim($1, $2::text::jsonb, $3)::text")
            .bind(process)
            .bind(to_json(&claim)?)
            .bind(to_limit(inline_bytes));
        let claimed = self.fetch_json(query).await?;
        Ok(self.build_claims([claimed]).await)
    }

    /// Applies the setting `dispatch.queues` to registered workflows; returns how many definitions of steps changed.
    pub async fn dispatch_queues(&self, queues: &[String]) -> Result<i32, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.dispatch_queues($1::text::jsonb)").bind(to_json(queues)?);
        self.fetch(query).await
    }

    /// Ends attempts and claims steps in the same statement.
    pub async fn finish_steps(
        &self,
        process: i64,
        attempts: &[EndedAttempt],
        demand: Demand,
    ) -> Result<FinishResult, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.finish_steps($1, $2::text::jsonb, $3, $4, $5)::text")
            .bind(process)
            .bind(to_json(attempts)?)
            .bind(to_limit(demand.steps))
            .bind(to_limit(demand.hand_over_limit))
            .bind(to_limit(demand.inline_bytes));
        let finished: FinishedText = self.fetch_json(query).await?;
        let retries: HashMap<i64, Duration> =
            finished.retries.iter().map(|retry| (retry.token, from_ms(retry.delay_ms))).collect();
        Ok(FinishResult {
            stale: finished.stale,
            next_retry: retries.values().min().copied(),
            retries,
            ready_queues: finished.ready_queues,
            claimed: self.build_claims(finished.handed_over.into_iter().chain(finished.claimed)).await,
            ended: finished.ended,
        })
    }

    /// Adds the workflow's definition to claims. This process holds them already: those whose definition cannot be read
    /// are returned as `unbuilt`.
    async fn build_claims(&self, all: impl IntoIterator<Item = ClaimBatchText>) -> ClaimBatch {
        let mut built = ClaimBatch::default();
        for text in all {
            built.set_aside.extend(text.set_aside);
            let mut definitions: HashMap<i64, Result<Arc<Definition>, Arc<Error>>> = HashMap::new();
            for (id, digest) in &text.versions {
                definitions.insert(*id, self.definition(*id, digest).await.map_err(Arc::new));
            }
            for claim in text.claims {
                let definition = definitions.get(&claim.version_id).cloned();
                let definition = definition.unwrap_or_else(|| Err(Arc::new(unknown_version(claim.version_id))));
                match definition.and_then(|definition| definition.claim(&claim).map_err(Arc::new)) {
                    Ok(claim) => built.claims.push(claim),
                    Err(error) => built.unbuilt.push(UnbuiltClaim { key: claim.key(), error }),
                }
            }
        }
        built
    }

    async fn definition(&self, version: i64, digest: &str) -> Result<Arc<Definition>, Error> {
        if let Some(cached) = self.definitions.get(version, digest) {
            return Ok(cached);
        }
        let query =
            sqlx::query_scalar("select coalesce(tasker_core_v1.workflow_definition($1)::text, 'null')").bind(version);
        let text: Option<DefinitionText> = self.fetch_json(query).await?;
        let definition = Definition::new(&text.ok_or_else(|| unknown_version(version))?)?;
        self.definitions.put(version, definition);
        // Another digest: the version was replaced since the claim.
        self.definitions.get(version, digest).ok_or_else(|| unknown_version(version))
    }

    /// Releases claims of a process, claimable again after `delay`; returns the queues in which they are ready at once.
    pub async fn release_steps(
        &self,
        process: i64,
        claims: &[ClaimKey],
        delay: Duration,
        reason: ReleaseReason,
    ) -> Result<Vec<String>, Error> {
        let sql = "select tasker_core_v1.release_steps($1, $2::text::jsonb, make_interval(secs => $3), $4, $5)::text";
        let query = sqlx::query_scalar(sql)
            .bind(process)
            .bind(to_json(claims)?)
            .bind(delay.as_secs_f64())
            .bind(reason.as_str())
            .bind(reason.has_begun());
        let released: ReleasedText = self.fetch_json(query).await?;
        Ok(released.ready_queues)
    }

    /// Registers a process, replacing a `former` registration if given. The same entry may be sent again after an
    /// error.
    pub async fn register_process(
        &self,
        entry: &ProcessEntry,
        former: Option<&FormerRegistration<'_>>,
    ) -> Result<i64, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.register_process($1::text::jsonb, $2::text::jsonb)")
            .bind(to_json(entry)?)
            .bind(former.map(to_json).transpose()?);
        self.fetch(query).await
    }

    /// Removes the process and releases all its claims; returns the queues in which they are ready. `stats` as in
    /// `heartbeat`.
    pub async fn deregister_process(&self, process: i64, stats: &Stats) -> Result<Vec<String>, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.deregister_process($1, $2::text::jsonb)::text")
            .bind(process)
            .bind(to_json(stats)?);
        let released: ReleasedText = self.fetch_json(query).await?;
        Ok(released.ready_queues)
    }

    /// Sends a heartbeat with all claims that the process holds, or with `None` without claims; `age` is the time since
    /// the last one was received; `stats` is what the process has measured under this registration.
    pub async fn heartbeat(
        &self,
        process: i64,
        held: Option<&[HeldClaim]>,
        age: Duration,
        stats: Option<&Stats>,
    ) -> Result<HeartbeatReply, Error> {
        let sql =
            "select tasker_core_v1.heartbeat($1, $2::text::jsonb, make_interval(secs => $3), $4::text::jsonb)::text";
        let query = sqlx::query_scalar(sql)
            .bind(process)
            .bind(held.map(to_json).transpose()?)
            .bind(age.as_secs_f64())
            .bind(stats.map(to_json).transpose()?);
        self.fetch_json(query).await
    }

    /// Makes due steps ready; with `may_declare_dead`, also ends leases that have expired or whose process is dead.
    /// `age` as in `heartbeat`.
    pub async fn sweep(
        &self,
        process: i64,
        limit: usize,
        age: Duration,
        may_declare_dead: bool,
    ) -> Result<SweepResult, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.sweep($1, $2, make_interval(secs => $3), $4)::text")
            .bind(process)
            .bind(to_limit(limit))
            .bind(age.as_secs_f64())
            .bind(may_declare_dead);
        self.fetch_json(query).await
    }

    pub async fn wake_workers(&self, queues: &[String]) -> Result<i32, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.wake_workers($1)").bind(queues);
        self.fetch(query).await
    }

    /// Like `wake_workers`, but only logs errors: the transaction is committed and polling will find the steps.
    pub async fn try_wake_workers(&self, queues: &[String]) {
        if queues.is_empty() {
            return;
        }
        if let Err(error) = self.wake_workers(queues).await {
            tracing::debug!(error.class = error.class(), error.message = %error, "workers were not notified: they find the steps by polling");
        }
    }

    /// Results of the claimed step's ancestors, of `names` or all, after the position `after`, up to `bytes` but at
    /// least one: JSON text `{"results": {name: result}, "after": where to continue, "names": [all names]}`. `None` if
    /// the process does not hold the step.
    pub async fn ancestor_results(
        &self,
        process: i64,
        claim: ClaimKey,
        names: Option<&[String]>,
        after: Option<i32>,
        bytes: usize,
    ) -> Result<Option<String>, Error> {
        let sql = "select tasker_core_v1.ancestor_results($1, $2, $3, $4, $5, $6, $7::text::jsonb)::text";
        let query = sqlx::query_scalar(sql)
            .bind(claim.task_id)
            .bind(claim.position)
            .bind(names)
            .bind(after)
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .bind(process)
            .bind(to_json(&claim)?);
        self.fetch(query).await
    }

    /// The input of a claimed step's task as JSON text; `None` if the process does not hold the step.
    pub async fn task_input(&self, process: i64, claim: ClaimKey) -> Result<Option<String>, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.task_input($1, $2, $3::text::jsonb)::text")
            .bind(claim.task_id)
            .bind(process)
            .bind(to_json(&claim)?);
        self.fetch(query).await
    }

    /// Cancels a task that has not ended; handlers that still run cannot finish their steps.
    ///
    /// # Errors
    /// Those of every operator's action: `Error::Function` with `UnknownTask` if the task or step does not exist,
    /// `InvalidTransition` if its state forbids the action, and `InvalidArgument` if `reason` or `by` is blank.
    pub async fn cancel_task(&self, task_id: i64, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task_action("select tasker_core_v1.cancel_task($1, $2, $3)::text", task_id, reason, by).await
    }

    /// Resolves a task that ended with an error and was handled outside.
    pub async fn resolve_task(&self, task_id: i64, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task_action("select tasker_core_v1.resolve_task($1, $2, $3)::text", task_id, reason, by).await
    }

    /// Retries every failed step of a task with its attempts reset; if none has failed, makes its waiting steps ready
    /// now.
    pub async fn retry_task(&self, task_id: i64, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.task_action("select tasker_core_v1.retry_task($1, $2, $3)::text", task_id, reason, by).await
    }

    /// Retries a failed step with its attempts reset, or makes a waiting step ready now.
    pub async fn retry_step(&self, task_id: i64, position: i32, reason: &str, by: &str) -> Result<ActionResult, Error> {
        self.step_action("select tasker_core_v1.retry_step($1, $2, $3, $4)::text", task_id, position, reason, by).await
    }

    /// Releases a step from the process that runs it, without using an attempt.
    pub async fn release_step(
        &self,
        task_id: i64,
        position: i32,
        reason: &str,
        by: &str,
    ) -> Result<ActionResult, Error> {
        self.step_action("select tasker_core_v1.release_step($1, $2, $3, $4)::text", task_id, position, reason, by)
            .await
    }

    /// Resolves a step that was handled outside; its children may run.
    pub async fn resolve_step(
        &self,
        task_id: i64,
        position: i32,
        reason: &str,
        by: &str,
    ) -> Result<ActionResult, Error> {
        self.step_action("select tasker_core_v1.resolve_step($1, $2, $3, $4)::text", task_id, position, reason, by)
            .await
    }

    /// Completes a step with a result (an object) in place of its handler.
    pub async fn complete_step(
        &self,
        task_id: i64,
        position: i32,
        result: &RawValue,
        reason: &str,
        by: &str,
    ) -> Result<ActionResult, Error> {
        let sql = "select tasker_core_v1.complete_step($1, $2, $5::text::jsonb, $3, $4)::text";
        self.result_action(sql, task_id, position, result, reason, by).await
    }

    /// Replaces the result (an object) of a step that is done.
    pub async fn update_result(
        &self,
        task_id: i64,
        position: i32,
        result: &RawValue,
        reason: &str,
        by: &str,
    ) -> Result<ActionResult, Error> {
        let sql = "select tasker_core_v1.update_result($1, $2, $5::text::jsonb, $3, $4)::text";
        self.result_action(sql, task_id, position, result, reason, by).await
    }

    async fn task_action(
        &self,
        sql: &'static str,
        task_id: i64,
        reason: &str,
        by: &str,
    ) -> Result<ActionResult, Error> {
        let query = sqlx::query_scalar(sql).bind(task_id).bind(reason).bind(by);
        self.fetch_json(query).await
    }

    async fn step_action(
        &self,
        sql: &'static str,
        task_id: i64,
        position: i32,
        reason: &str,
        by: &str,
    ) -> Result<ActionResult, Error> {
        let query = sqlx::query_scalar(sql).bind(task_id).bind(position).bind(reason).bind(by);
        self.fetch_json(query).await
    }

    async fn result_action(
        &self,
        sql: &'static str,
        task_id: i64,
        position: i32,
        result: &RawValue,
        reason: &str,
        by: &str,
    ) -> Result<ActionResult, Error> {
        let query = sqlx::query_scalar(sql).bind(task_id).bind(position).bind(reason).bind(by).bind(result.get());
        self.fetch_json(query).await
    }

    /// Corrects the counters of tasks by state; returns the differences.
    pub async fn recount_tasks(&self) -> Result<Vec<CountDifference>, Error> {
        self.fetch_json(sqlx::query_scalar("select tasker_core_v1.recount_tasks()::text")).await
    }

    /// Checks the invariants of `limit` tasks after the id `after` (0 is the beginning).
    pub async fn audit(&self, after: i64, limit: usize) -> Result<AuditResult, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.audit($1, $2)::text").bind(after).bind(to_limit(limit));
        self.fetch_json(query).await
    }

    /// The first task after an id.
    pub async fn next_task_by_id(&self, after: i64) -> Result<Option<NextTask>, Error> {
        let query = sqlx::query_scalar("select coalesce(tasker_core_v1.next_task($1, null)::text, 'null')").bind(after);
        self.fetch_json(query).await
    }

    /// The first task after a uuid (`None` is the beginning) that was created more than `keep` ago.
    pub async fn next_task_by_uuid(&self, after: Option<Uuid>, keep: Duration) -> Result<Option<NextTask>, Error> {
        let sql = "select coalesce(tasker_core_v1.next_task(null, $1, make_interval(secs => $2))::text, 'null')";
        self.fetch_json(sqlx::query_scalar(sql).bind(after).bind(keep.as_secs_f64())).await
    }

    /// Scans `limit` tasks after the uuid `after` (`None` is the beginning) and removes those that ended more than
    /// `keep` ago; with `dry_run`, only counts them.
    pub async fn prune(
        &self,
        keep: Duration,
        after: Option<Uuid>,
        limit: usize,
        dry_run: bool,
    ) -> Result<PruneResult, Error> {
        let query = sqlx::query_scalar("select tasker_core_v1.prune(make_interval(secs => $1), $2, $3, $4)::text")
            .bind(keep.as_secs_f64())
            .bind(after)
            .bind(to_limit(limit))
            .bind(dry_run);
        self.fetch_json(query).await
    }
}

fn unknown_version(id: i64) -> Error {
    let message = format!("the workflow version {id} is not stored any more");
    Error::Function {
        code: FunctionErrorCode::UnknownVersion,
        message,
        detail: serde_json::json!({ "version_id": id }),
    }
}

fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::Protocol)
}

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(Error::Protocol)
}

fn to_limit(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

fn from_ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}
