//! Organizations, and what they use.

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, Row, Stored, query};

#[derive(Clone, Debug)]
pub struct Organization {
    pub guid: String,
    pub name: String,
    pub suspended: bool,
    pub quota_guid: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for Organization {
    const TABLE: &'static str = "organizations";
    const COLUMNS: &'static str = "organizations.*";

    fn read(row: &Row) -> Result<Organization> {
        Ok(Organization {
            guid: row.text("guid")?,
            name: row.text("name")?,
            suspended: row.flag("suspended")?,
            quota_guid: row.text("quota_guid")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

/// Makes an organization under the quota named `default` and answers its guid.
pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    name: &str,
    suspended: bool,
) -> Result<String> {
    let quota = super::quotas::default_organization_quota(connection, now).await?;
    let columns =
        vec![("name", name.into()), ("suspended", suspended.into()), ("quota_guid", quota.into())];
    super::insert_new(connection, now, "organizations", columns).await
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Organization>> {
    super::find(connection, guid).await
}

pub async fn find_many(connection: &mut Connection, guids: &[String]) -> Result<Vec<Organization>> {
    super::find_many(connection, guids).await
}

pub async fn space_guids(connection: &mut Connection, guid: &str) -> Result<Vec<String>> {
    let rows = query("SELECT guid FROM spaces WHERE org_guid = $1 ORDER BY id", [guid.into()])
        .all(connection)
        .await?;
    rows.iter().map(|row| row.text("guid")).collect()
}

/// Forgets an organization that has no spaces left, with its roles, shares, entitlements and space quotas.
pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    let owned = query("SELECT guid FROM domains WHERE org_guid = $1", [guid.into()])
        .all(connection)
        .await?;
    for row in owned {
        super::domains::delete(connection, &row.text("guid")?).await?;
    }
    for table in ["roles", "domain_shares", "isolation_segment_organizations", "space_quotas"] {
        super::delete(connection, table, "org_guid", guid).await?;
    }
    super::metadata::remove(connection, "organization", guid).await?;
    super::delete(connection, "organizations", "guid", guid).await.map(drop)
}
