//! The tokio runtime of this process.
//!
//! Invariant: a runtime is used only in the process that created it. After a fork its threads are gone, so the child
//! creates another and leaks the parent's: dropping it would wait for those threads forever.

use std::sync::Mutex;

use magnus::Error;
use once_cell::sync::Lazy;
use tokio::runtime::{Builder, Runtime};

use crate::{errors, process_id};

/// Threads that drive sockets and timers; handlers run on Ruby's own.
const THREADS: usize = 2;

struct Tagged {
    pid: u32,
    runtime: &'static Runtime,
}

// Locked only with the GVL held, under which no other thread can fork: a child never inherits it locked.
static CURRENT: Lazy<Mutex<Option<Tagged>>> = Lazy::new(|| Mutex::new(None));

/// This process's runtime, created at its first use.
pub fn current() -> Result<&'static Runtime, Error> {
    let pid = process_id::current();
    let mut current = CURRENT.lock().map_err(|_| errors::internal("the runtime's lock is poisoned"))?;
    if let Some(tagged) = current.as_ref().filter(|tagged| tagged.pid == pid) {
        return Ok(tagged.runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("tasker_core")
        .enable_all()
        .build()
        .map_err(|error| errors::internal(&format!("no runtime could be started: {error}")))?;
    let runtime: &'static Runtime = Box::leak(Box::new(runtime));
    *current = Some(Tagged { pid, runtime });
    Ok(runtime)
}
