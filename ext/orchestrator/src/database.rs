//! The connection to the application's PostgreSQL: where it is, and the pool with its limits and time-outs.
//!
//! Invariant: nothing on a pooled connection depends on an earlier statement, so that poll-only mode works behind
//! a transaction pooler. Neighbours: `kernel` runs its statements on the pool, `listener` opens its own connection.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use tokio::time::timeout;

use crate::configuration::Database as Settings;
use crate::error::Error;

/// Where the database is: a URL, or the parts that Active Record's configuration has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Address {
    /// `postgresql://user:password@host:port/database?…`; the other fields are then not looked at.
    pub url: Option<String>,
    /// A host name, or the directory of a socket.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub database: Option<String>,
    /// disable, allow, prefer, require, verify-ca or verify-full.
    pub sslmode: Option<String>,
    pub sslrootcert: Option<PathBuf>,
    pub sslcert: Option<PathBuf>,
    pub sslkey: Option<PathBuf>,
    /// The schemas in which the application keeps its tables, as PostgreSQL's `search_path`.
    pub search_path: Option<String>,
}

impl Address {
    /// An address given as a URL.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    fn options(&self) -> Result<PgConnectOptions, Error> {
        if let Some(url) = &self.url {
            return PgConnectOptions::from_str(url).map_err(Error::Database);
        }
        let mut options = PgConnectOptions::new();
        if let Some(host) = &self.host {
            options = options.host(host);
        }
        if let Some(port) = self.port {
            options = options.port(port);
        }
        if let Some(username) = &self.username {
            options = options.username(username);
        }
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        if let Some(database) = &self.database {
            options = options.database(database);
        }
        if let Some(mode) = &self.sslmode {
            options = options.ssl_mode(PgSslMode::from_str(mode).map_err(Error::Database)?);
        }
        if let Some(path) = &self.sslrootcert {
            options = options.ssl_root_cert(path);
        }
        if let Some(path) = &self.sslcert {
            options = options.ssl_client_cert(path);
        }
        if let Some(path) = &self.sslkey {
            options = options.ssl_client_key(path);
        }
        Ok(options)
    }

    /// The address with the settings of a session.
    ///
    /// In poll-only mode the session is not ours: no setting is sent at its start and no statement is prepared
    /// under a name, as a transaction pooler allows neither.
    pub fn connect_options(&self, settings: &Settings) -> Result<PgConnectOptions, Error> {
        let options = self.options()?.application_name("tasker_core");
        if settings.poll_only {
            return Ok(options.statement_cache_capacity(0));
        }
        let mut session = vec![
            ("statement_timeout", format!("{}ms", settings.statement_timeout.as_millis())),
            ("lock_timeout", format!("{}ms", settings.lock_timeout.as_millis())),
        ];
        if let Some(search_path) = &self.search_path {
            session.push(("search_path", search_path.replace(' ', "")));
        }
        Ok(options.options(session))
    }
}

/// Opens the pool. At least one connection is made, so that a wrong address is told here.
///
/// # Errors
/// `Error::Database` when no connection can be made within `connect_timeout`.
pub async fn connect(address: &Address, settings: &Settings) -> Result<PgPool, Error> {
    let pool = pool_options(settings).connect_with(address.connect_options(settings)?);
    timeout(settings.connect_timeout, pool)
        .await
        .map_err(|_| {
            let limit = humantime::format_duration(settings.connect_timeout);
            let told = format!("no connection within {limit} (database.connect_timeout)");
            sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, told))
        })
        .flatten()
        .map_err(Error::Database)
}

fn pool_options(settings: &Settings) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(settings.pool.max_connections)
        .min_connections(settings.pool.min_connections)
        .acquire_timeout(settings.pool.acquire_timeout)
        .idle_timeout(settings.pool.idle_timeout)
        .max_lifetime(settings.pool.max_lifetime)
}
