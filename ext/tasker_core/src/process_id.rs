//! This process's id, without a system call each time: it is asked for at every step and every line.
//!
//! Invariant: a forked child never takes its parent's for its own; the C library tells of the fork before the child runs
//! anything else.

use std::sync::atomic::{AtomicU32, Ordering};

use magnus::Error;

use crate::{errors, gvl};

/// No process has it.
const UNKNOWN: u32 = 0;

static KNOWN: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Once, before anything asks.
pub fn init() -> Result<(), Error> {
    gvl::after_fork(forget).map_err(|error| errors::internal(&format!("forks cannot be noticed: {error}")))
}

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
