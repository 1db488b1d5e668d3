//! The connection pool, with its limits and time-outs, and the checks before it is opened.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, Postgres};
use tokio::time::timeout;

use super::hosts::Hosts;
use super::{configuration_error, pooler, Address};
use crate::configuration::Database as Settings;
use crate::error::Error;

/// The pool, and the prologue of each statement on it. Clones share the pool.
#[derive(Clone)]
pub struct Connections {
    pool: PgPool,
    hosts: Arc<Hosts>,
    /// The start of each transaction in poll-only mode.
    begin: Option<Arc<str>>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Connections {
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The SQL that must begin the transaction of each statement; `None` if the settings of the session suffice.
    ///
    /// In poll-only mode the session is shared. sqlx sends a statement with arguments in two parts, Parse and Bind,
    /// with a Sync after each: outside a transaction a pooler may pass them to two server connections, so that Bind
    /// uses the statement of another client. A transaction keeps one server connection from the first part to the last,
    /// and its settings end with it. Quoted literals in the simple protocol would save two round trips, but claims and
    /// results would have to be quoted as text, and the time-outs could not be set for them.
    pub fn begin(&self) -> Option<&str> {
        self.begin.as_deref()
    }

    /// Runs `statement` in a transaction that begins with `begin`.
    ///
    /// # Errors
    /// Those of the statement, of the settings and of the commit.
    pub async fn in_transaction<T>(
        connection: &mut PoolConnection<Postgres>,
        begin: &str,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let error = match connection.begin_with(AssertSqlSafe(begin.to_owned())).await {
            Ok(mut transaction) => {
                let result = statement(&mut transaction).await?;
                transaction.commit().await?;
                return Ok(result);
            }
            Err(error) => error,
        };
        // A setting was rejected after `begin`: the server is still in the failed transaction.
        connection.close_on_drop();
        Err(error)
    }

    /// Searches for another server if `error` can mean that this one is no longer right; returns whether the connection
    /// with that error must be closed.
    pub fn check_server(&self, error: &sqlx::Error) -> bool {
        Hosts::check_server(&self.hosts, &self.pool, error)
    }
}

/// Opens the pool, after verifying that statements work and reach the application's database.
///
/// # Errors
/// `Error::Database` if no connection is made within `connect_timeout`; `Error::Configuration` if the address cannot be
/// used, if a transaction pooler is in between and poll-only mode is off, or if the database, its schemas or the role
/// differ from Active Record's.
pub async fn connect(address: &Address, settings: &Settings) -> Result<Connections, Error> {
    let hosts = Arc::new(Hosts::new(address, settings)?);
    let options = with_timeout(settings.connect_timeout * hosts.count(), hosts.choose()).await?;
    with_timeout(settings.connect_timeout, verify(address, settings, &options)).await?;
    let opening = async { pool_options(address, settings, &hosts).connect_with(options).await.map_err(Error::from) };
    let pool = with_timeout(settings.connect_timeout, opening).await?;
    let begin = settings.poll_only.then(|| begin(address, settings).into());
    Ok(Connections { pool, hosts, begin })
}

async fn with_timeout<T>(limit: Duration, connecting: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(limit, connecting).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        let message = format!("no connection within {limit} (database.connect_timeout)");
        Err(Error::Database(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message))))
    })
}

/// All checks before the first statement, on separate connections with the server's settings: behind a pooler a setting
/// would remain on a server connection that other clients use.
async fn verify(address: &Address, settings: &Settings, options: &PgConnectOptions) -> Result<(), Error> {
    let bare = PgPoolOptions::new()
        .max_connections(2)
        .min_connections(0)
        .acquire_timeout(settings.connect_timeout * 2) // the caller's limit is the shorter one
        .connect_lazy_with(options.clone());
    let mut connection = bare.acquire().await.map_err(pooler::connect_error)?;
    if !settings.poll_only {
        pooler::reject_transaction_pooling(&bare, &mut connection, settings).await?;
    }
    try_settings(address, &mut connection).await?;
    if let Some(identity) = &address.identity {
        let settings: String = address.settings().map(|setting| format!("{}; ", setting.sql(true))).collect();
        identity.verify(&settings, &mut connection).await?;
    }
    drop(connection);
    bare.close().await;
    Ok(())
}

/// Fails with the key of the first setting that the server rejects, never with its value.
async fn try_settings(address: &Address, connection: &mut PgConnection) -> Result<(), Error> {
    for setting in address.settings() {
        let tried = connection.execute(AssertSqlSafe(format!("begin; {}", setting.sql(true)))).await;
        let Err(error) = tried else {
            connection.execute("rollback").await?;
            continue;
        };
        let Some(code) = error.as_database_error().and_then(|error| error.code()) else { return Err(error.into()) };
        let message = format!("the server rejects this setting of the database's address (SQLSTATE {code})");
        return Err(configuration_error(&setting.key, message));
    }
    Ok(())
}

/// The settings of each statement in poll-only mode.
fn begin(address: &Address, settings: &Settings) -> String {
    format!("begin; {}", statements(address, settings, true))
}

/// The time-outs of tasker-core.yaml come last, as they apply to workers.
fn statements(address: &Address, settings: &Settings, local: bool) -> String {
    let scope = if local { "local" } else { "session" };
    let mut statements: Vec<String> = address.settings().map(|setting| setting.sql(local)).collect();
    statements.push(format!("set {scope} statement_timeout to {}", settings.statement_timeout.as_millis()));
    statements.push(format!("set {scope} lock_timeout to {}", settings.lock_timeout.as_millis()));
    statements.join("; ")
}

fn pool_options(address: &Address, settings: &Settings, hosts: &Arc<Hosts>) -> PgPoolOptions {
    let session = (!settings.poll_only).then(|| Arc::<str>::from(statements(address, settings, false)));
    let hosts = hosts.clone();
    PgPoolOptions::new()
        .max_connections(settings.pool.max_connections)
        .min_connections(settings.pool.min_connections)
        .acquire_timeout(settings.pool.acquire_timeout)
        .idle_timeout(settings.pool.idle_timeout)
        .max_lifetime(settings.pool.max_lifetime)
        .after_connect(move |connection, _| {
            let (session, hosts) = (session.clone(), hosts.clone());
            Box::pin(async move {
                hosts.verify(connection).await?;
                if let Some(session) = session {
                    connection.execute(AssertSqlSafe(session.to_string())).await?;
                }
                Ok(())
            })
        })
}
