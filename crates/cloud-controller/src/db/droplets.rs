//! Droplets: what staging makes of a package, ready to run.

use base::Timestamp;
use serde_json::{Value, json};
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Stored};

pub const STAGED: &str = "STAGED";

#[derive(Clone, Debug)]
pub struct Droplet {
    pub guid: String,
    pub app_guid: String,
    pub package_guid: Option<String>,
    pub state: String,
    pub error: Option<String>,
    pub lifecycle: String,
    pub stack: Option<String>,
    /// `[{name, detect_output, buildpack_name, version}]`.
    pub buildpacks: Value,
    /// Type to start command; null before staging.
    pub process_types: Value,
    /// `[{name, command, process_types, memory}]`.
    pub sidecars: Value,
    pub execution_metadata: String,
    pub sha256: Option<String>,
    pub docker_image: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for Droplet {
    const TABLE: &'static str = "droplets";
    const COLUMNS: &'static str = "droplets.*";
    const FROM: &'static str = "droplets JOIN apps a ON a.guid = droplets.app_guid";

    fn read(row: &Row) -> Result<Droplet> {
        Ok(Droplet {
            guid: row.text("guid")?,
            app_guid: row.text("app_guid")?,
            package_guid: row.maybe_text("package_guid")?,
            state: row.text("state")?,
            error: row.maybe_text("error")?,
            lifecycle: row.text("lifecycle")?,
            stack: row.maybe_text("stack")?,
            buildpacks: row.json("buildpacks")?,
            process_types: row.json("process_types")?,
            sidecars: row.json("sidecars")?,
            execution_metadata: row.text("execution_metadata")?,
            sha256: row.maybe_text("sha256")?,
            docker_image: row.maybe_text("docker_image")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Droplet>> {
    super::find(connection, guid).await
}

/// An empty one; what it holds is set later.
pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    app: &str,
    state: &str,
    lifecycle: &str,
    mut columns: Vec<(&str, Arg)>,
) -> Result<String> {
    columns.extend([
        ("app_guid", app.into()),
        ("state", state.into()),
        ("lifecycle", lifecycle.into()),
    ]);
    super::insert_new(connection, now, "droplets", columns).await
}

pub async fn update(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    set: Vec<(&str, Arg)>,
) -> Result<()> {
    super::change(connection, now, "droplets", guid, set).await
}

/// The droplet's columns that a copy takes over.
pub fn copied(droplet: &Droplet) -> Vec<(&'static str, Arg)> {
    let process_types =
        if droplet.process_types.is_null() { json!({}) } else { droplet.process_types.clone() };
    vec![
        ("stack", (&droplet.stack).into()),
        ("buildpacks", (&droplet.buildpacks).into()),
        ("process_types", (&process_types).into()),
        ("sidecars", (&droplet.sidecars).into()),
        ("execution_metadata", (&droplet.execution_metadata).into()),
        ("sha256", (&droplet.sha256).into()),
        ("docker_image", (&droplet.docker_image).into()),
    ]
}
