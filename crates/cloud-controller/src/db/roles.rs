//! Roles: who may do what in an organization or a space. A space role carries its organization too.

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, Row, Sql, query};
use crate::auth::Caller;

#[derive(Clone, Debug)]
pub struct Role {
    pub guid: String,
    pub kind: String,
    pub user_guid: String,
    pub org_guid: String,
    /// `None` for organization roles.
    pub space_guid: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

pub fn read(row: &Row) -> Result<Role> {
    Ok(Role {
        guid: row.text("guid")?,
        kind: row.text("type")?,
        user_guid: row.text("user_guid")?,
        org_guid: row.text("org_guid")?,
        space_guid: Some(row.text("space_guid")?).filter(|guid| !guid.is_empty()),
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
    })
}

/// The condition under which a role is seen: organization roles by members of the organization, space roles by
/// those who see the space.
pub fn visible(sql: &mut Sql, caller: &Caller) -> Option<String> {
    let orgs = super::access::visible_org(sql, caller, "roles.org_guid")?;
    let spaces = super::access::visible_space(sql, caller, "roles.space_guid")?;
    Some(format!("((roles.space_guid = '' AND {orgs}) OR (roles.space_guid <> '' AND {spaces}))"))
}

pub async fn find_visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> Result<Option<Role>> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let condition = visible(&mut sql, caller);
    let condition = condition.as_deref().unwrap_or("1 = 1");
    sql.push(&format!("SELECT roles.* FROM roles WHERE roles.guid = {guid} AND {condition}"));
    sql.optional(connection).await?.as_ref().map(read).transpose()
}

/// `place` is the organization's guid and the space's, which is empty for organization roles.
pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    kind: &str,
    user: &str,
    place: (&str, &str),
) -> Result<String> {
    let columns = vec![
        ("type", kind.into()),
        ("user_guid", user.into()),
        ("org_guid", place.0.into()),
        ("space_guid", place.1.into()),
    ];
    super::insert_new(connection, now, "roles", columns).await
}

/// Whether the user has a role in the organization itself.
pub async fn is_member(connection: &mut Connection, user: &str, org: &str) -> Result<bool> {
    let text =
        "SELECT guid FROM roles WHERE user_guid = $1 AND org_guid = $2 AND space_guid = '' LIMIT 1";
    Ok(query(text, [user.into(), org.into()]).optional(connection).await?.is_some())
}

/// Whether the user has a role in any space of the organization.
pub async fn is_in_a_space(connection: &mut Connection, user: &str, org: &str) -> Result<bool> {
    let text = "SELECT guid FROM roles WHERE user_guid = $1 AND org_guid = $2 AND space_guid <> '' LIMIT 1";
    Ok(query(text, [user.into(), org.into()]).optional(connection).await?.is_some())
}

pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    super::delete(connection, "roles", "guid", guid).await.map(drop)
}
