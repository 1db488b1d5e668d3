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

/// The pool, and what each statement on it needs. Clones are the same one.
#[derive(Clone)]
pub struct Connections {
    pool: PgPool,
    hosts: Arc<Hosts>,
    /// How a transaction begins in poll-only mode.
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

    /// What a statement has to be sent after, in a transaction of its own; `None` when the settings of the session do.
    ///
    /// In poll-only mode the session is not ours. sqlx sends a statement with arguments in two parts, Parse and Bind,
    /// with a Sync after each: outside of a transaction a pooler may give them to two server connections, and Bind then
    /// meets the statement of another client. A transaction holds one server connection from the first part to the
    /// last, and its settings end with it. Quoted literals in the simple protocol would cost two round trips fewer,
    /// but claims and results would have to be quoted as text, and the time-outs could not be set for them.
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
        // A setting was refused after `begin`: the server is left within a transaction that has failed.
        connection.close_on_drop();
        Err(error)
    }

    /// Looks for another server when `error` can mean that this one is no longer the right one; answers whether the
    /// connection on which it was met is of no more use.
    pub fn check_server(&self, error: &sqlx::Error) -> bool {
        Hosts::check_server(&self.hosts, &self.pool, error)
    }
}

/// Opens the pool, after it has been made sure that statements work on it and reach the application's database.
///
/// # Errors
/// `Error::Database` when no connection can be made within `connect_timeout`; `Error::Configuration` when the address
/// cannot be used, when a transaction pooler is in between and poll-only mode is off, and when the database, its
/// schemas or the role are others than Active Record's.
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

/// Everything that is looked at before the first statement, on connections of its own, whose settings are the server's:
/// behind a pooler a setting would stay with a server connection that others use.
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

/// Names the setting of the application that the server refuses, and never its value.
async fn try_settings(address: &Address, connection: &mut PgConnection) -> Result<(), Error> {
    for setting in address.settings() {
        let tried = connection.execute(AssertSqlSafe(format!("begin; {}", setting.sql(true)))).await;
        let Err(error) = tried else {
            connection.execute("rollback").await?;
            continue;
        };
        let Some(code) = error.as_database_error().and_then(|error| error.code()) else { return Err(error.into()) };
        let message = format!("the server refuses this setting of the database's address (SQLSTATE {code})");
        return Err(configuration_error(&setting.key, message));
    }
    Ok(())
}

/// The settings of each statement in poll-only mode.
fn begin(address: &Address, settings: &Settings) -> String {
    format!("begin; {}", statements(address, settings, true))
}

/// Our time-outs come last: for workers they are set in tasker-core.yaml.
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
