//! Builds: a package on its way to a droplet.

use base::Timestamp;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Stored, query};

pub const STAGING: &str = "STAGING";
pub const STAGED: &str = "STAGED";
pub const FAILED: &str = "FAILED";

#[derive(Clone, Debug)]
pub struct Build {
    pub guid: String,
    pub app_guid: String,
    pub package_guid: String,
    pub droplet_guid: Option<String>,
    pub state: String,
    pub error_id: Option<String>,
    pub error_description: Option<String>,
    pub lifecycle: String,
    pub stack: Option<String>,
    pub buildpacks: Vec<String>,
    pub memory_mb: i64,
    pub disk_mb: i64,
    pub log_rate: i64,
    pub created_by: (String, String, String),
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Build {
    pub fn is_final(&self) -> bool {
        self.state != STAGING
    }
}

impl Stored for Build {
    const TABLE: &'static str = "builds";
    const COLUMNS: &'static str = "builds.*";
    const FROM: &'static str = "builds JOIN apps a ON a.guid = builds.app_guid";

    fn read(row: &Row) -> Result<Build> {
        let text = |column: &str| Ok::<_, sqlx::Error>(row.maybe_text(column)?.unwrap_or_default());
        Ok(Build {
            guid: row.text("guid")?,
            app_guid: row.text("app_guid")?,
            package_guid: row.text("package_guid")?,
            droplet_guid: row.maybe_text("droplet_guid")?,
            state: row.text("state")?,
            error_id: row.maybe_text("error_id")?,
            error_description: row.maybe_text("error_description")?,
            lifecycle: row.text("lifecycle")?,
            stack: row.maybe_text("stack")?,
            buildpacks: row.texts("buildpacks")?,
            memory_mb: row.int("memory_mb")?,
            disk_mb: row.int("disk_mb")?,
            log_rate: row.int("log_rate")?,
            created_by: (
                text("created_by_guid")?,
                text("created_by_name")?,
                text("created_by_email")?,
            ),
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Build>> {
    super::find(connection, guid).await
}

/// Whether one of the app's builds is under way.
pub async fn is_staging(connection: &mut Connection, app: &str) -> Result<bool> {
    let text = "SELECT guid FROM builds WHERE app_guid = $1 AND state = 'STAGING' LIMIT 1";
    Ok(query(text, [app.into()]).optional(connection).await?.is_some())
}

/// Builds under way that began before `before`.
pub async fn staging_since(connection: &mut Connection, before: Timestamp) -> Result<Vec<Build>> {
    let text =
        "SELECT * FROM builds WHERE state = 'STAGING' AND created_at < $1 ORDER BY id LIMIT 1000";
    query(text, [before.into()]).all(connection).await?.iter().map(Build::read).collect()
}

pub async fn insert(connection: &mut Connection, build: &Build) -> Result<()> {
    let columns: Vec<(&str, Arg)> = vec![
        ("guid", (&build.guid).into()),
        ("app_guid", (&build.app_guid).into()),
        ("package_guid", (&build.package_guid).into()),
        ("droplet_guid", (&build.droplet_guid).into()),
        ("state", (&build.state).into()),
        ("lifecycle", (&build.lifecycle).into()),
        ("stack", (&build.stack).into()),
        ("buildpacks", (&build.buildpacks).into()),
        ("memory_mb", build.memory_mb.into()),
        ("disk_mb", build.disk_mb.into()),
        ("log_rate", build.log_rate.into()),
        ("created_by_guid", (&build.created_by.0).into()),
        ("created_by_name", (&build.created_by.1).into()),
        ("created_by_email", (&build.created_by.2).into()),
        ("created_at", build.created_at.into()),
        ("updated_at", build.updated_at.into()),
    ];
    super::insert(connection, "builds", columns).await
}

pub async fn update(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    set: Vec<(&str, Arg)>,
) -> Result<()> {
    super::change(connection, now, "builds", guid, set).await
}
