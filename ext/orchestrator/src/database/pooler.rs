//! Detects a transaction pooler: one that passes its server connections to other clients between transactions.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Executor, Postgres, Row};
use tokio::time::timeout;

use super::configuration_error;
use crate::configuration::Database as Settings;
use crate::error::{Error, Problem, Problems};

/// The order in which two connections query the server process that serves them. If each has its own, the responses
/// never change. A pooler that reuses the last returned server connection gives both the same one; a pooler that
/// rotates gives a connection with two consecutive queries two different ones.
const ORDER: [usize; 8] = [0, 0, 1, 0, 1, 1, 0, 1];

/// Fails behind a transaction pooler, where notices, session settings and named statements reach other clients. A
/// pooler that keeps a server connection for each client's session causes no problem.
///
/// # Errors
/// `Error::Configuration` with the remedy.
pub async fn reject_transaction_pooling(
    pool: &PgPool,
    first: &mut PoolConnection<Postgres>,
    settings: &Settings,
) -> Result<(), Error> {
    // Without a second connection there is nothing to compare: a session pooler or the server is full.
    let Ok(Ok(mut second)) = timeout(settings.connect_timeout / 4, pool.acquire()).await else {
        return Ok(());
    };
    let mut served_by = [None, None];
    for which in ORDER {
        let connection: &mut PgConnection = if which == 0 { first } else { &mut second };
        let querying =
            async { connection.fetch_one(sqlx::raw_sql("select pg_backend_pid()")).await?.try_get::<i32, _>(0) };
        let Ok(process) = timeout(settings.connect_timeout / 4, querying).await else { return Ok(()) };
        let process = Some(process?);
        let changed = served_by[which].is_some() && served_by[which] != process;
        if changed || served_by[1 - which] == process {
            return Err(pooler_error());
        }
        served_by[which] = process;
    }
    Ok(())
}

fn pooler_error() -> Error {
    let message =
        "cannot be false here: a transaction pooler (such as PgBouncer) between this worker and PostgreSQL passes \
                   its server connections to other clients between two statements; set `database.poll_only: true` in \
                   config/tasker-core.yaml, or connect to PostgreSQL itself";
    let problem = Problem::new("database.poll_only", &serde_json::Value::Bool(false), message);
    Error::Configuration { problems: Problems(vec![problem]) }
}

/// Converts an error at the start of a session.
pub fn connect_error(error: sqlx::Error) -> Error {
    let refusal = error.as_database_error().map_or("", |refusal| refusal.message());
    if refusal.contains("unsupported startup parameter") {
        return configuration_error(
            "options",
            "a pooler (as PgBouncer) refuses parameters at the start of a session: make these settings with `variables` in \
             config/database.yml instead of `options` or PGOPTIONS, or name `options` in the pooler's \
             ignore_startup_parameters; behind a transaction pooler workers need `database.poll_only: true` in \
             config/tasker-core.yaml, or PostgreSQL's own address",
        );
    }
    Error::from(error)
}
