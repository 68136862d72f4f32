//! The Cloud Controller's tables, one module per resource, and what those modules share: building a statement whose
//! conditions are decided at run time, and reading columns.

pub mod access;
pub mod apps;
pub mod audit_events;
pub mod blobs;
pub mod buildpack_choice;
pub mod buildpacks;
pub mod builds;
pub mod deployments;
pub mod domains;
pub mod droplets;
pub mod feature_flags;
pub mod isolation_segments;
pub mod jobs;
pub mod metadata;
pub mod migrations;
pub mod organizations;
pub mod packages;
pub mod processes;
pub mod prune;
pub mod quota_usage;
pub mod quotas;
pub mod recipes;
pub mod resources;
pub mod revisions;
pub mod roles;
pub mod router_groups;
pub mod routes;
pub mod routing;
pub mod security_groups;
pub mod service_bindings;
pub mod service_instances;
pub mod spaces;
pub mod tasks;
pub mod usage;
pub mod usage_events;
pub mod users;

use std::collections::{BTreeSet, HashMap};

use base::Timestamp;
use serde_json::Value;
use sql::Connection;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row as _};

pub use sqlx::Error;
pub type Result<T> = sqlx::Result<T>;
pub type Row = AnyRow;

/// A value on its way into a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    Text(Option<String>),
    Int(Option<i64>),
}

macro_rules! arg {
    ($($from:ty, $value:ident => $arg:expr;)+) => {$(
        impl From<$from> for Arg {
            fn from($value: $from) -> Arg {
                $arg
            }
        }
    )+};
}

arg! {
    &str, value => Arg::Text(Some(value.to_owned()));
    &String, value => Arg::Text(Some(value.clone()));
    String, value => Arg::Text(Some(value));
    Option<String>, value => Arg::Text(value);
    Option<&str>, value => Arg::Text(value.map(str::to_owned));
    &Option<String>, value => Arg::Text(value.clone());
    i64, value => Arg::Int(Some(value));
    Option<i64>, value => Arg::Int(value);
    bool, value => Arg::Int(Some(i64::from(value)));
    Timestamp, value => Arg::Int(Some(value.as_nanos()));
    &Value, value => Arg::Text(Some(value.to_string()));
    &[String], value => Arg::Text(Some(Value::from(value.to_vec()).to_string()));
    &Vec<String>, value => Arg::Text(Some(Value::from(value.clone()).to_string()));
}

/// A statement under construction: its text, and the values of its `$1`, `$2`, ….
#[derive(Clone, Debug, Default)]
pub struct Sql {
    text: String,
    args: Vec<Arg>,
}

impl Sql {
    /// With `$1` and so on already in the text.
    pub fn with(text: impl Into<String>, args: impl IntoIterator<Item = Arg>) -> Sql {
        Sql { text: text.into(), args: args.into_iter().collect() }
    }

    pub fn push(&mut self, text: &str) -> &mut Sql {
        self.text.push_str(text);
        self
    }

    /// Takes a value and answers its placeholder.
    pub fn arg(&mut self, value: impl Into<Arg>) -> String {
        self.args.push(value.into());
        format!("${}", self.args.len())
    }

    /// `$3, $4, $5`, or `NULL` for none.
    pub fn list<T: Into<Arg>>(&mut self, values: impl IntoIterator<Item = T>) -> String {
        let first = self.args.len() + 1;
        self.args.extend(values.into_iter().map(Into::into));
        sql::placeholders(first, self.args.len() + 1 - first)
    }

    /// One line for each statement, for whoever wants to see or count them.
    fn traced(self) -> Sql {
        tracing::trace!(target: "cloud_controller::sql", statement = self.text);
        self
    }

    pub async fn all(self, connection: &mut Connection) -> Result<Vec<Row>> {
        let Sql { text, args } = self.traced();
        bind(sqlx::query(AssertSqlSafe(text)), args).fetch_all(connection).await
    }

    pub async fn optional(self, connection: &mut Connection) -> Result<Option<Row>> {
        let Sql { text, args } = self.traced();
        bind(sqlx::query(AssertSqlSafe(text)), args).fetch_optional(connection).await
    }

    pub async fn one(self, connection: &mut Connection) -> Result<Row> {
        let Sql { text, args } = self.traced();
        bind(sqlx::query(AssertSqlSafe(text)), args).fetch_one(connection).await
    }

    /// How many rows were touched.
    pub async fn run(self, connection: &mut Connection) -> Result<u64> {
        let Sql { text, args } = self.traced();
        let done = bind(sqlx::query(AssertSqlSafe(text)), args).execute(connection).await?;
        Ok(done.rows_affected())
    }
}

fn bind<'q>(query: Query<'q, Any, AnyArguments>, args: Vec<Arg>) -> Query<'q, Any, AnyArguments> {
    args.into_iter().fold(query, |query, arg| match arg {
        Arg::Text(value) => query.bind(value),
        Arg::Int(value) => query.bind(value),
    })
}

/// `query("SELECT … WHERE guid = $1", [guid.into()])`.
pub fn query(text: &str, args: impl IntoIterator<Item = Arg>) -> Sql {
    Sql::with(text, args)
}

/// `INSERT INTO table (…) VALUES (…)`.
pub async fn insert(
    connection: &mut Connection,
    table: &str,
    columns: Vec<(&str, Arg)>,
) -> Result<()> {
    let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let values = sql::placeholders(1, columns.len());
    let text = format!("INSERT INTO {table} ({names}) VALUES ({values})");
    Sql::with(text, columns.into_iter().map(|(_, arg)| arg)).run(connection).await.map(drop)
}

/// Inserts what begins to exist `now`, and answers the guid that it gets.
pub async fn insert_new(
    connection: &mut Connection,
    now: Timestamp,
    table: &str,
    mut columns: Vec<(&str, Arg)>,
) -> Result<String> {
    let guid = base::new_guid();
    columns.extend([
        ("guid", (&guid).into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ]);
    insert(connection, table, columns).await?;
    Ok(guid)
}

/// `UPDATE table SET … WHERE guid = …`; touches nothing when there is nothing to set.
pub async fn update(
    connection: &mut Connection,
    table: &str,
    guid: &str,
    columns: Vec<(&str, Arg)>,
) -> Result<()> {
    if columns.is_empty() {
        return Ok(());
    }
    let mut sql = Sql::default();
    let sets: Vec<String> =
        columns.into_iter().map(|(name, arg)| format!("{name} = {}", sql.arg(arg))).collect();
    let guid = sql.arg(guid);
    sql.push(&format!("UPDATE {table} SET {} WHERE guid = {guid}", sets.join(", ")));
    sql.run(connection).await.map(drop)
}

/// As [`update`], with the time of the change.
pub async fn change(
    connection: &mut Connection,
    now: Timestamp,
    table: &str,
    guid: &str,
    mut set: Vec<(&str, Arg)>,
) -> Result<()> {
    set.push(("updated_at", now.into()));
    update(connection, table, guid, set).await
}

/// `DELETE FROM table WHERE column = value`.
pub async fn delete(
    connection: &mut Connection,
    table: &str,
    column: &str,
    value: &str,
) -> Result<u64> {
    query(&format!("DELETE FROM {table} WHERE {column} = $1"), [value.into()]).run(connection).await
}

/// What a row says. `FROM` may join what decides who sees it.
pub trait Stored: Sized {
    const TABLE: &'static str;
    const COLUMNS: &'static str;
    const FROM: &'static str = Self::TABLE;

    fn read(row: &Row) -> Result<Self>;
}

/// The states of those of `guids` that are in `table`.
pub async fn states(
    connection: &mut Connection,
    table: &str,
    guids: &BTreeSet<&str>,
) -> Result<HashMap<String, String>> {
    let (mut found, guids) = (HashMap::new(), guids.iter().copied().collect::<Vec<&str>>());
    for some in guids.chunks(500) {
        let mut sql = Sql::default();
        let list = sql.list(some.iter().copied());
        sql.push(&format!("SELECT guid, state FROM {table} WHERE guid IN ({list})"));
        for row in sql.all(connection).await? {
            found.insert(row.text("guid")?, row.text("state")?);
        }
    }
    Ok(found)
}

pub async fn find<T: Stored>(connection: &mut Connection, guid: &str) -> Result<Option<T>> {
    let text = format!("SELECT {} FROM {} WHERE {}.guid = $1", T::COLUMNS, T::FROM, T::TABLE);
    query(&text, [guid.into()]).optional(connection).await?.as_ref().map(T::read).transpose()
}

/// In the order they were made; unknown guids are left out.
pub async fn find_many<T: Stored>(connection: &mut Connection, guids: &[String]) -> Result<Vec<T>> {
    if guids.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = Sql::default();
    let list = sql.list(guids);
    let (columns, from, table) = (T::COLUMNS, T::FROM, T::TABLE);
    sql.push(&format!(
        "SELECT {columns} FROM {from} WHERE {table}.guid IN ({list}) ORDER BY {table}.id"
    ));
    sql.all(connection).await?.iter().map(T::read).collect()
}

/// Columns by name, with the types this database uses.
pub trait Columns {
    fn text(&self, column: &str) -> Result<String>;
    fn maybe_text(&self, column: &str) -> Result<Option<String>>;
    fn int(&self, column: &str) -> Result<i64>;
    fn maybe_int(&self, column: &str) -> Result<Option<i64>>;
    /// A sum that may be beyond every number; the largest there is stands for those.
    fn sum(&self, column: &str) -> Result<i64>;
    fn flag(&self, column: &str) -> Result<bool>;
    fn moment(&self, column: &str) -> Result<Timestamp>;
    /// Text that holds JSON; null when absent.
    fn json(&self, column: &str) -> Result<Value>;
    /// Text that holds a JSON list of texts; empty when absent.
    fn texts(&self, column: &str) -> Result<Vec<String>>;
}

impl Columns for Row {
    fn text(&self, column: &str) -> Result<String> {
        self.try_get(column)
    }

    fn maybe_text(&self, column: &str) -> Result<Option<String>> {
        self.try_get(column)
    }

    fn int(&self, column: &str) -> Result<i64> {
        self.try_get(column)
    }

    fn maybe_int(&self, column: &str) -> Result<Option<i64>> {
        self.try_get(column)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the cast keeps to the largest number")]
    fn sum(&self, column: &str) -> Result<i64> {
        self.try_get::<f64, _>(column).map(|sum| sum as i64)
    }

    fn flag(&self, column: &str) -> Result<bool> {
        self.int(column).map(|value| value != 0)
    }

    fn moment(&self, column: &str) -> Result<Timestamp> {
        self.int(column).map(Timestamp::from_nanos)
    }

    fn json(&self, column: &str) -> Result<Value> {
        decoded(column, self.maybe_text(column)?.as_deref().unwrap_or("null"))
    }

    fn texts(&self, column: &str) -> Result<Vec<String>> {
        decoded(column, self.maybe_text(column)?.as_deref().unwrap_or("[]"))
    }
}

fn decoded<T: serde::de::DeserializeOwned>(column: &str, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|source| Error::ColumnDecode { index: column.to_owned(), source: source.into() })
}
