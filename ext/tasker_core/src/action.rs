//! What the operator's verbs of tasks and steps have in common.

use std::future::Future;
use std::panic::resume_unwind;

use magnus::{Error, Ruby, Value};
use tasker_orchestrator::database::functions::ActionResult;
use tasker_orchestrator::Error as Cause;

use crate::owned::Owned;
use crate::{errors, gvl, runtime};

/// Why, and who, as every verb takes them; the database refuses what is missing.
pub type Argument = Option<String>;

/// Does a verb without the GVL. Once begun it goes on whatever happens to the thread that waits: what it has committed
/// has to be told.
pub fn perform<T, F>(
    ruby: &Ruby,
    owned: &Owned<T>,
    reason: Argument,
    by: Argument,
    action: impl FnOnce(T, String, String) -> F,
) -> Result<Value, Error>
where
    T: Clone,
    F: Future<Output = Result<ActionResult, Cause>> + Send + 'static,
{
    let running = action(owned.get()?.clone(), reason.unwrap_or_default(), by.unwrap_or_default());
    let result = gvl::wait(runtime::current()?, async { tokio::spawn(running).await })?
        .unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))
        .map_err(|error| errors::exception(&error))?;
    serde_magnus::serialize(ruby, &result)
}
