//! Service instances: user-provided ones, whose credentials a user typed in.

use base::Timestamp;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Stored, query};

pub const USER_PROVIDED: &str = "user-provided";

#[derive(Clone, Debug)]
pub struct ServiceInstance {
    pub guid: String,
    pub name: String,
    pub space_guid: String,
    /// `user-provided` or `managed`.
    pub kind: String,
    pub tags: Vec<String>,
    pub sealed_credentials: Option<String>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    pub operation_type: String,
    pub operation_state: String,
    pub operation_description: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for ServiceInstance {
    const TABLE: &'static str = "service_instances";
    const COLUMNS: &'static str = "service_instances.*";

    fn read(row: &Row) -> Result<ServiceInstance> {
        Ok(ServiceInstance {
            guid: row.text("guid")?,
            name: row.text("name")?,
            space_guid: row.text("space_guid")?,
            kind: row.text("type")?,
            tags: row.texts("tags")?,
            sealed_credentials: row.maybe_text("sealed_credentials")?,
            syslog_drain_url: row.maybe_text("syslog_drain_url")?,
            route_service_url: row.maybe_text("route_service_url")?,
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
    super::insert_new(connection, now, "service_instances", columns).await
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<ServiceInstance>> {
    super::find(connection, guid).await
}

pub async fn find_many(
    connection: &mut Connection,
    guids: &[String],
) -> Result<Vec<ServiceInstance>> {
    super::find_many(connection, guids).await
}

/// By name in a space, its own or shared with it.
pub async fn find_by_name(
    connection: &mut Connection,
    space: &str,
    name: &str,
) -> Result<Option<ServiceInstance>> {
    let text = "SELECT * FROM service_instances WHERE name = $2 AND (space_guid = $1 OR guid IN \
                (SELECT service_instance_guid FROM service_instance_shares WHERE space_guid = $1)) ORDER BY id LIMIT 1";
    let row = query(text, [space.into(), name.into()]).optional(connection).await?;
    row.as_ref().map(ServiceInstance::read).transpose()
}

/// The name of an instance of the space that other spaces use, when there is one.
pub async fn shared_from(connection: &mut Connection, space: &str) -> Result<Option<String>> {
    let text = "SELECT i.name FROM service_instances i JOIN service_instance_shares s ON s.service_instance_guid = i.guid \
                WHERE i.space_guid = $1 ORDER BY i.id LIMIT 1";
    query(text, [space.into()]).optional(connection).await?.map(|row| row.text("name")).transpose()
}

/// Forgets an instance with its bindings; the apps bound to it keep what they started with.
pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    let text = "SELECT guid FROM service_credential_bindings WHERE service_instance_guid = $1";
    for row in query(text, [guid.into()]).all(connection).await? {
        super::metadata::remove(connection, "service_credential_binding", &row.text("guid")?)
            .await?;
    }
    for table in
        ["service_credential_bindings", "service_route_bindings", "service_instance_shares"]
    {
        super::delete(connection, table, "service_instance_guid", guid).await?;
    }
    super::metadata::remove(connection, "service_instance", guid).await?;
    super::delete(connection, "service_instances", "guid", guid).await.map(drop)
}

/// Gives the instance's present credentials and addresses to its bindings; apps get them when they start anew, routes
/// at once.
pub async fn refresh_bindings(connection: &mut Connection, guid: &str) -> Result<()> {
    let Some(instance) = find(connection, guid).await? else { return Ok(()) };
    let text = "UPDATE service_credential_bindings SET sealed_credentials = $2, syslog_drain_url = $3 WHERE service_instance_guid = $1";
    let args =
        [guid.into(), (&instance.sealed_credentials).into(), (&instance.syslog_drain_url).into()];
    query(text, args).run(connection).await?;
    let text =
        "UPDATE service_route_bindings SET route_service_url = $2 WHERE service_instance_guid = $1";
    query(text, [guid.into(), (&instance.route_service_url).into()]).run(connection).await?;
    routes_changed(connection, guid).await
}

/// Notes for the bridge about the apps behind routes that are bound to the instance.
pub async fn routes_changed(connection: &mut Connection, guid: &str) -> Result<()> {
    let text = "SELECT route_guid FROM service_route_bindings WHERE service_instance_guid = $1";
    for row in query(text, [guid.into()]).all(connection).await? {
        super::routes::apps_changed(connection, &row.text("route_guid")?).await?;
    }
    Ok(())
}
