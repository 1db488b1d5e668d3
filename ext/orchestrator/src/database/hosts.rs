//! Chooses the server: the first, in the order of the address, that responds and satisfies `target_session_attrs`.
//!
//! Invariant: the pool follows a fail-over. A statement that fails in a way that indicates a lost server, or one that
//! has become a standby, starts a new search; new connections use the server that it finds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{ConnectOptions, Connection, Executor, Row};
use tokio::time::timeout;

use super::{pooler, Address, SessionAttributes};
use crate::configuration::Database as Settings;
use crate::error::Error;

/// SQLSTATE read_only_sql_transaction.
const READ_ONLY: &str = "25006";

pub struct Hosts {
    candidates: Vec<PgConnectOptions>,
    role: SessionAttributes,
    /// For one candidate.
    connect_timeout: Duration,
    shuffled: bool,
    is_choosing: AtomicBool,
}

impl Hosts {
    pub fn new(address: &Address, settings: &Settings) -> Result<Self, Error> {
        let connect_timeout = match address.connect_timeout {
            // For libpq, no value and 0 mean no limit, and 1 means 2.
            None | Some(0) => settings.connect_timeout,
            Some(seconds) => Duration::from_secs(seconds.max(2)).min(settings.connect_timeout),
        };
        Ok(Self {
            candidates: address.connect_options(settings)?,
            role: address.target_session_attrs,
            connect_timeout,
            shuffled: address.load_balance_hosts,
            is_choosing: AtomicBool::new(false),
        })
    }

    pub fn count(&self) -> u32 {
        u32::try_from(self.candidates.len()).unwrap_or(u32::MAX)
    }

    /// The options of the server to use. A single server without a required role is not queried.
    pub async fn choose(&self) -> Result<PgConnectOptions, Error> {
        if self.candidates.len() == 1 && self.role == SessionAttributes::Any {
            return Ok(self.candidates[0].clone());
        }
        match self.first(self.role).await {
            Err(_) if self.role == SessionAttributes::PreferStandby => self.first(SessionAttributes::Any).await,
            found => found,
        }
    }

    async fn first(&self, role: SessionAttributes) -> Result<PgConnectOptions, Error> {
        let mut order: Vec<&PgConnectOptions> = self.candidates.iter().collect();
        if self.shuffled {
            order.shuffle(&mut rand::rng());
        }
        let mut last = Error::TimedOut { what: "connecting to a server", after: self.connect_timeout };
        for options in order {
            match timeout(self.connect_timeout, probe(options, role)).await {
                Ok(Ok(())) => return Ok(options.clone()),
                Ok(Err(error)) => last = pooler::connect_error(error),
                Err(_) => last = Error::TimedOut { what: "connecting to a server", after: self.connect_timeout },
            }
        }
        Err(last)
    }

    /// Verifies that a new connection of the pool reaches a server with the required role.
    pub async fn verify(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        match self.role {
            SessionAttributes::Any | SessionAttributes::PreferStandby => Ok(()),
            role => verify_role(connection, role).await,
        }
    }

    /// Searches again in the background after an error that a fail-over can cause; returns whether the connection with
    /// that error reaches the wrong server.
    pub fn check_server(hosts: &Arc<Self>, pool: &PgPool, error: &sqlx::Error) -> bool {
        let code = error.as_database_error().and_then(|refusal| refusal.code());
        let code = code.as_deref().unwrap_or_default();
        let is_transient = matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_))
            || code == READ_ONLY
            || code.starts_with("57P");
        if hosts.candidates.len() > 1 && is_transient && !hosts.is_choosing.swap(true, Ordering::AcqRel) {
            let (hosts, pool) = (hosts.clone(), pool.clone());
            tokio::spawn(async move {
                if let Ok(options) = hosts.choose().await {
                    pool.set_connect_options(options);
                }
                hosts.is_choosing.store(false, Ordering::Release);
            });
        }
        code == READ_ONLY
    }
}

async fn probe(options: &PgConnectOptions, role: SessionAttributes) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    verify_role(&mut connection, role).await?;
    connection.close().await
}

async fn verify_role(connection: &mut PgConnection, role: SessionAttributes) -> Result<(), sqlx::Error> {
    if role == SessionAttributes::Any {
        return Ok(());
    }
    let query = sqlx::raw_sql("select pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'");
    let row = connection.fetch_one(query).await?;
    let (standby, read_only): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let has_role = match role {
        SessionAttributes::Any => true,
        SessionAttributes::ReadWrite => !read_only,
        SessionAttributes::ReadOnly => read_only,
        SessionAttributes::Primary => !standby,
        SessionAttributes::Standby | SessionAttributes::PreferStandby => standby,
    };
    if has_role {
        return Ok(());
    }
    Err(sqlx::Error::Configuration("the server is not what target_session_attrs asks for".into()))
}
