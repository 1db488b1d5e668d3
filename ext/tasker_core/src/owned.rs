//! A value that belongs to the process that created it.
//!
//! Invariant: in a forked child every access fails, and the garbage collector drops nothing of it: its connections are
//! the parent's. Neighbours: an orchestrator, and the tasks and steps that it creates.

use magnus::Error;

use crate::{errors, process_id, runtime};

/// A value with the id of its process.
pub struct Owned<T> {
    pid: u32,
    what: &'static str,
    /// Always present; taken when the object is dropped.
    inner: Option<T>,
}

impl<T> Owned<T> {
    /// A value of this process; `what` names it in the error of another process.
    pub fn new(inner: T, what: &'static str) -> Self {
        Self { pid: process_id::current(), what, inner: Some(inner) }
    }

    /// The value, in the process that created it.
    pub fn get(&self) -> Result<&T, Error> {
        let pid = process_id::current();
        self.inner.as_ref().filter(|_| self.pid == pid).ok_or_else(|| {
            errors::internal(&format!(
                "this {} belongs to process {}, this is process {pid}: start an orchestrator after the fork",
                self.what, self.pid
            ))
        })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        match runtime::current() {
            // Connections are closed on a runtime.
            Ok(runtime) if self.pid == process_id::current() => {
                let _entered = runtime.enter();
                drop(inner);
            }
            _ => std::mem::forget(inner),
        }
    }
}
