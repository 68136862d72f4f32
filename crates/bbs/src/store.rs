//! The state on disk: one table per kind, a record as JSON by its name. Loaded whole, written in batches, and only by
//! the brain that opened it last.

use std::sync::Arc;

use anyhow::Context as _;
use base::Timestamp;
use diego::{ActualLrp, CellPresence, DesiredLrp, Domain, Presence, Task};
use futures::TryStreamExt as _;
use serde::de::DeserializeOwned;
use sql::{Db, Migration};
use sqlx::{AssertSqlSafe, Row as _};
use tracing::{error, warn};

use crate::state::{ActualKey, Fresh, Key, Present, Retirement, State, Write};

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_records",
    sql: "CREATE TABLE bbs_desired_lrps (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_actual_lrps (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_tasks (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_domains (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_cells (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_retirements (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_fence (id BIGINT PRIMARY KEY, number BIGINT NOT NULL);
          INSERT INTO bbs_fence (id, number) VALUES (1, 0);",
}];

/// Rows in one statement; the text of each size is prepared once.
const SIZES: [usize; 3] = [128, 16, 1];

pub(crate) struct Store {
    db: Db,
    /// Counts the brains that opened this store; a write by any but the last is refused.
    fence: i64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("another brain has taken over the store")]
    Superseded,
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl Store {
    /// Takes the store over from whoever had it.
    pub async fn open(db: Db) -> anyhow::Result<Store> {
        db.migrate("bbs", MIGRATIONS).await?;
        let mut tx = db.begin().await?;
        sqlx::query("UPDATE bbs_fence SET number = number + 1 WHERE id = 1")
            .execute(&mut *tx)
            .await?;
        let fence = sqlx::query_scalar("SELECT number FROM bbs_fence WHERE id = 1")
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Store { db, fence })
    }

    /// Everything there is. Cells count as present until `cells_until`.
    pub async fn load(&self, cells_until: Timestamp) -> anyhow::Result<State> {
        let mut state = State::default();
        let mut broken = Vec::new();
        let mut take = |table: &'static str, name: String, write: Option<Write>| match write {
            Some(write) => drop(state.write(write)),
            None => broken.push((table, name)),
        };
        self.each("bbs_desired_lrps", |name, text| {
            let write = parse::<DesiredLrp>(&text)
                .map(|lrp| Write::Desired(lrp.process_guid.clone(), Some(Arc::new(lrp))));
            take("bbs_desired_lrps", name, write);
        })
        .await?;
        self.each("bbs_actual_lrps", |name, text| {
            take("bbs_actual_lrps", name, parse::<ActualLrp>(&text).map(Write::put_actual));
        })
        .await?;
        self.each("bbs_tasks", |name, text| {
            take("bbs_tasks", name, parse::<Task>(&text).map(Write::put_task))
        })
        .await?;
        self.each("bbs_domains", |name, text| {
            let write = parse::<Fresh>(&text)
                .map(|fresh| Write::Domain(Domain::from(name.as_str()), Some(fresh)));
            take("bbs_domains", name, write);
        })
        .await?;
        self.each("bbs_cells", |name, text| {
            let present = |presence| Present {
                presence: Arc::new(presence),
                came: Timestamp::ZERO,
                until: cells_until,
            };
            let cell = |presence: CellPresence| {
                Write::Cell(presence.cell_id.clone(), Some(present(presence)))
            };
            take("bbs_cells", name, parse::<CellPresence>(&text).map(cell));
        })
        .await?;
        self.each("bbs_retirements", |name, text| {
            let guid = |retirement: &Retirement| retirement.instance.instance_guid.clone();
            let write = parse::<Retirement>(&text)
                .map(|found| Write::Retirement(guid(&found), Some(Arc::new(found))));
            take("bbs_retirements", name, write);
        })
        .await?;
        self.drop_broken(&broken).await?;
        Ok(state)
    }

    async fn each(
        &self,
        table: &'static str,
        mut visit: impl FnMut(String, String),
    ) -> anyhow::Result<()> {
        let mut connection = self.db.read().await?;
        let query = format!("SELECT name, record FROM {table}");
        let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await.with_context(|| format!("reading {table}"))? {
            visit(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(())
    }

    /// A record that nobody can read is worth nothing: what it stood for is made anew.
    async fn drop_broken(&self, broken: &[(&'static str, String)]) -> anyhow::Result<()> {
        for (table, name) in broken {
            error!(table, name, "dropped a record that cannot be read");
            let mut tx = self.db.begin().await?;
            let delete = format!("DELETE FROM {table} WHERE name = $1");
            sqlx::query(AssertSqlSafe(delete)).bind(name).execute(&mut *tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// All rows or none. A row without text is deleted. Each name occurs once.
    pub async fn commit(&self, rows: &[(Key, Option<String>)]) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let fence =
            sqlx::query("UPDATE bbs_fence SET number = number WHERE id = 1 AND number = $1")
                .bind(self.fence);
        if fence.execute(&mut *tx).await?.rows_affected() != 1 {
            return Err(StoreError::Superseded);
        }
        for table in TABLES {
            let of_table = || rows.iter().filter(|(key, _)| key.table() == table);
            let kept: Vec<_> =
                of_table().filter_map(|(key, text)| Some((key.name(), text.as_deref()?))).collect();
            for chunk in chunks(&kept) {
                let mut query = sqlx::query(AssertSqlSafe(upsert(table, chunk.len())));
                for (name, text) in chunk {
                    query = query.bind(name.as_str()).bind(*text);
                }
                query.execute(&mut *tx).await?;
            }
            let gone: Vec<_> =
                of_table().filter(|(_, text)| text.is_none()).map(|(key, _)| key.name()).collect();
            for chunk in chunks(&gone) {
                let text = format!(
                    "DELETE FROM {table} WHERE name IN ({})",
                    sql::placeholders(1, chunk.len())
                );
                let query = chunk.iter().fold(sqlx::query(AssertSqlSafe(text)), |query, name| {
                    query.bind(name.as_str())
                });
                query.execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

const TABLES: [&str; 6] = [
    "bbs_desired_lrps",
    "bbs_actual_lrps",
    "bbs_tasks",
    "bbs_domains",
    "bbs_cells",
    "bbs_retirements",
];

impl Key {
    fn table(&self) -> &'static str {
        match self {
            Key::Desired(_) => "bbs_desired_lrps",
            Key::Actual(_) => "bbs_actual_lrps",
            Key::Task(_) => "bbs_tasks",
            Key::Domain(_) => "bbs_domains",
            Key::Cell(_) => "bbs_cells",
            Key::Retirement(_) => "bbs_retirements",
        }
    }

    fn name(&self) -> String {
        match self {
            Key::Desired(guid) => guid.to_string(),
            Key::Actual(ActualKey { process_guid, index, presence }) => match presence {
                Presence::Ordinary => format!("{process_guid}/{index}"),
                Presence::Evacuating => format!("{process_guid}/{index}/evacuating"),
                Presence::Suspect => format!("{process_guid}/{index}/suspect"),
            },
            Key::Task(guid) => guid.to_string(),
            Key::Domain(domain) => domain.to_string(),
            Key::Cell(id) => id.to_string(),
            Key::Retirement(guid) => guid.to_string(),
        }
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text)
        .inspect_err(|error| warn!(%error, "a stored record cannot be read"))
        .ok()
}

fn upsert(table: &str, rows: usize) -> String {
    let values: Vec<_> =
        (0..rows).map(|row| format!("(${}, ${})", row * 2 + 1, row * 2 + 2)).collect();
    let values = values.join(", ");
    format!(
        "INSERT INTO {table} (name, record) VALUES {values} ON CONFLICT (name) DO UPDATE SET record = excluded.record"
    )
}

/// Cuts a list into pieces of the known sizes, the largest first.
fn chunks<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rest.len())?;
        let (chunk, more) = rest.split_at(size);
        rest = more;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cut_into_known_sizes() {
        let list = [0; 300];
        let sizes: Vec<_> = chunks(&list).map(<[i32]>::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 300);
        assert!(sizes.iter().all(|size| SIZES.contains(size)));
        assert_eq!(chunks::<i32>(&[]).count(), 0);
    }

    #[tokio::test]
    async fn records_come_back_and_only_the_last_brain_writes() {
        for db in sql::testing::databases().await {
            let old = Store::open(db.clone()).await.unwrap();
            let domain = |name: &str| Key::Domain(Domain::from(name));
            let fresh = || Some("{\"until\":5}".to_owned());
            let many: Vec<_> = (0..300).map(|n| (domain(&format!("d{n}")), fresh())).collect();
            old.commit(&many).await.unwrap();
            old.commit(&[(domain("d7"), None), (domain("d8"), Some("nonsense".to_owned()))])
                .await
                .unwrap();
            let state = old.load(Timestamp::ZERO).await.unwrap();
            assert_eq!(state.domains().count(), 298);

            let new = Store::open(db.clone()).await.unwrap();
            let late = old.commit(&[(domain("d9"), None)]).await.unwrap_err();
            assert!(matches!(late, StoreError::Superseded), "{late}");
            new.commit(&[(domain("d9"), None)]).await.unwrap();
            let state = new.load(Timestamp::ZERO).await.unwrap();
            assert_eq!(state.domains().count(), 297, "what could not be read is gone for good");
        }
    }
}
