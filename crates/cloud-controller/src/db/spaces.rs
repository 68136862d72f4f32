//! Spaces.

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, Row, Stored, query};

#[derive(Clone, Debug)]
pub struct Space {
    pub guid: String,
    pub name: String,
    pub org_guid: String,
    pub quota_guid: Option<String>,
    pub allow_ssh: bool,
    pub suspended: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for Space {
    const TABLE: &'static str = "spaces";
    const COLUMNS: &'static str = "spaces.*";

    fn read(row: &Row) -> Result<Space> {
        Ok(Space {
            guid: row.text("guid")?,
            name: row.text("name")?,
            org_guid: row.text("org_guid")?,
            quota_guid: row.maybe_text("quota_guid")?,
            allow_ssh: row.flag("allow_ssh")?,
            suspended: row.flag("suspended")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    org_guid: &str,
    name: &str,
    suspended: bool,
) -> Result<String> {
    let columns =
        vec![("name", name.into()), ("org_guid", org_guid.into()), ("suspended", suspended.into())];
    super::insert_new(connection, now, "spaces", columns).await
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Space>> {
    super::find(connection, guid).await
}

pub async fn find_many(connection: &mut Connection, guids: &[String]) -> Result<Vec<Space>> {
    super::find_many(connection, guids).await
}

/// Forgets a space whose apps are gone already: its routes, service instances, roles and bindings to security groups.
pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    let routes = query("SELECT guid FROM routes WHERE space_guid = $1", [guid.into()])
        .all(connection)
        .await?;
    for row in routes {
        super::routes::delete(connection, &row.text("guid")?).await?;
    }
    let instances =
        query("SELECT guid FROM service_instances WHERE space_guid = $1", [guid.into()])
            .all(connection)
            .await?;
    for row in instances {
        super::service_instances::delete(connection, &row.text("guid")?).await?;
    }
    for table in ["roles", "security_group_spaces", "route_shares", "service_instance_shares"] {
        super::delete(connection, table, "space_guid", guid).await?;
    }
    super::metadata::remove(connection, "space", guid).await?;
    super::delete(connection, "spaces", "guid", guid).await.map(drop)
}
