//! The state on disk: one table per kind, a record as JSON by its name. Loaded whole, written in batches, and only by
//! the brain that opened it last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base::{Backoff, Timestamp};
use diego::{ActualLrp, CellPresence, DesiredLrp, Domain, Presence, Task};
use futures::TryStreamExt as _;
use serde::de::DeserializeOwned;
use sql::{Db, Engine, Migration};
use sqlx::{AssertSqlSafe, Row as _};
use tracing::{error, warn};

use crate::config::Timings;
use crate::lease::{Count, Lease, Watch};
use crate::state::{ActualKey, Fresh, Key, Present, Retag, Retirement, State, Write};

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_records",
        sql: "CREATE TABLE bbs_desired_lrps (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_actual_lrps (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_tasks (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_domains (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_cells (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_retirements (name TEXT PRIMARY KEY, record TEXT NOT NULL);
          CREATE TABLE bbs_fence (id BIGINT PRIMARY KEY, number BIGINT NOT NULL);
          INSERT INTO bbs_fence (id, number) VALUES (1, 0);",
    },
    Migration {
        name: "0002_lease",
        sql: "ALTER TABLE bbs_fence ADD COLUMN beat BIGINT NOT NULL DEFAULT 0;
              ALTER TABLE bbs_fence ADD COLUMN released BIGINT NOT NULL DEFAULT 1;",
    },
    Migration {
        name: "0003_retags",
        sql: "CREATE TABLE bbs_retags (name TEXT PRIMARY KEY, record TEXT NOT NULL);",
    },
    Migration {
        name: "0004_holder",
        sql: "ALTER TABLE bbs_fence ADD COLUMN holder TEXT NOT NULL DEFAULT '';",
    },
];

/// Rows in one statement; the text of each size is prepared once.
const SIZES: [usize; 3] = [128, 16, 1];

pub(crate) struct Store {
    db: Db,
    /// Counts the brains that opened this store; a write by any but the last is refused.
    fence: i64,
    lease: Arc<Lease>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("another brain has taken over the store")]
    Superseded,
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl Store {
    /// Takes the store over from whoever had it; nobody else is expected to want it.
    pub async fn open(db: Db) -> anyhow::Result<Store> {
        db.migrate("bbs", MIGRATIONS).await?;
        let mut tx = db.begin().await?;
        sqlx::query(
            "UPDATE bbs_fence SET number = number + 1, released = 0, holder = '' WHERE id = 1",
        )
        .execute(&mut *tx)
        .await?;
        let fence = sqlx::query_scalar("SELECT number FROM bbs_fence WHERE id = 1")
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Store { db, fence, lease: Arc::new(Lease::sole()) })
    }

    /// Waits until no other brain holds the store, then takes it in the name of `holder`. A store that does not answer
    /// is waited for too.
    pub async fn stand_by(db: Db, holder: &str, timings: &Timings) -> Store {
        let mut backoff = Backoff::new(timings.lease_look, Duration::from_secs(1));
        while let Err(error) = db.migrate("bbs", MIGRATIONS).await {
            warn!(error = %format!("{error:#}"), "the store does not answer");
            tokio::time::sleep(backoff.step()).await;
        }
        let mut watch = Watch::new(timings.lease_ttl);
        loop {
            match Store::look(&db, holder, &mut watch, timings.lease_ttl).await {
                Ok(Some((fence, lease))) => return Store { db, fence, lease: Arc::new(lease) },
                Ok(None) => {}
                Err(error) => warn!(%error, "the store does not answer"),
            }
            tokio::time::sleep(timings.lease_look).await;
        }
    }

    async fn look(
        db: &Db,
        holder: &str,
        watch: &mut Watch,
        ttl: Duration,
    ) -> sqlx::Result<Option<(i64, Lease)>> {
        let mut connection = db.read().await?;
        let row = sqlx::query("SELECT number, beat, released, holder FROM bbs_fence WHERE id = 1")
            .fetch_one(&mut *connection)
            .await?;
        drop(connection);
        let released: i64 = row.try_get(2)?;
        // Whoever bore this name before is dead.
        let was_ours = !holder.is_empty() && row.try_get::<String, _>(3)? == holder;
        let count = Count {
            fence: row.try_get(0)?,
            beat: row.try_get(1)?,
            released: released != 0 || was_ours,
        };
        if !watch.is_free(count, Instant::now()) {
            return Ok(None);
        }
        let sent = Instant::now();
        let mut tx = db.begin().await?;
        // Nobody counted on or came first since it was read.
        let take = "UPDATE bbs_fence SET number = number + 1, beat = beat + 1, released = 0, holder = $1 \
                    WHERE id = 1 AND number = $2 AND beat = $3";
        let take = sqlx::query(take).bind(holder).bind(count.fence).bind(count.beat);
        let taken = take.execute(&mut *tx).await?;
        tx.commit().await?;
        let won = taken.rows_affected() == 1;
        Ok(won.then(|| (count.fence + 1, Lease::since(sent, ttl))))
    }

    pub fn fence(&self) -> i64 {
        self.fence
    }

    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Counts on, so that those who stand by see that this brain lives.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] when another brain holds the store.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let sent = Instant::now();
        let mut tx = self.db.begin().await?;
        self.check(&mut tx, Durable::No).await?;
        tx.commit().await?;
        self.lease.extend(sent);
        Ok(())
    }

    /// Lets the next brain in at once.
    pub async fn release(&self) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        self.check(&mut tx, Durable::Yes).await?;
        sqlx::query("UPDATE bbs_fence SET released = 1 WHERE id = 1").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Makes sure that nobody else took the store, until the transaction ends. Whoever is frozen in the middle of one
    /// must not hold the others up: PostgreSQL ends it.
    async fn check(&self, tx: &mut sql::Tx, durable: Durable) -> Result<(), StoreError> {
        let fence = self.fence;
        let update =
            format!("UPDATE bbs_fence SET beat = beat + 1 WHERE id = 1 AND number = {fence}");
        let text = match (self.db.engine(), self.lease.ttl()) {
            (Engine::Postgres, Some(ttl)) => {
                let idle = ttl.as_millis();
                // The count is worth nothing after a crash of the store: nobody waits for a disk.
                let lazy = match durable {
                    Durable::Yes => "",
                    Durable::No => "SET LOCAL synchronous_commit = off; ",
                };
                format!("SET LOCAL idle_in_transaction_session_timeout = {idle}; {lazy}{update}")
            }
            _ => update,
        };
        let done = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut **tx).await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Superseded) }
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
        self.each("bbs_retags", |name, text| {
            let write = parse::<Retag>(&text)
                .map(|retag| Write::Retag(name.as_str().into(), Some(Arc::new(retag))));
            take("bbs_retags", name, write);
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
        let sent = Instant::now();
        let mut tx = self.db.begin().await?;
        self.check(&mut tx, Durable::Yes).await?;
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
        self.lease.extend(sent);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

const TABLES: [&str; 7] = [
    "bbs_desired_lrps",
    "bbs_actual_lrps",
    "bbs_tasks",
    "bbs_domains",
    "bbs_cells",
    "bbs_retirements",
    "bbs_retags",
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
            Key::Retag(_) => "bbs_retags",
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
            Key::Retag(guid) => guid.to_string(),
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
            assert!(matches!(old.renew().await.unwrap_err(), StoreError::Superseded));
            new.commit(&[(domain("d9"), None)]).await.unwrap();
            let state = new.load(Timestamp::ZERO).await.unwrap();
            assert_eq!(state.domains().count(), 297, "what could not be read is gone for good");
        }
    }
    #[tokio::test]
    async fn a_lease_is_taken_when_its_holder_falls_silent_or_lets_go() {
        for db in sql::testing::databases().await {
            let quick = Timings {
                lease_ttl: Duration::from_millis(200),
                lease_look: Duration::from_millis(10),
                ..Timings::default()
            };
            let first = Store::stand_by(db.clone(), "first", &quick).await;
            let second = tokio::spawn({
                let (db, quick) = (db.clone(), quick.clone());
                async move { Store::stand_by(db, "second", &quick).await }
            });
            for _ in 0..20 {
                first.renew().await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(first.lease().holds() || !second.is_finished(), "one of the two at most");
            let second = second.await.unwrap();
            assert!(!first.lease().holds());
            let late = first.commit(&[]).await.unwrap_err();
            assert!(matches!(late, StoreError::Superseded), "{late}");
            let long = Timings { lease_ttl: Duration::from_secs(600), ..quick };
            let third = tokio::spawn({
                let (db, long) = (db.clone(), long.clone());
                async move { Store::stand_by(db, "third", &long).await }
            });
            second.release().await.unwrap();
            let third = third.await.unwrap();
            third.commit(&[]).await.unwrap();
            let again = Store::stand_by(db, "third", &long).await;
            assert!(third.commit(&[]).await.is_err(), "the one that died does not come back");
            again.commit(&[]).await.unwrap();
        }
    }
}
