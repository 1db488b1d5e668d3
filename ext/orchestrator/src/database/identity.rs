//! Whether a connection of ours reaches what Active Record's reaches.

use serde::Deserialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::{configuration_error, Address};
use crate::error::Error;

/// What a connection says of itself. Equal ones see the same tables with the same rights.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub database: String,
    /// The schemas that exist of its search path, as an array's text.
    pub schemas: String,
    pub user: String,
    /// The server's system identifier, if the role may ask for it.
    pub system: Option<String>,
}

impl Identity {
    /// As `lib/tasker_core/postgres/address.rb` asks Active Record's connection.
    const QUERY: &str = "select current_database()::text, current_schemas(false)::text, current_user::text, \
        case when has_function_privilege('pg_control_system()', 'execute') \
        then (select system_identifier::text from pg_control_system()) end";

    /// # Errors
    /// `Error::Configuration` that names what differs.
    pub async fn verify(&self, address: &Address, connection: &mut PgConnection) -> Result<(), Error> {
        let differences = self.differences(&Self::of(address, connection).await?);
        if differences.is_empty() {
            return Ok(());
        }
        Err(configuration_error(
            "database",
            format!(
                "the worker's connection does not reach what Active Record's reaches: {}; give both the same address and \
                 settings in config/database.yml",
                differences.join(", ")
            ),
        ))
    }

    /// With the application's settings, which end with the transaction.
    async fn of(address: &Address, connection: &mut PgConnection) -> Result<Self, Error> {
        let settings: String = address.settings().map(|setting| format!("{}; ", setting.sql(true))).collect();
        connection.execute(AssertSqlSafe(format!("begin; {settings}"))).await?;
        let row = connection.fetch_one(sqlx::raw_sql(Self::QUERY)).await?;
        let identity = Self {
            database: row.try_get(0)?,
            schemas: row.try_get(1)?,
            user: row.try_get(2)?,
            system: row.try_get(3)?,
        };
        connection.execute("rollback").await?;
        Ok(identity)
    }

    fn differences(&self, ours: &Self) -> Vec<String> {
        let both = [
            ("database", &self.database, &ours.database),
            ("schemas", &self.schemas, &ours.schemas),
            ("user", &self.user, &ours.user),
        ];
        let mut differences: Vec<String> = both
            .into_iter()
            .filter(|(_, theirs, ours)| theirs != ours)
            .map(|(what, theirs, ours)| format!("the {what} of Active Record is {theirs}, the worker's {ours}"))
            .collect();
        if self.system.is_some() && ours.system.is_some() && self.system != ours.system {
            differences.push("the servers are two, with different system identifiers".to_owned());
        }
        differences
    }
}
