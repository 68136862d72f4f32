//! Forward-only changes of the tables, each owner with a list of its own.

use anyhow::{Context as _, bail};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::postgres::MAKING;
use crate::{Db, Engine, Tx};

/// Names sort in the order they are applied; a published one never changes.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    pub name: &'static str,
    pub sql: &'static str,
}

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (owner TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (owner, name))";

impl Db {
    /// Applies what `owner` has not applied yet, all of it or nothing. Of programs that start together one does it.
    ///
    /// # Errors
    /// When the database holds a migration that this program does not know: it was written by a newer version.
    pub async fn migrate(&self, owner: &str, migrations: &[Migration]) -> anyhow::Result<()> {
        let mut tx = self.begin().await?;
        if self.engine() == Engine::Postgres {
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING).execute(&mut *tx).await?;
        }
        tx.execute(sqlx::raw_sql(LEDGER)).await?;
        let applied: Vec<String> =
            sqlx::query_scalar("SELECT name FROM schema_migrations WHERE owner = $1 ORDER BY name")
                .bind(owner)
                .fetch_all(&mut *tx)
                .await?;
        if let Some(unknown) =
            applied.iter().find(|name| migrations.iter().all(|known| known.name != **name))
        {
            bail!(
                "the database was written by a newer version: {owner} migration {unknown} is unknown here"
            );
        }
        for migration in
            migrations.iter().filter(|migration| !applied.iter().any(|name| name == migration.name))
        {
            self.apply(&mut tx, owner, migration)
                .await
                .with_context(|| format!("{owner} migration {}", migration.name))?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn apply(&self, tx: &mut Tx, owner: &str, migration: &Migration) -> anyhow::Result<()> {
        let id = match self.engine() {
            Engine::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
            Engine::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        };
        tx.execute(sqlx::raw_sql(AssertSqlSafe(migration.sql.replace("$ID", id)))).await?;
        sqlx::query("INSERT INTO schema_migrations (owner, name) VALUES ($1, $2)")
            .bind(owner)
            .bind(migration.name)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}
