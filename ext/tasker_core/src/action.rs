//! Runs an operator's action on a task or a step.

use std::future::Future;
use std::panic::resume_unwind;

use magnus::{Error, Ruby, Value};
use tasker_orchestrator::database::functions::ActionResult;
use tasker_orchestrator::Error as Cause;

use crate::owned::Owned;
use crate::{errors, gvl, runtime};

/// The reason, or the actor. The database rejects an action without them.
pub type Argument = Option<String>;

/// Performs an action without the GVL. It continues if the waiting thread is interrupted, as the events of what it has
/// committed must be published.
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

/// `perform` for a method of the orchestrator's task or step, as in `action!(ruby, rb_self.step, complete(&result),
/// reason, by)`.
macro_rules! action {
    ($ruby:expr, $owned:expr, $method:ident($($result:expr),*), $reason:expr, $by:expr) => {
        $crate::action::perform($ruby, &$owned, $reason, $by, |subject, reason, by| async move {
            subject.$method($($result,)* &reason, &by).await
        })
    };
}

pub(crate) use action;
