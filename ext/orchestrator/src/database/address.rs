//! The address of the database and the settings of its sessions: built by `lib/tasker_core/postgres/address.rb` from
//! Active Record's configuration, or a URL for programs without Ruby.
//!
//! Invariant: no value of an address is ever printed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{configuration_error, Identity};
use crate::configuration::Database as Settings;
use crate::error::Error;

/// The default name of a worker's connections in `pg_stat_activity`.
const APPLICATION_NAME: &str = "tasker_core";

/// Servers, role, database and settings.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Address {
    /// `postgresql://user:password@host:port/database?…`; all other fields except `session` are then ignored.
    pub url: Option<String>,
    /// Tried in this order; if empty, the socket of this machine.
    pub hosts: Vec<Host>,
    /// Whether the hosts are tried in random order.
    pub load_balance_hosts: bool,
    pub target_session_attrs: SessionAttributes,
    /// Seconds for one host; default: `database.connect_timeout`.
    pub connect_timeout: Option<u64>,
    pub user: Option<String>,
    pub database: Option<String>,
    pub application_name: Option<String>,
    /// disable, allow, prefer, require, verify-ca or verify-full.
    pub sslmode: Option<String>,
    pub sslrootcert: Option<PathBuf>,
    pub sslcert: Option<PathBuf>,
    pub sslkey: Option<PathBuf>,
    /// Settings that libpq sends with the start of a session.
    pub options: Vec<(String, String)>,
    /// Settings that Active Record makes after the start of a session.
    pub session: Vec<Setting>,
    /// The identity of Active Record's own connection.
    pub identity: Option<Identity>,
}

/// One server.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// A name, a numeric address, or the directory of a socket.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub password: Option<String>,
}

/// A setting of a session.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its key in the configuration, for messages.
    pub key: String,
    pub name: String,
    /// The SQL after `to`.
    pub value: String,
    /// The value is plain text, as in `options`, and not SQL.
    #[serde(default)]
    pub text: bool,
}

impl Setting {
    /// The statement that applies it, for the transaction or for the session.
    pub fn sql(&self, local: bool) -> String {
        if self.text {
            return format!("select set_config({}, {}, {local})", quoted(&self.name), quoted(&self.value));
        }
        format!("set {} {} to {}", if local { "local" } else { "session" }, self.name, self.value)
    }
}

/// A string constant, for either value of `standard_conforming_strings`.
fn quoted(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The required role of the server: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionAttributes {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address { … }")
    }
}

impl Address {
    /// An address given as a URL.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    /// All settings of the application's sessions, in the order in which they are applied.
    pub fn settings(&self) -> impl Iterator<Item = Setting> + '_ {
        let options = self.options.iter().map(|(name, value)| Setting {
            key: "options".to_owned(),
            name: name.clone(),
            value: value.clone(),
            text: true,
        });
        options.chain(self.session.iter().cloned())
    }

    /// One set of options for each host.
    ///
    /// Sends no parameter that a pooler rejects unless the application sends it as well: sqlx's `extra_float_digits` is
    /// left out, as PostgreSQL's own default is exact since version 12.
    ///
    /// # Errors
    /// `Error::Configuration` if the TLS mode or the URL is invalid.
    pub fn connect_options(&self, settings: &Settings) -> Result<Vec<PgConnectOptions>, Error> {
        let given = match &self.url {
            Some(url) => {
                vec![PgConnectOptions::from_str(url).map_err(|_| configuration_error("url", "is not a database URL"))?]
            }
            None if self.hosts.is_empty() => vec![self.at(&Host::default())?],
            None => self.hosts.iter().map(|host| self.at(host)).collect::<Result<_, Error>>()?,
        };
        Ok(given.into_iter().map(|options| self.with_session(options, settings)).collect())
    }

    fn at(&self, host: &Host) -> Result<PgConnectOptions, Error> {
        let mut options = PgConnectOptions::new_without_pgpass();
        if let Some(name) = &host.host {
            options = options.host(name);
        }
        if let Some(port) = host.port {
            options = options.port(port);
        }
        if let Some(password) = &host.password {
            options = options.password(password);
        }
        if let Some(user) = &self.user {
            options = options.username(user);
        }
        if let Some(database) = &self.database {
            options = options.database(database);
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
        match &self.sslmode {
            // As libpq does: TLS is for networks.
            _ if options.get_host().starts_with('/') => Ok(options.ssl_mode(PgSslMode::Disable)),
            Some(mode) => {
                let known = PgSslMode::from_str(mode)
                    .map_err(|_| configuration_error("sslmode", "is none of libpq's modes"))?;
                Ok(options.ssl_mode(known))
            }
            None => Ok(options),
        }
    }

    fn with_session(&self, options: PgConnectOptions, settings: &Settings) -> PgConnectOptions {
        let name = self.application_name.as_deref().unwrap_or(APPLICATION_NAME);
        let options = options.application_name(name).extra_float_digits(None);
        if settings.poll_only {
            return options.statement_cache_capacity(0);
        }
        // sqlx has already read the environment's options.
        match options.get_options() {
            None if !self.options.is_empty() => options.options(self.options.iter().map(|(name, value)| (name, value))),
            _ => options,
        }
    }
}
