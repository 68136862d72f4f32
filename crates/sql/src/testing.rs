//! Databases for tests: a fresh SQLite file, and a fresh database on a real PostgreSQL where one is given.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};

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

/// An empty SQLite database, in a folder that the next tests remove.
pub async fn sqlite() -> Db {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(folder);
    let path = FOLDER.join(format!("{}.db", base::new_guid()));
    Db::open_file(&path).await.expect("a new SQLite file opens")
}

/// This process's folder. A test process cannot know which test is its last, so each removes what ended ones left.
fn folder() -> PathBuf {
    let all = std::env::temp_dir().join("cupola-sql-tests");
    let own = all.join(std::process::id().to_string());
    std::fs::create_dir_all(&own).expect("a temporary folder");
    for entry in std::fs::read_dir(&all).expect("a temporary folder").flatten() {
        let alive = Path::new("/proc").join(entry.file_name()).exists();
        if !alive {
            // Another test process may be removing it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    own
}

/// An empty PostgreSQL database, or `None` when no server is given.
pub async fn postgres() -> Option<Db> {
    let url = postgres_url().await?;
    Some(Db::open(&url).await.expect("the new database opens"))
}

/// The address of an empty PostgreSQL database for a process of its own, or `None` when no server is given.
pub async fn postgres_url() -> Option<String> {
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
    Some(format!("{address}/{name}"))
}
