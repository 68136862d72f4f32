//! Isolation segments: named groups of cells, and which organizations may place apps there.

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, Row, Sql, Stored, query};
use crate::auth::Caller;
use crate::errors::{ApiError, ApiResult};

/// Everybody's segment: cells that bear no tag. Its guid is Cloud Foundry's.
pub const SHARED: &str = "933b4c58-120b-499a-b85d-4b6fc9e2903b";

#[derive(Clone, Debug)]
pub struct IsolationSegment {
    pub guid: String,
    pub name: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for IsolationSegment {
    const TABLE: &'static str = "isolation_segments";
    const COLUMNS: &'static str = "isolation_segments.*";

    fn read(row: &Row) -> Result<IsolationSegment> {
        Ok(IsolationSegment {
            guid: row.text("guid")?,
            name: row.text("name")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

/// The condition under which a segment is seen: an organization that may use it is.
pub fn seen(sql: &mut Sql, caller: &Caller) -> Option<String> {
    let orgs = super::access::visible_org(sql, caller, "io.org_guid")?;
    Some(format!(
        "EXISTS (SELECT 1 FROM isolation_segment_organizations io WHERE io.isolation_segment_guid = isolation_segments.guid AND {orgs})"
    ))
}

/// # Errors
/// 404 when the caller does not see it.
pub async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<IsolationSegment> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let condition = seen(&mut sql, caller);
    let condition = condition.as_deref().unwrap_or("1 = 1");
    sql.push(&format!("SELECT isolation_segments.* FROM isolation_segments WHERE isolation_segments.guid = {guid} AND {condition}"));
    let row =
        sql.optional(connection).await?.ok_or_else(|| ApiError::not_found("Isolation segment"))?;
    Ok(IsolationSegment::read(&row)?)
}

/// Whether a name like it is taken, in whatever case.
pub async fn is_name_taken(connection: &mut Connection, name: &str, except: &str) -> Result<bool> {
    let text = "SELECT guid FROM isolation_segments WHERE LOWER(name) = LOWER($1) AND guid <> $2";
    Ok(query(text, [name.into(), except.into()]).optional(connection).await?.is_some())
}

pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    name: &str,
) -> Result<()> {
    let columns = vec![
        ("guid", guid.into()),
        ("name", name.into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ];
    super::insert(connection, "isolation_segments", columns).await
}

pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    super::metadata::remove(connection, "isolation_segment", guid).await?;
    super::delete(connection, "isolation_segments", "guid", guid).await.map(drop)
}

/// Organizations that may use the segment, in the order they were made.
pub async fn organizations(connection: &mut Connection, guid: &str) -> Result<Vec<String>> {
    let text = "SELECT o.guid FROM isolation_segment_organizations e JOIN organizations o ON o.guid = e.org_guid \
                WHERE e.isolation_segment_guid = $1 ORDER BY o.id";
    query(text, [guid.into()]).all(connection).await?.iter().map(|row| row.text("guid")).collect()
}

/// Guids and names of the spaces put there by name; of one organization, or of all.
pub async fn spaces(
    connection: &mut Connection,
    guid: &str,
    org: Option<&str>,
) -> Result<Vec<(String, String)>> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let org = org.map_or(String::new(), |org| format!(" AND org_guid = {}", sql.arg(org)));
    sql.push(&format!(
        "SELECT guid, name FROM spaces WHERE isolation_segment_guid = {guid}{org} ORDER BY id"
    ));
    sql.all(connection)
        .await?
        .iter()
        .map(|row| Ok((row.text("guid")?, row.text("name")?)))
        .collect()
}

/// Whether it is the default of an organization, or of a certain one.
pub async fn is_default(
    connection: &mut Connection,
    guid: &str,
    org: Option<&str>,
) -> Result<bool> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let org = org.map_or(String::new(), |org| format!(" AND guid = {}", sql.arg(org)));
    sql.push(&format!(
        "SELECT guid FROM organizations WHERE default_isolation_segment_guid = {guid}{org} LIMIT 1"
    ));
    Ok(sql.optional(connection).await?.is_some())
}

pub async fn is_entitled(connection: &mut Connection, guid: &str, org: &str) -> Result<bool> {
    let text = "SELECT org_guid FROM isolation_segment_organizations WHERE isolation_segment_guid = $1 AND org_guid = $2";
    Ok(query(text, [guid.into(), org.into()]).optional(connection).await?.is_some())
}

pub async fn entitle(connection: &mut Connection, guid: &str, org: &str) -> Result<()> {
    let text = "INSERT INTO isolation_segment_organizations (isolation_segment_guid, org_guid) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    query(text, [guid.into(), org.into()]).run(connection).await.map(drop)
}

pub async fn revoke(connection: &mut Connection, guid: &str, org: &str) -> Result<()> {
    let text = "DELETE FROM isolation_segment_organizations WHERE isolation_segment_guid = $1 AND org_guid = $2";
    query(text, [guid.into(), org.into()]).run(connection).await.map(drop)
}

/// Makes the shared segment when it is not there.
pub async fn ensure_shared(connection: &mut Connection, now: Timestamp) -> Result<()> {
    let text = "INSERT INTO isolation_segments (guid, name, created_at, updated_at) VALUES ($1, 'shared', $2, $3) ON CONFLICT DO NOTHING";
    query(text, [SHARED.into(), now.into(), now.into()]).run(connection).await.map(drop)
}
