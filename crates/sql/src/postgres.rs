//! The way to a PostgreSQL server: whose address it is, and what is said when it does not let anybody in.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::{Connection, Db, Engine, pool};

/// Connections that one owner keeps at most; whoever comes then waits.
const CONNECTIONS: u32 = 10;
/// A connection that nobody used for so long is closed: many processes share a server's.
const IDLE: Duration = Duration::from_secs(60);
/// Who waits for a connection for so long, because all are taken or the server is away, gets an error.
const ACQUIRE: Duration = Duration::from_secs(8);
/// A server that says nothing for so long counts as out of reach.
const CONNECT: Duration = Duration::from_secs(10);
/// The oldest that is tried: 13.
const OLDEST: i32 = 13;
/// Taken while tables are made or changed, so that of programs that start together one does it.
pub(crate) const MAKING: i64 = 0x6375_706f_6c61;

/// Where a PostgreSQL database is and how to get in, as a URL. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Postgres {
    url: String,
    shown: String,
}

impl Postgres {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with `?sslmode=` and `&sslrootcert=` as libpq knows them.
    ///
    /// # Errors
    /// When it is no such URL. The error never holds the URL: it may hold a password.
    pub fn parse(url: &str) -> anyhow::Result<Postgres> {
        const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        let ours = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        ensure!(ours, "it takes an address such as {FORM}");
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| anyhow!("{error}: it takes an address such as {FORM}"))?;
        ensure!(
            options.get_database().is_some_and(|name| !name.is_empty()),
            "it names no database: it takes an address such as {FORM}"
        );
        let shown = format!(
            "postgres://{}@{}:{}/{}",
            options.get_username(),
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or_default()
        );
        Ok(Postgres { url: url.to_owned(), shown })
    }

    /// With the password.
    pub fn expose(&self) -> &str {
        &self.url
    }

    /// Whether the way there stays on this machine.
    pub fn is_local(&self) -> bool {
        let host = self.shown.rsplit_once('@').map_or("", |(_, place)| place);
        let host = host.split('/').next().unwrap_or_default();
        ["127.", "localhost:", "[::1]", "::1:"].iter().any(|local| host.starts_with(local))
    }

    /// The part of the database that `name` names, made when absent: a schema, so that owners do not meet.
    ///
    /// # Errors
    /// Say what is in the way and what to do: out of reach, not let in, too old, no right to make a schema.
    pub async fn schema(&self, name: &'static str) -> anyhow::Result<Db> {
        self.prepare(name).await.with_context(|| format!("database {self}"))?;
        let path = format!("SET search_path TO {name}");
        let shared = pool(CONNECTIONS)
            .idle_timeout(IDLE)
            .acquire_timeout(ACQUIRE)
            .after_connect(move |connection, _| {
                let path = path.clone();
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(AssertSqlSafe(path))).await.map(drop)
                })
            })
            .connect_lazy(&self.url)?;
        Ok(Db { engine: Engine::Postgres, readers: shared.clone(), writers: shared })
    }

    /// Looks whether [`Postgres::schema`] would work for all of `schemas`, and changes nothing.
    ///
    /// # Errors
    /// As there.
    pub async fn examine(&self, schemas: &[&'static str]) -> anyhow::Result<Examined> {
        let (mut connection, version) = self.connect().await?;
        let is_encrypted: Option<bool> =
            sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                .fetch_optional(&mut connection)
                .await?;
        let may_make: bool =
            sqlx::query_scalar("SELECT has_database_privilege(current_database(), 'CREATE')")
                .fetch_one(&mut connection)
                .await?;
        for schema in schemas {
            match is_there(&mut connection, schema).await? {
                true => may_use(&mut connection, schema).await?,
                false if may_make => {}
                false => return Err(may_not_make(schema)),
            }
        }
        connection.close().await.context("closing a connection")?;
        Ok(Examined { version, is_encrypted: is_encrypted == Some(true) })
    }

    async fn prepare(&self, schema: &'static str) -> anyhow::Result<()> {
        let (mut connection, _) = self.connect().await?;
        make_schema(&mut connection, schema).await?;
        connection.close().await.context("closing a connection")
    }

    /// A connection, and which version answers.
    async fn connect(&self) -> anyhow::Result<(Connection, i32)> {
        sqlx::any::install_default_drivers();
        let connecting = tokio::time::timeout(CONNECT, Connection::connect(&self.url)).await;
        let mut connection = match connecting {
            Err(_) => bail!("no answer in {} s: {REACH}", CONNECT.as_secs()),
            Ok(Err(error)) => return Err(refused(&error)),
            Ok(Ok(connection)) => connection,
        };
        let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int4")
            .fetch_one(&mut connection)
            .await
            .context("asking for its version")?;
        let version = version / 10_000;
        ensure!(version >= OLDEST, "PostgreSQL {version} is too old: it takes {OLDEST} or newer");
        Ok((connection, version))
    }
}

/// What was found out about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Examined {
    pub version: i32,
    pub is_encrypted: bool,
}

impl std::fmt::Display for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

const REACH: &str = "see that the server runs, listens there and is reachable from this machine";

const TLS: &str = "check sslmode and sslrootcert in its address";

async fn make_schema(connection: &mut Connection, schema: &'static str) -> anyhow::Result<()> {
    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING).execute(&mut *tx).await?;
    if !is_there(&mut tx, schema).await? {
        let create = format!("CREATE SCHEMA {schema}");
        tx.execute(sqlx::raw_sql(AssertSqlSafe(create))).await.map_err(|error| {
            match code(&error).as_deref() {
                Some(NO_RIGHT) => may_not_make(schema),
                _ => anyhow!(error).context(format!("making the schema {schema}")),
            }
        })?;
    }
    may_use(&mut tx, schema).await?;
    tx.commit().await?;
    Ok(())
}

async fn is_there(connection: &mut Connection, schema: &'static str) -> sqlx::Result<bool> {
    let there: Option<i32> =
        sqlx::query_scalar("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1")
            .bind(schema)
            .fetch_optional(connection)
            .await?;
    Ok(there.is_some())
}

async fn may_use(connection: &mut Connection, schema: &'static str) -> anyhow::Result<()> {
    let may: bool =
        sqlx::query_scalar("SELECT has_schema_privilege(current_user, $1, 'CREATE, USAGE')")
            .bind(schema)
            .fetch_one(connection)
            .await?;
    ensure!(may, "this user may not make tables in the schema {schema}: it must own it");
    Ok(())
}

fn may_not_make(schema: &str) -> anyhow::Error {
    anyhow!(
        "this user may not make the schema {schema}: GRANT CREATE ON DATABASE … TO …, or let the \
         database's owner make it: CREATE SCHEMA {schema} AUTHORIZATION …"
    )
}

const NO_RIGHT: &str = "42501";

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// Why nobody was let in, and what to do.
fn refused(error: &sqlx::Error) -> anyhow::Error {
    match (error, code(error).as_deref()) {
        (_, Some("28P01" | "28000")) => {
            anyhow!("{error}: check user and password, and what the server's pg_hba.conf allows")
        }
        (_, Some("3D000")) => anyhow!("{error}: make it first (createdb), or name another"),
        (_, Some("53300")) => anyhow!("{error}: raise the server's max_connections"),
        // A certificate that nobody vouches for comes as unusable data.
        (sqlx::Error::Io(error), _) if error.kind() == std::io::ErrorKind::InvalidData => {
            anyhow!("{error}: {TLS}")
        }
        (sqlx::Error::Io(error), _) => anyhow!("{error}: {REACH}"),
        (sqlx::Error::Tls(error), _) => anyhow!("{error}: {TLS}"),
        _ => anyhow!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Migration, testing};

    #[test]
    fn the_password_is_never_shown() {
        let url = "postgres://me:pass%40word@db.example.com:5433/cupola?sslmode=require";
        let postgres = Postgres::parse(url).unwrap();
        assert_eq!(postgres.to_string(), "postgres://me@db.example.com:5433/cupola");
        assert!(!format!("{postgres:?}").contains("word"));
        for wrong in ["mysql://me:word@h/d", "postgres://me:word@h:port/d", "word"] {
            let error = format!("{:#}", Postgres::parse(wrong).unwrap_err());
            assert!(error.contains("postgres://USER") && !error.contains("me:word"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_said_with_the_remedy() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = format!("postgres://me@{}/cupola", free.local_addr().unwrap());
        drop(free);
        let error = Postgres::parse(&nobody).unwrap().schema("a").await.unwrap_err();
        assert!(format!("{error:#}").contains("see that the server runs"), "{error:#}");
        let Some(url) = testing::postgres_url().await else { return };
        let (server, _) = url.rsplit_once('/').unwrap();
        let missing = Postgres::parse(&format!("{server}/nowhere")).unwrap();
        let error = missing.schema("a").await.unwrap_err();
        assert!(format!("{error:#}").contains("createdb"), "{error:#}");
        let own = Postgres::parse(&url).unwrap();
        let role = format!("role_{}", base::new_guid().replace('-', ""));
        let examined = own.examine(&["a"]).await.unwrap();
        assert!(examined.version >= OLDEST && !examined.is_encrypted);
        let db = own.schema("a").await.unwrap();
        own.examine(&["a"]).await.unwrap();
        let mut connection = db.read().await.unwrap();
        let create = format!("CREATE ROLE {role} LOGIN");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(create))).await.unwrap();
        let (_, place) = url.split_once('@').unwrap();
        let guest = Postgres::parse(&format!("postgres://{role}@{place}")).unwrap();
        for (schema, said) in [("b", "may not make the schema b"), ("a", "must own it")] {
            for error in [
                guest.schema(schema).await.unwrap_err(),
                guest.examine(&[schema]).await.unwrap_err(),
            ] {
                assert!(format!("{error:#}").contains(said), "{error:#}");
            }
        }
        let drop_role = format!("DROP ROLE {role}");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(drop_role))).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_told_from_other_errors() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = format!("postgres://me@{}/cupola", free.local_addr().unwrap());
        drop(free);
        sqlx::any::install_default_drivers();
        assert!(crate::is_away(&Connection::connect(&nobody).await.unwrap_err()));
        let db = testing::sqlite().await;
        let wrong = sqlx::query("SELECT nothing").execute(&mut *db.read().await.unwrap()).await;
        assert!(!crate::is_away(&wrong.unwrap_err()));
    }

    #[tokio::test]
    async fn owners_do_not_meet_and_those_who_start_together_make_the_tables_once() {
        let Some(url) = testing::postgres_url().await else { return };
        let postgres = Postgres::parse(&url).unwrap();
        let make = [
            Migration { name: "0001", sql: "CREATE TABLE things (size BIGINT NOT NULL)" },
            Migration { name: "0002", sql: "INSERT INTO things (size) VALUES (1)" },
        ];
        let start = |schema: &'static str| {
            let postgres = postgres.clone();
            tokio::spawn(async move {
                let db = postgres.schema(schema).await.unwrap();
                db.migrate("test", &make).await.unwrap();
                let mut connection = db.read().await.unwrap();
                sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM things")
                    .fetch_one(&mut *connection)
                    .await
                    .unwrap()
            })
        };
        let starts: Vec<_> = ["one", "two", "one", "two", "one"].map(start).into();
        for count in futures::future::join_all(starts).await {
            assert_eq!(count.unwrap(), 1);
        }
    }
}
