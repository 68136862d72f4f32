//! One way to the database, SQLite or PostgreSQL, written as SQL that both take. Knows no table.
//!
//! The common text: `$1` parameters, booleans as 0/1 in `BIGINT`, moments and other numbers in `BIGINT`, everything
//! else in `TEXT`; a sum is cast (`CAST(SUM(x) AS BIGINT)`); order by a column that can be NULL, and LIKE's case,
//! differ between the two and are avoided. Migrations may write `$ID` for a counting primary key.

mod migrate;
mod postgres;
pub mod testing;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::any::AnyPoolOptions;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool, Connection as _, Executor as _};

pub use migrate::Migration;
pub use postgres::{Examined, Postgres};
pub use sqlx::AnyConnection as Connection;

/// A write transaction. Dropped without `commit`, it changes nothing.
pub type Tx = sqlx::Transaction<'static, Any>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Readers never wait for writers. SQLite has one writing connection, so a transaction never fails because another
/// one writes: it waits for its turn.
#[derive(Clone, Debug)]
pub struct Db {
    engine: Engine,
    readers: AnyPool,
    writers: AnyPool,
}

/// How long a caller waits for a connection before it gets an error.
const ACQUIRE: Duration = Duration::from_secs(30);

impl Db {
    /// A SQLite file, made when absent. Each commit is on disk before it is acknowledged.
    pub async fn open_file(path: &Path) -> anyhow::Result<Db> {
        let text =
            path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?;
        Db::open(&format!("sqlite://{text}?mode=rwc")).await
    }

    /// `sqlite://PATH?mode=rwc` or `postgres://USER@HOST:PORT/DATABASE`.
    pub async fn open(url: &str) -> anyhow::Result<Db> {
        sqlx::any::install_default_drivers();
        if url.starts_with("sqlite:") {
            let writers = pool(1).after_connect(|c, _| Box::pin(pragmas(c))).connect(url).await;
            let writers = writers.with_context(|| format!("opening the database {url}"))?;
            let readers = pool(4).after_connect(|c, _| Box::pin(pragmas(c))).connect_lazy(url)?;
            return Ok(Db { engine: Engine::Sqlite, readers, writers });
        }
        let shared = pool(16).connect(url).await.context("connecting to PostgreSQL")?;
        Ok(Db { engine: Engine::Postgres, readers: shared.clone(), writers: shared })
    }

    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// For reading only; what it sees is committed.
    pub async fn read(&self) -> sqlx::Result<PoolConnection<Any>> {
        self.readers.acquire().await
    }

    pub async fn begin(&self) -> sqlx::Result<Tx> {
        self.writers.begin().await
    }

    /// Writes everything committed so far to a new SQLite file, while others go on reading and writing. Only for SQLite.
    pub async fn copy_to(&self, path: &Path) -> anyhow::Result<()> {
        anyhow::ensure!(self.engine == Engine::Sqlite, "PostgreSQL has its own tools for copies");
        let text =
            path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?;
        let mut connection = self.read().await?;
        let copy = sqlx::query("VACUUM INTO $1").bind(text.to_owned());
        copy.execute(&mut *connection)
            .await
            .with_context(|| format!("copying a database to {text}"))?;
        Ok(())
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// A connection that is still within a transaction when its turn comes goes: SQLite ends a transaction by itself when the
/// disk is full, and sqlx, whose own end of it then fails, would take every later one for a part of it and never commit.
fn pool(most: u32) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .before_acquire(|connection, _| {
            let fresh = !connection.is_in_transaction();
            Box::pin(async move { Ok(fresh) })
        })
        .max_connections(most)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(None)
        .max_lifetime(None)
}

async fn pragmas(connection: &mut Connection) -> sqlx::Result<()> {
    const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                           PRAGMA busy_timeout = 30000; PRAGMA cache_size = -2048";
    connection.execute(sqlx::raw_sql(PRAGMAS)).await.map(drop)
}

/// Whether the error says that a unique key is taken.
pub fn is_taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(cause) if cause.is_unique_violation())
}

/// Whether the error says that there is no room on the disk.
pub fn is_full(error: &sqlx::Error) -> bool {
    const SQLITE_FULL: &str = "13";
    const POSTGRES_DISK_FULL: &str = "53100";
    let sqlx::Error::Database(cause) = error else { return false };
    cause.code().is_some_and(|code| code == SQLITE_FULL || code == POSTGRES_DISK_FULL)
}

/// Whether the error says that the database cannot be reached, or that nobody is let in now.
pub fn is_away(error: &sqlx::Error) -> bool {
    // Connections refused or ended by the server: too many, shutting down, crashed, starting.
    const POSTGRES_AWAY: [&str; 4] = ["53300", "57P01", "57P02", "57P03"];
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed => true,
        sqlx::Error::Database(cause) => {
            cause.code().is_some_and(|code| POSTGRES_AWAY.contains(&&*code))
        }
        _ => false,
    }
}

/// `$3, $4, $5` for `count` parameters from number `first` on. An empty list is `NULL`, which no value equals.
pub fn placeholders(first: usize, count: usize) -> String {
    if count == 0 {
        return "NULL".to_owned();
    }
    (first..first + count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_on() {
        assert_eq!(placeholders(3, 3), "$3, $4, $5");
        assert_eq!(placeholders(1, 0), "NULL");
    }

    /// WAL with `synchronous = FULL` syncs the log at every commit, before it is acknowledged.
    #[tokio::test]
    async fn every_commit_to_a_file_is_synced() {
        let db = testing::sqlite().await;
        let mut writer = db.begin().await.unwrap();
        let mut reader = db.read().await.unwrap();
        for connection in [&mut *writer, &mut *reader] {
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            let synchronous: i64 =
                sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await.unwrap();
            assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        }
    }

    #[tokio::test]
    async fn a_copy_is_whole_while_a_writer_writes() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_file(&folder.path().join("a.db")).await.unwrap();
        let table = [Migration { name: "0001", sql: "CREATE TABLE things (size BIGINT NOT NULL)" }];
        db.migrate("test", &table).await.unwrap();
        let insert = "INSERT INTO things (size) VALUES (1)";
        let mut tx = db.begin().await.unwrap();
        sqlx::query(insert).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let mut open = db.begin().await.unwrap();
        sqlx::query(insert).execute(&mut *open).await.unwrap();
        let path = folder.path().join("b.db");
        db.copy_to(&path).await.unwrap();
        open.commit().await.unwrap();
        let copy = Db::open_file(&path).await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM things")
            .fetch_one(&mut *copy.read().await.unwrap())
            .await
            .unwrap();
        assert_eq!(count, 1, "what is not committed is not in the copy");
        assert!(db.copy_to(&path).await.is_err(), "a file that is there is not written over");
    }

    #[tokio::test]
    async fn a_full_disk_is_told_from_other_errors() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_file(&folder.path().join("a.db")).await.unwrap();
        let table = [Migration { name: "0001", sql: "CREATE TABLE things (bytes TEXT NOT NULL)" }];
        db.migrate("test", &table).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        // SQLite says the same for its own limit as for the disk's.
        sqlx::query("PRAGMA max_page_count = 1").execute(&mut *tx).await.unwrap();
        let insert =
            sqlx::query("INSERT INTO things (bytes) VALUES ($1)").bind("x".repeat(100_000));
        assert!(is_full(&insert.execute(&mut *tx).await.unwrap_err()));
        let wrong = sqlx::query("INSERT INTO nothing VALUES (1)").execute(&mut *tx).await;
        assert!(!is_full(&wrong.unwrap_err()));
    }

    #[tokio::test]
    async fn what_is_committed_after_a_full_disk_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_file(&folder.path().join("a.db")).await.unwrap();
        let table = [Migration { name: "0001", sql: "CREATE TABLE things (bytes TEXT NOT NULL)" }];
        db.migrate("test", &table).await.unwrap();
        let insert = |size: usize| {
            sqlx::query("INSERT INTO things (bytes) VALUES ($1)").bind("x".repeat(size))
        };
        let mut tx = db.begin().await.unwrap();
        sqlx::query("PRAGMA max_page_count = 8").execute(&mut *tx).await.unwrap();
        assert!(is_full(&insert(100_000).execute(&mut *tx).await.unwrap_err()));
        drop(tx);
        // One that somebody gave up, and one that counts.
        drop(db.begin().await.unwrap());
        let mut tx = db.begin().await.unwrap();
        insert(1).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM things")
            .fetch_one(&mut *db.read().await.unwrap())
            .await
            .unwrap();
        assert_eq!(count, 1);
    }

    #[tokio::test]
    async fn both_engines_take_the_common_text() {
        for db in testing::databases().await {
            let first = [Migration {
                name: "0001_first",
                sql: "CREATE TABLE things (id $ID, name TEXT NOT NULL UNIQUE, size BIGINT NOT NULL)",
            }];
            db.migrate("test", &first).await.unwrap();
            db.migrate("test", &first).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            for (name, size) in [("a", 1_i64), ("b", 2)] {
                let insert = sqlx::query("INSERT INTO things (name, size) VALUES ($1, $2)")
                    .bind(name)
                    .bind(size);
                insert.execute(&mut *tx).await.unwrap();
            }
            tx.commit().await.unwrap();
            let mut tx = db.begin().await.unwrap();
            let again = sqlx::query("INSERT INTO things (name, size) VALUES ('a', 3)")
                .execute(&mut *tx)
                .await;
            assert!(is_taken(&again.unwrap_err()));
            drop(tx);
            let mut connection = db.read().await.unwrap();
            let sum: i64 = sqlx::query_scalar("SELECT CAST(SUM(size) AS BIGINT) FROM things")
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            assert_eq!(sum, 3);
            let newer = db.migrate("test", &[]).await.unwrap_err();
            assert!(newer.to_string().contains("newer version"), "{newer:#}");
        }
    }
}
