//! Verifies that the worker's connection reaches the same database as Active Record's.

use serde::Deserialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::configuration_error;
use crate::error::Error;

/// Identifies what a connection reaches. Connections with equal identities see the same tables with the same rights.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub database: String,
    /// The existing schemas of its search path, as the text of an array.
    pub schemas: String,
    pub user: String,
    /// The server's system identifier, if the role may read it.
    pub system: Option<String>,
}

impl Identity {
    /// The query that `lib/tasker_core/postgres/address.rb` runs on Active Record's connection.
    const QUERY: &str = "select current_database()::text, current_schemas(false)::text, current_user::text, \
        case when has_function_privilege('pg_control_system()', 'execute') \
        then (select system_identifier::text from pg_control_system()) end";

    /// Compares this identity with that of `connection` under the application's `settings`: statements, each with its
    /// semicolon, that end with the transaction.
    ///
    /// # Errors
    /// `Error::Configuration` that names the differences.
    pub async fn verify(&self, settings: &str, connection: &mut PgConnection) -> Result<(), Error> {
        let differences = self.differences(&Self::of(settings, connection).await?);
        if differences.is_empty() {
            return Ok(());
        }
        Err(configuration_error(
            "database",
            format!(
                "the worker's connection does not reach the database of Active Record's: {}; give both the same address and \
                 settings in config/database.yml",
                differences.join(", ")
            ),
        ))
    }

    async fn of(settings: &str, connection: &mut PgConnection) -> Result<Self, Error> {
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
            differences.push("the two servers have different system identifiers".to_owned());
        }
        differences
    }
}
