//! Converts Rust's errors to the exceptions that `lib/tasker_core/errors.rb` defines.
//!
//! Invariant: the extension defines no exception class; it finds them by name, and passes facts (JSON text) with the
//! message. Neighbour: every file here returns these.

use magnus::{prelude::*, Error, Exception, RModule, Ruby, Value};
use serde_json::{json, Value as Json};
use tasker_orchestrator::Error as Cause;

/// The exception for an error of the orchestrator.
pub fn exception(cause: &Cause) -> Error {
    let class = cause.class();
    raise(class.strip_prefix("TaskerCore::").unwrap_or(class), &cause.to_string(), &facts(cause))
}

/// `TaskerCore::InternalError`: a defect of tasker_core, never a mistake of the caller.
pub fn internal(message: &str) -> Error {
    raise("InternalError", message, &json!({}))
}

/// An invalid argument.
pub fn configuration(message: &str) -> Error {
    raise("ConfigurationError", message, &json!({}))
}

/// An input or a result that is not JSON.
pub fn input(message: &str) -> Error {
    raise("InputError", message, &json!({}))
}

/// A definition that is not JSON.
pub fn workflow(message: &str) -> Error {
    raise("WorkflowError", message, &json!({}))
}

fn facts(cause: &Cause) -> Json {
    match cause {
        Cause::Definition(problems)
        | Cause::Input { problems }
        | Cause::Configuration { problems }
        | Cause::Event { problems } => json!({ "problems": problems }),
        Cause::Function { detail, .. } => detail.clone(),
        Cause::Damaged(_) => json!({ "damaged": true }),
        Cause::NotHeld { token } => json!({ "token": token }),
        Cause::Database(_)
        | Cause::Refused(_)
        | Cause::FunctionsMissing(_)
        | Cause::Closed
        | Cause::TimedOut { .. }
        | Cause::Unreadable { .. }
        | Cause::Protocol(_) => json!({}),
    }
}

fn raise(class: &str, message: &str, facts: &Json) -> Error {
    build(class, message, facts).map_or_else(|error| error, Error::from)
}

fn build(class: &str, message: &str, facts: &Json) -> Result<Exception, Error> {
    let ruby = Ruby::get().expect("exceptions are built on Ruby threads only");
    let module: RModule = ruby.class_object().const_get("TaskerCore")?;
    let class: Value = module.const_get(class)?;
    let exception: Value = class.funcall("from_facts", (message, facts.to_string()))?;
    Exception::from_value(exception)
        .ok_or_else(|| Error::new(ruby.exception_type_error(), "from_facts must return an exception"))
}
