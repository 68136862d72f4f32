//! Apps: the thing a developer pushes; its processes run it.

use base::Timestamp;
use serde_json::Value;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Stored, query};
use crate::logs::AppNames;

#[derive(Clone, Debug)]
pub struct App {
    pub guid: String,
    pub name: String,
    pub space_guid: String,
    pub state: String,
    pub lifecycle: String,
    pub stack: Option<String>,
    pub buildpacks: Vec<String>,
    pub sealed_env: Option<String>,
    pub droplet_guid: Option<String>,
    /// `None` = what the platform says by default.
    pub enable_ssh: Option<bool>,
    pub revisions_enabled: bool,
    pub service_binding_k8s: bool,
    pub file_based_vcap_services: bool,
    /// Digest of the build artifacts cache, when there is one.
    pub buildpack_cache: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl App {
    pub fn is_started(&self) -> bool {
        self.state == STARTED
    }
}

pub const STARTED: &str = "STARTED";
pub const STOPPED: &str = "STOPPED";

impl Stored for App {
    const TABLE: &'static str = "apps";
    const COLUMNS: &'static str = "apps.*";

    fn read(row: &Row) -> Result<App> {
        Ok(App {
            guid: row.text("guid")?,
            name: row.text("name")?,
            space_guid: row.text("space_guid")?,
            state: row.text("state")?,
            lifecycle: row.text("lifecycle")?,
            stack: row.maybe_text("stack")?,
            buildpacks: row.texts("buildpacks")?,
            sealed_env: row.maybe_text("sealed_env")?,
            droplet_guid: row.maybe_text("droplet_guid")?,
            enable_ssh: row.maybe_int("enable_ssh")?.map(|value| value != 0),
            revisions_enabled: row.flag("revisions_enabled")?,
            service_binding_k8s: row.flag("service_binding_k8s")?,
            file_based_vcap_services: row.flag("file_based_vcap_services")?,
            buildpack_cache: row.maybe_text("buildpack_cache")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<App>> {
    super::find(connection, guid).await
}

pub async fn find_by_name(
    connection: &mut Connection,
    space: &str,
    name: &str,
) -> Result<Option<App>> {
    let text = "SELECT * FROM apps WHERE space_guid = $1 AND name = $2";
    let row = query(text, [space.into(), name.into()]).optional(connection).await?;
    row.as_ref().map(App::read).transpose()
}

/// What a new app is made of.
#[derive(Clone, Debug, Default)]
pub struct NewApp {
    pub name: String,
    pub space_guid: String,
    pub lifecycle: String,
    pub stack: Option<String>,
    pub buildpacks: Vec<String>,
    pub sealed_env: Option<String>,
}

pub async fn insert(connection: &mut Connection, now: Timestamp, new: &NewApp) -> Result<String> {
    let columns = vec![
        ("name", (&new.name).into()),
        ("space_guid", (&new.space_guid).into()),
        ("lifecycle", (&new.lifecycle).into()),
        ("stack", (&new.stack).into()),
        ("buildpacks", (&new.buildpacks).into()),
        ("sealed_env", (&new.sealed_env).into()),
    ];
    super::insert_new(connection, now, "apps", columns).await
}

/// Sets columns and the time of the change.
pub async fn update(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    set: Vec<(&str, Arg)>,
) -> Result<()> {
    super::change(connection, now, "apps", guid, set).await
}

const NAMES: &str = "SELECT a.guid AS app_guid, a.name AS app_name, s.guid AS space_guid, s.name AS space_name, \
                     o.guid AS org_guid, o.name AS org_name FROM apps a JOIN spaces s ON s.guid = a.space_guid \
                     JOIN organizations o ON o.guid = s.org_guid WHERE a.guid = $1";

/// The app's names and those of where it lies; all but the guid empty when it is gone.
pub async fn names(connection: &mut Connection, guid: &str) -> Result<AppNames> {
    match query(NAMES, [guid.into()]).optional(connection).await? {
        Some(row) => read_names(&row),
        None => Ok(AppNames { app_guid: guid.to_owned(), ..AppNames::default() }),
    }
}

/// From columns `app_guid`, `app_name`, `space_guid`, `space_name`, `org_guid`, `org_name`.
pub fn read_names(row: &Row) -> Result<AppNames> {
    Ok(AppNames {
        app_guid: row.text("app_guid")?,
        app_name: row.text("app_name")?,
        space_guid: row.text("space_guid")?,
        space_name: row.text("space_name")?,
        org_guid: row.text("org_guid")?,
        org_name: row.text("org_name")?,
    })
}

/// Names of enabled buildpacks that an app can name, and of stacks.
pub async fn known_buildpacks(connection: &mut Connection) -> Result<Vec<String>> {
    let rows = query("SELECT DISTINCT name FROM buildpacks", []).all(connection).await?;
    rows.iter().map(|row| row.text("name")).collect()
}

pub async fn stack_exists(connection: &mut Connection, name: &str) -> Result<bool> {
    Ok(query("SELECT name FROM stacks WHERE name = $1", [name.into()])
        .optional(connection)
        .await?
        .is_some())
}

/// The sealed variables that all apps get, `running` or `staging`.
pub async fn variable_group(connection: &mut Connection, name: &str) -> Result<Option<String>> {
    let text = "SELECT sealed_env FROM environment_variable_groups WHERE name = $1";
    let row = query(text, [name.into()]).optional(connection).await?;
    Ok(row.map(|row| row.maybe_text("sealed_env")).transpose()?.flatten())
}

/// The document's value of an object's text keys.
pub fn as_texts(value: &Value) -> impl Iterator<Item = (&str, String)> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(name, value)| {
        (name.as_str(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    })
}
