//! The macros that register every method and function that Ruby can call.
//!
//! Invariant: an entry returns a `Result`, and a panic in it becomes `TaskerCore::InternalError`. magnus itself would
//! raise a `fatal`, which no rescue clause catches. `check_architecture` forbids magnus's own macros elsewhere.

use std::panic::{catch_unwind, AssertUnwindSafe};

use magnus::Error;
use tasker_orchestrator::handler::panic_message;

use crate::errors;

/// Runs an entry.
pub fn guarded<R>(entry: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    let run = || {
        #[cfg(debug_assertions)]
        trap::spring();
        entry()
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        Err(errors::internal(&format!("panic in the extension: {}", panic_message(panic.as_ref()))))
    })
}

/// `magnus::method!` for an entry `(&self, …) -> Result`.
macro_rules! method {
    ($entry:expr, 0) => {
        ::magnus::method!(|this| $crate::entry::guarded(move || $entry(this)), 0)
    };
    ($entry:expr, 1) => {
        ::magnus::method!(|this, a| $crate::entry::guarded(move || $entry(this, a)), 1)
    };
    ($entry:expr, 2) => {
        ::magnus::method!(|this, a, b| $crate::entry::guarded(move || $entry(this, a, b)), 2)
    };
    ($entry:expr, 3) => {
        ::magnus::method!(|this, a, b, c| $crate::entry::guarded(move || $entry(this, a, b, c)), 3)
    };
    ($entry:expr, 4) => {
        ::magnus::method!(|this, a, b, c, d| $crate::entry::guarded(move || $entry(this, a, b, c, d)), 4)
    };
}

/// `magnus::method!` for an entry `(ruby, rb_self, …) -> Result`.
macro_rules! ruby_method {
    ($entry:expr, 0) => {
        ::magnus::method!(|ruby: &::magnus::Ruby, this| $crate::entry::guarded(move || $entry(ruby, this)), 0)
    };
    ($entry:expr, 2) => {
        ::magnus::method!(
            |ruby: &::magnus::Ruby, this, a, b| $crate::entry::guarded(move || $entry(ruby, this, a, b)),
            2
        )
    };
    ($entry:expr, 3) => {
        ::magnus::method!(
            |ruby: &::magnus::Ruby, this, a, b, c| $crate::entry::guarded(move || $entry(ruby, this, a, b, c)),
            3
        )
    };
}

/// `magnus::function!` for an entry `(…) -> Result`.
macro_rules! function {
    ($entry:expr, 0) => {
        ::magnus::function!(|| $crate::entry::guarded(move || $entry()), 0)
    };
    ($entry:expr, 1) => {
        ::magnus::function!(|a| $crate::entry::guarded(move || $entry(a)), 1)
    };
    ($entry:expr, 2) => {
        ::magnus::function!(|a, b| $crate::entry::guarded(move || $entry(a, b)), 2)
    };
    ($entry:expr, 3) => {
        ::magnus::function!(|a, b, c| $crate::entry::guarded(move || $entry(a, b, c)), 3)
    };
}

/// `magnus::function!` for an entry `(ruby, …) -> Result`.
macro_rules! ruby_function {
    ($entry:expr, 1) => {
        ::magnus::function!(|ruby: &::magnus::Ruby, a| $crate::entry::guarded(move || $entry(ruby, a)), 1)
    };
}

pub(crate) use {function, method, ruby_function, ruby_method};

/// In the development profile: makes the next entry panic, so that a spec can test each of them.
#[cfg(debug_assertions)]
pub mod trap {
    use std::panic::resume_unwind;
    use std::sync::atomic::{AtomicBool, Ordering};

    use magnus::{Error, Module, Object, RModule};

    static SET: AtomicBool = AtomicBool::new(false);

    pub fn spring() {
        if SET.swap(false, Ordering::Relaxed) {
            // A panic without output on standard error.
            resume_unwind(Box::new("a trap"));
        }
    }

    /// `panic_next`: not guarded itself, as it would trigger the trap at once.
    fn set() {
        SET.store(true, Ordering::Relaxed);
    }

    pub fn init(native: RModule) -> Result<(), Error> {
        native.define_module("Trap")?.define_singleton_method("panic_next", ::magnus::function!(set, 0))
    }
}
