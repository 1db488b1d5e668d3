//! The state that the tasks of one worker process share.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::configuration::Configuration;
use crate::database::definitions::SetAside;
use crate::database::functions::Functions;
use crate::events::EventPublisher;
use crate::measurements::Counters;
use crate::worker::leases::Leases;
use crate::worker::notifier::Notifier;
use crate::worker::registration::Registration;

/// Dispatcher, maintenance, listener and the `Orchestrator` hold the same one.
pub struct Context {
    pub functions: Functions,
    pub settings: Configuration,
    pub events: EventPublisher,
    pub process: Registration,
    pub leases: Leases,
    pub notifier: Notifier,
    pub counters: Counters,
    /// Makes the dispatcher poll for ready steps.
    pub wake: Notify,
    /// Makes the queue dispatcher poll for steps that run as jobs.
    pub dispatch_wake: Notify,
    /// Whether this process runs only claims that it adopts: it claims no ready step.
    pub runs_jobs: bool,
    /// Notified whenever the database has responded to a batch.
    pub settled: Notify,
    /// Whether this process makes no further claims.
    pub draining: AtomicBool,
    /// Whether wake-ups arrive.
    pub listening: AtomicBool,
}

impl Context {
    pub fn new(
        functions: Functions,
        process: Registration,
        settings: Configuration,
        events: EventPublisher,
        runs_jobs: bool,
    ) -> Self {
        Self {
            leases: Leases::new(&settings, process.id()),
            notifier: Notifier::start(functions.clone(), settings.discovery.notify_debounce),
            functions,
            settings,
            events,
            process,
            counters: Counters::default(),
            wake: Notify::new(),
            dispatch_wake: Notify::new(),
            runs_jobs,
            settled: Notify::new(),
            draining: AtomicBool::new(false),
            listening: AtomicBool::new(false),
        }
    }

    /// Counts and logs steps that a statement has set aside; `problem` says why.
    pub fn record_set_aside(&self, steps: &[SetAside], problem: &'static str) {
        self.counters.set_aside.fetch_add(steps.len() as u64, Ordering::Relaxed);
        for SetAside { task_id, position, error } in steps {
            let (class, code, message) = (&error.class, &error.code, &error.message);
            tracing::error!(
                task_id,
                position,
                error.class = class,
                error.code = code,
                error.message = message,
                "{problem}: `tasker why` explains what to do"
            );
        }
    }
}
