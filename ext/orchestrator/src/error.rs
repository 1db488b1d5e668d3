//! The crate's errors, with their facts and sources.
//!
//! Invariant: a message is a sentence that names the field, the value and the remedy. Neighbour: the extension converts
//! each error to the Ruby exception of the same meaning.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

const MAX_FIELD_LENGTH: usize = 200;
const MAX_VALUE_LENGTH: usize = 80;
/// Maximum number of problems in a message; programs receive all of them.
const MAX_REPORTED: usize = 50;

/// One mistake in a definition, an input or a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Path of the field: `steps[1].retry.base`; an empty name is `""`.
    pub field: String,
    /// Its value as JSON text, shortened.
    pub value: String,
    /// Its JSON type.
    pub kind: &'static str,
    /// The mistake and the remedy.
    pub message: String,
    /// The file or other source of the value, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Problem {
    pub fn new(field: impl Into<String>, value: &Value, message: impl Into<String>) -> Self {
        let mut field: String = field.into();
        if field.is_empty() {
            field.push_str("\"\"");
        }
        Self {
            field: shortened(&field, MAX_FIELD_LENGTH),
            value: shortened(&value.to_string(), MAX_VALUE_LENGTH),
            kind: kind_of(value),
            message: message.into(),
            source: None,
        }
    }

    /// The same problem, in a source.
    pub fn from_source(self, source: Option<&str>) -> Self {
        Self { source: source.map(str::to_owned), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}: ")?;
        }
        if self.kind == "nothing" {
            return write!(f, "{}: {}", self.field, self.message);
        }
        write!(f, "{}: {} ({}) {}", self.field, self.value, self.kind, self.message)
    }
}

/// All problems of one document, reported together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().take(MAX_REPORTED).map(Problem::to_string).collect();
        f.write_str(&lines.join("; "))?;
        match self.0.len().saturating_sub(MAX_REPORTED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// The JSON type of a value, in the words that messages use.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.to_string().contains(['.', 'e', 'E']) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The first `length` characters of a text.
pub fn shortened(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The database cannot read what it stores: a page, a long value or an index is damaged; the disk returns an error; a
/// file is missing.
const DAMAGED: [&str; 4] = ["XX001", "XX002", "58030", "58P01"];

/// Errors of the SQL functions, by their SQLSTATE (`db/functions/support/raise_error.sql`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionErrorCode {
    /// TC001
    VersionConflict,
    /// TC002
    UnknownVersion,
    /// TC003
    UnknownTask,
    /// TC004
    InvalidTransition,
    /// TC005
    UnknownProcess,
    /// TC006
    InvalidArgument,
    /// TC008
    IdempotencyConflict,
}

impl FunctionErrorCode {
    fn from_sqlstate(code: &str) -> Option<Self> {
        match code {
            "TC001" => Some(Self::VersionConflict),
            "TC002" => Some(Self::UnknownVersion),
            "TC003" => Some(Self::UnknownTask),
            "TC004" => Some(Self::InvalidTransition),
            "TC005" => Some(Self::UnknownProcess),
            "TC006" => Some(Self::InvalidArgument),
            "TC008" => Some(Self::IdempotencyConflict),
            _ => None,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::VersionConflict => "TaskerCore::WorkflowConflictError",
            Self::UnknownVersion => "TaskerCore::UnknownWorkflowError",
            Self::UnknownTask => "TaskerCore::TaskNotFoundError",
            Self::InvalidTransition => "TaskerCore::TransitionError",
            Self::UnknownProcess => "TaskerCore::StaleAttemptError",
            Self::InvalidArgument => "TaskerCore::InputError",
            Self::IdempotencyConflict => "TaskerCore::IdempotencyConflictError",
        }
    }
}

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the workflow cannot be compiled: {0}")]
    Definition(Problems),
    #[error("the input is invalid: {problems}")]
    Input { problems: Problems },
    #[error("the configuration cannot be used: {problems}")]
    Configuration { problems: Problems },
    #[error("{problems}")]
    Event { problems: Problems },
    #[error("{message}")]
    Function { code: FunctionErrorCode, message: String, detail: Value },
    #[error("{0}: run `bin/rails g tasker_core:update` and `bin/rails db:migrate`, or `bin/rails tasker_core:functions:install` if the tables exist")]
    FunctionsMissing(String),
    #[error("the database cannot be used: {0}")]
    Database(#[source] sqlx::Error),
    #[error("the database rejected the data: {}", server_message(.0))]
    Refused(#[source] sqlx::Error),
    #[error("the database cannot read stored data: {}", server_message(.0))]
    Damaged(#[source] sqlx::Error),
    #[error("{what} took longer than {after:?}")]
    TimedOut { what: &'static str, after: Duration },
    #[error("this process does not hold the claim with token {token} (any more)")]
    NotHeld { token: i64 },
    #[error("the orchestrator has stopped")]
    Closed,
    #[error("{what} cannot be read")]
    Unreadable { what: &'static str },
    #[error("the database's response cannot be read: {0}")]
    Protocol(#[source] serde_json::Error),
}

/// What an error means for the statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The same statement may succeed later: lost connection, deadlock, full pool, missing function.
    Transient,
    /// The database rejects some of the statement's data; without it the statement succeeds.
    Data,
    /// The statement was too large, or a row cannot be read or is locked: with fewer rows it may succeed.
    Overload,
    /// The database no longer knows this process.
    UnknownProcess,
}

impl ErrorKind {
    /// Whether fewer rows may help.
    pub fn may_pass_with_fewer_rows(self) -> bool {
        match self {
            Self::Data | Self::Overload => true,
            Self::Transient | Self::UnknownProcess => false,
        }
    }
}

impl Error {
    /// The Ruby exception of the same meaning, which is also logged.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Definition(_) => "TaskerCore::WorkflowError",
            Self::Configuration { .. } => "TaskerCore::ConfigurationError",
            Self::Event { .. } => "TaskerCore::UnknownEventError",
            Self::Input { .. } | Self::Refused(_) => "TaskerCore::InputError",
            Self::Database(_) | Self::Damaged(_) | Self::TimedOut { .. } | Self::Unreadable { .. } => {
                "TaskerCore::DatabaseError"
            }
            Self::FunctionsMissing(_) => "TaskerCore::FunctionsMissingError",
            Self::Function { code, .. } => code.class(),
            Self::NotHeld { .. } => "TaskerCore::StaleAttemptError",
            Self::Closed => "TaskerCore::StoppedError",
            Self::Protocol(_) => "TaskerCore::InternalError",
        }
    }

    /// Whether a retry cannot succeed: the database rejects the data, or it is damaged.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Damaged(_))
    }

    /// What to do with the statement that failed.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Function { code: FunctionErrorCode::UnknownProcess, .. } => ErrorKind::UnknownProcess,
            Self::Refused(_) => ErrorKind::Data,
            Self::Damaged(_) => ErrorKind::Overload,
            Self::TimedOut { .. } => ErrorKind::Overload,
            Self::Database(error) if is_overload(error) => ErrorKind::Overload,
            Self::Definition(_)
            | Self::Input { .. }
            | Self::Configuration { .. }
            | Self::Event { .. }
            | Self::Function { .. }
            | Self::FunctionsMissing(_)
            | Self::Database(_)
            | Self::NotHeld { .. }
            | Self::Closed
            | Self::Unreadable { .. }
            | Self::Protocol(_) => ErrorKind::Transient,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let source = match &error {
            sqlx::Error::Database(source) => source,
            // Only a stop closes the pool.
            sqlx::Error::PoolClosed => return Self::Closed,
            _ => return Self::Database(error),
        };
        let code = source.code().unwrap_or_default();
        if let Some(code) = FunctionErrorCode::from_sqlstate(&code) {
            let detail = source
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .and_then(|refusal| refusal.detail())
                .and_then(|detail| serde_json::from_str(detail).ok())
                .unwrap_or(Value::Null);
            return Self::Function { code, message: source.message().to_owned(), detail };
        }
        match code.as_ref() {
            // Undefined function, schema, table.
            "42883" | "3F000" | "42P01" => Self::FunctionsMissing(source.message().to_owned()),
            code if DAMAGED.contains(&code) => Self::Damaged(error),
            // Data exception, constraint violation, program limit.
            code if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => Self::Refused(error),
            _ => Self::Database(error),
        }
    }
}

/// Statement or lock time-out, out of memory, a configured limit, an internal error. A full disk or a lost connection
/// does not depend on the number of rows.
fn is_overload(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|source| source.code()).unwrap_or_default();
    ["57014", "55P03", "53200", "53400"].contains(&code.as_ref()) || code.starts_with("XX")
}

/// The server's message, if the error came from the server.
fn server_message(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |source| source.message().to_owned())
}
