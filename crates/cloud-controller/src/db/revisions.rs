//! Revisions: what an app ran at some time, kept so that it can run again.

use base::Timestamp;
use serde_json::Value;
use sql::Connection;

use super::{Columns as _, Result, Row, metadata, query};

/// How many an app keeps.
const KEPT: i64 = 100;

#[derive(Clone, Debug)]
pub struct Revision {
    pub guid: String,
    pub app_guid: String,
    pub version: i64,
    pub droplet_guid: Option<String>,
    pub sealed_env: Option<String>,
    /// Type to the command the user gave, or null.
    pub commands: Value,
    /// `[{name, command, process_types, memory_in_mb}]`.
    pub sidecars: Value,
}

impl Revision {
    /// The command the user had given for a type.
    pub fn command(&self, kind: &str) -> Option<String> {
        self.commands.get(kind).and_then(Value::as_str).map(str::to_owned)
    }
}

pub fn read(row: &Row) -> Result<Revision> {
    Ok(Revision {
        guid: row.text("guid")?,
        app_guid: row.text("app_guid")?,
        version: row.int("version")?,
        droplet_guid: row.maybe_text("droplet_guid")?,
        sealed_env: row.maybe_text("sealed_env")?,
        commands: row.json("commands")?,
        sidecars: row.json("sidecars")?,
    })
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Revision>> {
    let row = query("SELECT * FROM revisions WHERE guid = $1", [guid.into()])
        .optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

pub async fn latest(connection: &mut Connection, app: &str) -> Result<Option<Revision>> {
    let text = "SELECT * FROM revisions WHERE app_guid = $1 ORDER BY version DESC LIMIT 1";
    query(text, [app.into()]).optional(connection).await?.as_ref().map(read).transpose()
}

/// Keeps a new one, and forgets the oldest that no process belongs to when there are too many.
pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    revision: &Revision,
    description: &str,
) -> Result<()> {
    let columns = vec![
        ("guid", (&revision.guid).into()),
        ("app_guid", (&revision.app_guid).into()),
        ("version", revision.version.into()),
        ("droplet_guid", (&revision.droplet_guid).into()),
        ("sealed_env", (&revision.sealed_env).into()),
        ("commands", (&revision.commands).into()),
        ("sidecars", (&revision.sidecars).into()),
        ("description", description.into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ];
    super::insert(connection, "revisions", columns).await?;
    let old = "SELECT guid FROM revisions WHERE app_guid = $1 AND version <= $2 AND guid NOT IN \
               (SELECT revision_guid FROM processes WHERE app_guid = $1 AND revision_guid IS NOT NULL)";
    let args = [(&revision.app_guid).into(), (revision.version - KEPT).into()];
    for row in query(old, args).all(connection).await? {
        let guid = row.text("guid")?;
        metadata::remove(connection, "revision", &guid).await?;
        super::delete(connection, "revisions", "guid", &guid).await?;
    }
    Ok(())
}

/// The app's sidecars as a revision keeps them.
pub async fn sidecars(connection: &mut Connection, app: &str) -> Result<Value> {
    let text = "SELECT name, command, process_types, memory_mb FROM sidecars WHERE app_guid = $1 ORDER BY name";
    let rows = query(text, [app.into()]).all(connection).await?;
    let show = |row: &Row| {
        Ok(serde_json::json!({
            "name": row.text("name")?,
            "command": row.text("command")?,
            "process_types": row.texts("process_types")?,
            "memory_in_mb": row.maybe_int("memory_mb")?,
        }))
    };
    rows.iter().map(show).collect()
}
