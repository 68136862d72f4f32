//! Tasks: a droplet run once with a command of its own.

use base::Timestamp;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Stored, query};

pub const PENDING: &str = "PENDING";
pub const RUNNING: &str = "RUNNING";
pub const CANCELING: &str = "CANCELING";
pub const SUCCEEDED: &str = "SUCCEEDED";
pub const FAILED: &str = "FAILED";

/// The states that are not yet the end.
const OPEN: &str = "('PENDING', 'RUNNING', 'CANCELING')";

#[derive(Clone, Debug)]
pub struct Task {
    pub guid: String,
    pub app_guid: String,
    /// Counted per app, from 1.
    pub sequence_id: i64,
    pub name: String,
    pub command: String,
    pub run_as: Option<String>,
    pub state: String,
    pub memory_mb: i64,
    pub disk_mb: i64,
    pub log_rate: i64,
    pub droplet_guid: String,
    pub failure_reason: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for Task {
    const TABLE: &'static str = "tasks";
    const COLUMNS: &'static str = "tasks.*";
    const FROM: &'static str = "tasks JOIN apps a ON a.guid = tasks.app_guid";

    fn read(row: &Row) -> Result<Task> {
        Ok(Task {
            guid: row.text("guid")?,
            app_guid: row.text("app_guid")?,
            sequence_id: row.int("sequence_id")?,
            name: row.text("name")?,
            command: row.text("command")?,
            run_as: row.maybe_text("run_as")?,
            state: row.text("state")?,
            memory_mb: row.int("memory_mb")?,
            disk_mb: row.int("disk_mb")?,
            log_rate: row.int("log_rate")?,
            droplet_guid: row.text("droplet_guid")?,
            failure_reason: row.maybe_text("failure_reason")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Task>> {
    super::find(connection, guid).await
}

/// The number of the app's next task. Two at once collide on the unique key, and one of them is told to try again.
pub async fn next_sequence(connection: &mut Connection, app: &str) -> Result<i64> {
    let text = "SELECT COALESCE(MAX(sequence_id), 0) + 1 AS next FROM tasks WHERE app_guid = $1";
    query(text, [app.into()]).one(connection).await?.int("next")
}

/// Those of an app that have not ended.
pub async fn open_of_app(connection: &mut Connection, app: &str) -> Result<Vec<Task>> {
    let text = format!("SELECT * FROM tasks WHERE app_guid = $1 AND state IN {OPEN} ORDER BY id");
    query(&text, [app.into()]).all(connection).await?.iter().map(Task::read).collect()
}

/// Guids of those that Diego has not taken and that were made before `before`, oldest first.
pub async fn pending_since(connection: &mut Connection, before: Timestamp) -> Result<Vec<String>> {
    let text =
        "SELECT guid FROM tasks WHERE state = 'PENDING' AND created_at < $1 ORDER BY id LIMIT 5000";
    let rows = query(text, [before.into()]).all(connection).await?;
    rows.iter().map(|row| row.text("guid")).collect()
}

/// Guids of those that have not ended and were made before `before`, oldest first.
pub async fn open_since(connection: &mut Connection, before: Timestamp) -> Result<Vec<String>> {
    let text = format!(
        "SELECT guid FROM tasks WHERE state IN {OPEN} AND created_at < $1 ORDER BY id LIMIT 5000"
    );
    query(&text, [before.into()])
        .all(connection)
        .await?
        .iter()
        .map(|row| row.text("guid"))
        .collect()
}

pub async fn insert(connection: &mut Connection, task: &Task) -> Result<()> {
    let columns: Vec<(&str, Arg)> = vec![
        ("guid", (&task.guid).into()),
        ("app_guid", (&task.app_guid).into()),
        ("sequence_id", task.sequence_id.into()),
        ("name", (&task.name).into()),
        ("command", (&task.command).into()),
        ("run_as", (&task.run_as).into()),
        ("state", (&task.state).into()),
        ("memory_mb", task.memory_mb.into()),
        ("disk_mb", task.disk_mb.into()),
        ("log_rate", task.log_rate.into()),
        ("droplet_guid", (&task.droplet_guid).into()),
        ("created_at", task.created_at.into()),
        ("updated_at", task.updated_at.into()),
    ];
    super::insert(connection, "tasks", columns).await
}

/// From one of `from` to `to`; `false` when it was in none of them, because somebody else moved it.
pub async fn advance(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    from: &[&str],
    to: &str,
    failure_reason: Option<&str>,
) -> Result<bool> {
    let from = from.iter().map(|state| format!("'{state}'")).collect::<Vec<_>>().join(", ");
    let text = format!(
        "UPDATE tasks SET state = $1, failure_reason = $2, updated_at = $3 WHERE guid = $4 AND state IN ({from})"
    );
    let args = [to.into(), failure_reason.into(), now.into(), guid.into()];
    Ok(query(&text, args).run(connection).await? > 0)
}
