//! Databases for tests: a fresh SQLite file, and a fresh database on a real PostgreSQL where one is given.

use std::sync::Once;

use sqlx::{AssertSqlSafe, Executor as _};

use crate::Db;

/// Names a superuser's connection to a PostgreSQL that tests may fill: `postgres://USER@HOST:PORT/postgres`.
pub const POSTGRES: &str = "CUPOLA_TEST_POSTGRES";

/// One empty database on each engine; without [`POSTGRES`] SQLite alone, and a line that says so.
pub async fn databases() -> Vec<Db> {
    let mut databases = vec![sqlite().await];
    databases.extend(postgres().await);
    databases
}

/// An empty SQLite database in a temporary folder, which the system cleans up.
pub async fn sqlite() -> Db {
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    Db::open_file(&folder.join("test.db")).await.expect("a new SQLite file opens")
}

/// An empty PostgreSQL database, or `None` when no server is given.
pub async fn postgres() -> Option<Db> {
    static ALOUD: Once = Once::new();
    let Ok(server) = std::env::var(POSTGRES) else {
        ALOUD.call_once(|| {
            eprintln!("SKIPPED on PostgreSQL: {POSTGRES} is not set (`make test` sets it)")
        });
        return None;
    };
    let admin = Db::open(&server).await.expect("the given PostgreSQL answers");
    let name = format!("test_{}", base::new_guid().replace('-', ""));
    let mut connection = admin.read().await.expect("a connection");
    let create = format!("CREATE DATABASE {name}");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(create))).await.expect("a new database");
    drop(connection);
    admin.close().await;
    let (address, _) = server.rsplit_once('/').expect("the address names a database");
    Some(Db::open(&format!("{address}/{name}")).await.expect("the new database opens"))
}
