//! Credential bindings: an app's way to a service instance, or a key to it for people.

use std::collections::BTreeMap;

use base::Timestamp;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Sql, Stored, query};

pub const APP: &str = "app";
pub const KEY: &str = "key";

#[derive(Clone, Debug)]
pub struct Binding {
    pub guid: String,
    /// `app` or `key`.
    pub kind: String,
    pub name: Option<String>,
    pub service_instance_guid: String,
    /// `None` for keys.
    pub app_guid: Option<String>,
    pub sealed_credentials: Option<String>,
    pub syslog_drain_url: Option<String>,
    pub operation_type: String,
    pub operation_state: String,
    pub operation_description: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

pub const COLUMNS: &str = "service_credential_bindings.*";
pub const FROM: &str = "service_credential_bindings \
                        JOIN service_instances si ON si.guid = service_credential_bindings.service_instance_guid \
                        LEFT JOIN apps a ON a.guid = service_credential_bindings.app_guid";
/// The space that decides who sees a binding: the app's, else the instance's.
pub const SPACE: &str = "COALESCE(a.space_guid, si.space_guid)";

impl Stored for Binding {
    const TABLE: &'static str = "service_credential_bindings";
    const COLUMNS: &'static str = COLUMNS;
    const FROM: &'static str = FROM;

    fn read(row: &Row) -> Result<Binding> {
        Ok(Binding {
            guid: row.text("guid")?,
            kind: row.text("type")?,
            name: row.maybe_text("name")?,
            service_instance_guid: row.text("service_instance_guid")?,
            app_guid: Some(row.text("app_guid")?).filter(|guid| !guid.is_empty()),
            sealed_credentials: row.maybe_text("sealed_credentials")?,
            syslog_drain_url: row.maybe_text("syslog_drain_url")?,
            operation_type: row.text("operation_type")?,
            operation_state: row.text("operation_state")?,
            operation_description: row.text("operation_description")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    columns: Vec<(&str, Arg)>,
) -> Result<String> {
    super::insert_new(connection, now, "service_credential_bindings", columns).await
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Binding>> {
    super::find(connection, guid).await
}

pub async fn of_app_and_instance(
    connection: &mut Connection,
    app: &str,
    instance: &str,
) -> Result<Option<Binding>> {
    let text = "SELECT * FROM service_credential_bindings WHERE app_guid = $1 AND service_instance_guid = $2 ORDER BY id LIMIT 1";
    query(text, [app.into(), instance.into()])
        .optional(connection)
        .await?
        .as_ref()
        .map(Binding::read)
        .transpose()
}

/// Whether the app has a binding of that name already.
pub async fn is_name_taken(connection: &mut Connection, app: &str, name: &str) -> Result<bool> {
    let text =
        "SELECT guid FROM service_credential_bindings WHERE app_guid = $1 AND name = $2 LIMIT 1";
    Ok(query(text, [app.into(), name.into()]).optional(connection).await?.is_some())
}

/// An app's bindings with the instances behind them, oldest first.
pub async fn of_app(
    connection: &mut Connection,
    app: &str,
) -> Result<Vec<(Binding, super::service_instances::ServiceInstance)>> {
    let text = "SELECT * FROM service_credential_bindings WHERE app_guid = $1 ORDER BY id";
    let bindings = query(text, [app.into()])
        .all(connection)
        .await?
        .iter()
        .map(Binding::read)
        .collect::<Result<Vec<_>>>()?;
    let guids: Vec<String> =
        bindings.iter().map(|binding| binding.service_instance_guid.clone()).collect();
    let instances = super::service_instances::find_many(connection, &guids).await?;
    let mut by_guid: BTreeMap<String, _> =
        instances.into_iter().map(|instance| (instance.guid.clone(), instance)).collect();
    Ok(bindings
        .into_iter()
        .filter_map(|binding| {
            by_guid.remove(&binding.service_instance_guid).map(|instance| (binding, instance))
        })
        .collect())
}

pub async fn find_visible_space(
    connection: &mut Connection,
    guid: &str,
) -> Result<Option<(Binding, String)>> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    sql.push(&format!("SELECT {COLUMNS}, {SPACE} AS seen_in FROM {FROM} WHERE service_credential_bindings.guid = {guid}"));
    match sql.optional(connection).await? {
        Some(row) => Ok(Some((Binding::read(&row)?, row.text("seen_in")?))),
        None => Ok(None),
    }
}

pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    super::metadata::remove(connection, "service_credential_binding", guid).await?;
    super::delete(connection, "service_credential_bindings", "guid", guid).await.map(drop)
}
