//! Users as the Cloud Controller knows them: a guid. Names and origins are the identity's.

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, Row, Sql, query};
use crate::auth::Caller;

#[derive(Clone, Debug)]
pub struct UserRow {
    pub guid: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

pub fn read(row: &Row) -> Result<UserRow> {
    Ok(UserRow {
        guid: row.text("guid")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
    })
}

/// The condition under which a user is seen: oneself, and whoever has a role in an organization one sees.
pub fn visible(sql: &mut Sql, caller: &Caller) -> Option<String> {
    let orgs = super::access::visible_org(sql, caller, "member.org_guid")?;
    let own = sql.arg(&caller.guid);
    Some(format!(
        "(users.guid = {own} OR EXISTS (SELECT 1 FROM roles member WHERE member.user_guid = users.guid AND {orgs}))"
    ))
}

pub async fn find_visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> Result<Option<UserRow>> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let condition = visible(&mut sql, caller);
    let condition = condition.as_deref().unwrap_or("1 = 1");
    sql.push(&format!("SELECT users.* FROM users WHERE users.guid = {guid} AND {condition}"));
    sql.optional(connection).await?.as_ref().map(read).transpose()
}

pub async fn find_many(connection: &mut Connection, guids: &[String]) -> Result<Vec<UserRow>> {
    if guids.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = Sql::default();
    let list = sql.list(guids);
    sql.push(&format!("SELECT * FROM users WHERE guid IN ({list}) ORDER BY id"));
    sql.all(connection).await?.iter().map(read).collect()
}

pub async fn insert(connection: &mut Connection, now: Timestamp, guid: &str) -> Result<()> {
    let columns =
        vec![("guid", guid.into()), ("created_at", now.into()), ("updated_at", now.into())];
    super::insert(connection, "users", columns).await
}

/// Makes the row when it is not there.
pub async fn ensure(connection: &mut Connection, now: Timestamp, guid: &str) -> Result<()> {
    let text = "INSERT INTO users (guid, created_at, updated_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    query(text, [guid.into(), now.into(), now.into()]).run(connection).await.map(drop)
}

/// Forgets a user with all roles.
pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    super::delete(connection, "roles", "user_guid", guid).await?;
    super::metadata::remove(connection, "user", guid).await?;
    super::delete(connection, "users", "guid", guid).await.map(drop)
}
