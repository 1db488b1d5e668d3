//! This process's id, cached, as every step and every log line needs it.
//!
//! Invariant: a forked child never uses its parent's id: the C library clears the cache before the child runs anything
//! else.

use std::sync::atomic::{AtomicU32, Ordering};

use magnus::Error;

use crate::{errors, gvl};

/// Not the id of any process.
const UNKNOWN: u32 = 0;

static KNOWN: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Registers the handler that clears the cache in a forked child. Call once, before `current`.
pub fn init() -> Result<(), Error> {
    gvl::after_fork(forget).map_err(|error| errors::internal(&format!("forks cannot be detected: {error}")))
}

/// The id of this process.
pub fn current() -> u32 {
    match KNOWN.load(Ordering::Relaxed) {
        UNKNOWN => {
            let pid = std::process::id();
            KNOWN.store(pid, Ordering::Relaxed);
            pid
        }
        pid => pid,
    }
}

extern "C" fn forget() {
    KNOWN.store(UNKNOWN, Ordering::Relaxed);
}
