//! Packages: what a developer uploaded, or the image they named.

use base::Timestamp;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Stored, query};

pub const READY: &str = "READY";
pub const AWAITING_UPLOAD: &str = "AWAITING_UPLOAD";
/// Its bits were no good.
pub const FAILED: &str = "FAILED";

#[derive(Clone, Debug)]
pub struct Package {
    pub guid: String,
    pub app_guid: String,
    /// `bits` or `docker`.
    pub kind: String,
    pub state: String,
    pub sha256: Option<String>,
    pub error: Option<String>,
    pub docker_image: Option<String>,
    pub docker_username: Option<String>,
    pub sealed_docker_password: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for Package {
    const TABLE: &'static str = "packages";
    const COLUMNS: &'static str = "packages.*";
    const FROM: &'static str = "packages JOIN apps a ON a.guid = packages.app_guid";

    fn read(row: &Row) -> Result<Package> {
        Ok(Package {
            guid: row.text("guid")?,
            app_guid: row.text("app_guid")?,
            kind: row.text("type")?,
            state: row.text("state")?,
            sha256: row.maybe_text("sha256")?,
            error: row.maybe_text("error")?,
            docker_image: row.maybe_text("docker_image")?,
            docker_username: row.maybe_text("docker_username")?,
            sealed_docker_password: row.maybe_text("sealed_docker_password")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Package>> {
    super::find(connection, guid).await
}

pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    app: &str,
    kind: &str,
    state: &str,
    mut columns: Vec<(&str, Arg)>,
) -> Result<String> {
    columns.extend([("app_guid", app.into()), ("type", kind.into()), ("state", state.into())]);
    super::insert_new(connection, now, "packages", columns).await
}

pub async fn update(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    set: Vec<(&str, Arg)>,
) -> Result<()> {
    super::change(connection, now, "packages", guid, set).await
}

/// Sets columns of a package that waits for its bits; `false` when it does not wait (any more).
pub async fn receive(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    set: Vec<(&str, Arg)>,
) -> Result<bool> {
    // The lock that comes with the first change decides between two uploads at once.
    let text = "UPDATE packages SET updated_at = $1 WHERE guid = $2 AND state = $3";
    let touched = query(text, [now.into(), guid.into(), AWAITING_UPLOAD.into()]);
    if touched.run(connection).await? == 0 {
        return Ok(false);
    }
    update(connection, now, guid, set).await.map(|()| true)
}
