//! `TaskerCore::Native::Orchestrator`: the interface of a worker's Ruby threads.
//!
//! Invariant: it belongs to the process that started it (`owned.rs`).

use std::sync::Arc;
use std::time::Duration;

use magnus::{prelude::*, Error, RModule, Ruby, Value};
use serde::Deserialize;
use tasker_orchestrator::claim::ClaimKey;
use tasker_orchestrator::database::Address;
use tasker_orchestrator::orchestrator::{Role, Settings};
use tasker_orchestrator::task_enqueuer::{ChannelEnqueuer, EnqueueError};
use tasker_orchestrator::Outcome;

use crate::configuration::Configuration;
use crate::entry::{function, method, ruby_method};
use crate::event_publisher::EventPublisher;
use crate::owned::Owned;
use crate::task::Task;
use crate::{errors, gvl, runtime};

#[magnus::wrap(class = "TaskerCore::Native::Orchestrator", free_immediately)]
pub struct Orchestrator {
    orchestrator: Owned<tasker_orchestrator::Orchestrator>,
    /// Passes jobs to the thread that enqueues them.
    enqueuer: Option<Arc<ChannelEnqueuer>>,
}

/// The first argument of `start`: the database's address and a description of the process.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartText {
    database: Address,
    process: ProcessText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcessText {
    name: String,
    hostname: String,
    pid: u32,
    role: RoleText,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RoleText {
    Worker,
    Dispatcher,
    Jobs,
}

/// The error of a job that was not enqueued.
#[derive(Deserialize)]
struct EnqueueErrorText {
    class: String,
    message: String,
}

/// The error of an unreadable place. serde's message may repeat a value of the wrong type, which may be a password; for
/// an unknown or missing field it has only the name.
fn unreadable(error: &serde_json::Error) -> Error {
    let message = error.to_string();
    if message.starts_with("unknown field") || message.starts_with("missing field") {
        return errors::configuration(&format!("the orchestrator's place: {message}"));
    }
    errors::configuration(&format!(
        "the orchestrator's place has a value of the wrong type (column {})",
        error.column()
    ))
}

impl Orchestrator {
    /// `start(place, configuration, events)`: the place as JSON text
    /// `{database:, process: {name:, hostname:, pid:, role:}}`.
    fn start(place: String, configuration: &Configuration, events: &EventPublisher) -> Result<Self, Error> {
        let given: StartText = serde_json::from_str(&place).map_err(|error| unreadable(&error))?;
        let enqueuer = matches!(given.process.role, RoleText::Dispatcher).then(|| Arc::new(ChannelEnqueuer::default()));
        let settings = Settings {
            address: given.database,
            configuration: configuration.settings().clone(),
            events: events.events().clone(),
            name: given.process.name,
            hostname: given.process.hostname,
            pid: given.process.pid,
            role: match (&enqueuer, given.process.role) {
                (Some(enqueuer), _) => Role::Dispatcher(enqueuer.clone()),
                (None, RoleText::Jobs) => Role::Jobs,
                (None, RoleText::Worker | RoleText::Dispatcher) => Role::Worker,
            },
        };
        let inner = gvl::wait(runtime::current()?, tasker_orchestrator::Orchestrator::start(settings))?
            .map_err(|error| errors::exception(&error))?;
        Ok(Self { orchestrator: Owned::new(inner, "orchestrator"), enqueuer })
    }

    fn inner(&self) -> Result<&tasker_orchestrator::Orchestrator, Error> {
        self.orchestrator.get()
    }

    fn process_id(&self) -> Result<i64, Error> {
        Ok(self.inner()?.process_id())
    }

    /// The next claim as JSON text, or nil once draining has begun. Does not release the GVL if a claim is buffered.
    fn next_step(&self) -> Result<Option<String>, Error> {
        let inner = self.inner()?;
        if let Some(claim) = inner.try_next_step() {
            return Ok(Some(claim.json().to_owned()));
        }
        let claim = gvl::wait(runtime::current()?, inner.next_step())?;
        Ok(claim.map(|claim| claim.json().to_owned()))
    }

    /// Waits for jobs to enqueue: JSON text `[{claim:, queue:, priority:, task_uuid:, …}]`. For one thread of a
    /// dispatcher; nil in other processes.
    fn next_jobs(&self) -> Result<Option<String>, Error> {
        self.inner()?;
        let Some(enqueuer) = &self.enqueuer else { return Ok(None) };
        let Some(batch) = gvl::wait(runtime::current()?, enqueuer.next_batch())? else { return Ok(None) };
        let text = serde_json::to_string(&batch.jobs)
            .map_err(|error| errors::internal(&format!("the jobs cannot be written: {error}")))?;
        Ok(Some(text))
    }

    /// `settle_jobs(errors)`: reports for each of these jobs null or `{class:, message:}`, as JSON text.
    fn settle_jobs(&self, jobs: String) -> Result<(), Error> {
        let errors: Vec<Option<EnqueueErrorText>> = serde_json::from_str(&jobs)
            .map_err(|error| errors::internal(&format!("the outcomes of jobs cannot be read: {error}")))?;
        let outcome = |error: Option<EnqueueErrorText>| match error {
            None => Ok(()),
            Some(EnqueueErrorText { class, message }) => Err(EnqueueError { class, message }),
        };
        if let Some(enqueuer) = &self.enqueuer {
            enqueuer.settle(errors.into_iter().map(outcome).collect());
        }
        Ok(())
    }

    /// `adopt(key)`: takes over the claim of a job, JSON text `{token:, task_id:, position:, attempt:}`; returns it as
    /// JSON text, or nil if the job may not run.
    fn adopt(&self, key: String) -> Result<Option<String>, Error> {
        let key: ClaimKey = serde_json::from_str(&key)
            .map_err(|error| errors::internal(&format!("the claim of a job cannot be read: {error}")))?;
        let claim =
            gvl::wait(runtime::current()?, self.inner()?.adopt(key))?.map_err(|error| errors::exception(&error))?;
        Ok(claim.map(|claim| claim.json().to_owned()))
    }

    /// Submits an outcome as JSON text.
    fn finish(&self, outcome: String) -> Result<(), Error> {
        let inner = self.inner()?;
        let outcome = Outcome::from_json(&outcome)
            .map_err(|error| errors::internal(&format!("the outcome cannot be read: {error}")))?;
        let full = inner.try_finish(outcome).map_err(|error| errors::exception(&error))?;
        match full {
            None => Ok(()),
            Some(ended) => {
                gvl::wait(runtime::current()?, inner.deliver(ended))?.map_err(|error| errors::exception(&error))
            }
        }
    }

    /// `ancestor_results(token, names, after)`: results of the steps with these names (nil: all), after a position
    /// (nil: from the beginning), as JSON text `{results:, after:, names:}`.
    fn ancestor_results(&self, token: i64, names: Option<Vec<String>>, after: Option<i32>) -> Result<String, Error> {
        gvl::wait(runtime::current()?, self.inner()?.ancestor_results(token, names.as_deref(), after))?
            .map_err(|error| errors::exception(&error))
    }

    /// The input of a claim's task, as JSON text.
    fn task_input(&self, token: i64) -> Result<String, Error> {
        gvl::wait(runtime::current()?, self.inner()?.task_input(token))?.map_err(|error| errors::exception(&error))
    }

    fn revoked(&self, token: i64) -> Result<bool, Error> {
        Ok(self.inner()?.revoked(token))
    }

    /// `task(id)`: a task for an operator's actions. It need not exist: an action on it fails then.
    fn task(&self, id: i64) -> Result<Task, Error> {
        Ok(Task::new(self.inner()?.task(id)))
    }

    /// `wait_for_progress(seen, seconds)`: waits until more than `seen` batches are stored, and returns their number.
    fn wait_for_progress(&self, seen: u64, timeout: f64) -> Result<u64, Error> {
        let timeout = seconds(timeout)?;
        gvl::wait(runtime::current()?, self.inner()?.wait_for_progress(seen, timeout))
    }

    fn drain(&self) -> Result<(), Error> {
        gvl::wait(runtime::current()?, self.inner()?.drain())?.map_err(|error| errors::exception(&error))
    }

    /// `stop(timeout)`: waits at most `timeout` seconds for running attempts.
    fn stop(&self, timeout: f64) -> Result<(), Error> {
        let timeout = seconds(timeout)?;
        gvl::wait(runtime::current()?, self.inner()?.stop(timeout))?.map_err(|error| errors::exception(&error))
    }

    fn health(ruby: &Ruby, rb_self: &Self) -> Result<Value, Error> {
        serde_magnus::serialize(ruby, &rb_self.inner()?.health())
    }
}

fn seconds(given: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(given)
        .map_err(|_| errors::configuration(&format!("{given} is not a number of seconds")))
}

pub fn init(ruby: &Ruby, native: RModule) -> Result<(), Error> {
    let class = native.define_class("Orchestrator", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("start", function!(Orchestrator::start, 3))?;
    class.define_method("process_id", method!(Orchestrator::process_id, 0))?;
    class.define_method("next_step", method!(Orchestrator::next_step, 0))?;
    class.define_method("next_jobs", method!(Orchestrator::next_jobs, 0))?;
    class.define_method("settle_jobs", method!(Orchestrator::settle_jobs, 1))?;
    class.define_method("adopt", method!(Orchestrator::adopt, 1))?;
    class.define_method("finish", method!(Orchestrator::finish, 1))?;
    class.define_method("ancestor_results", method!(Orchestrator::ancestor_results, 3))?;
    class.define_method("task_input", method!(Orchestrator::task_input, 1))?;
    class.define_method("revoked?", method!(Orchestrator::revoked, 1))?;
    class.define_method("task", method!(Orchestrator::task, 1))?;
    class.define_method("wait_for_progress", method!(Orchestrator::wait_for_progress, 2))?;
    class.define_method("drain", method!(Orchestrator::drain, 0))?;
    class.define_method("stop", method!(Orchestrator::stop, 1))?;
    class.define_method("health", ruby_method!(Orchestrator::health, 0))
}
