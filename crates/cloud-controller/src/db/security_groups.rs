//! Security groups, and the spaces they are bound to.

use base::Timestamp;
use serde_json::Value;
use sql::Connection;

use super::{Arg, Columns as _, Result, Row, Sql, Stored, query};
use crate::auth::Caller;

/// When a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Running,
    Staging,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::Staging => "staging",
        }
    }
}

#[derive(Clone, Debug)]
pub struct SecurityGroup {
    pub guid: String,
    pub name: String,
    pub rules: Value,
    pub running_default: bool,
    pub staging_default: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Stored for SecurityGroup {
    const TABLE: &'static str = "security_groups";
    const COLUMNS: &'static str = "security_groups.*";

    fn read(row: &Row) -> Result<SecurityGroup> {
        Ok(SecurityGroup {
            guid: row.text("guid")?,
            name: row.text("name")?,
            rules: row.json("rules")?,
            running_default: row.flag("running_default")?,
            staging_default: row.flag("staging_default")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

/// The condition under which a group is seen: enabled everywhere, or bound to a space that is seen.
pub fn visible(sql: &mut Sql, caller: &Caller) -> Option<String> {
    let spaces = super::access::visible_space(sql, caller, "vb.space_guid")?;
    Some(format!(
        "(security_groups.running_default = 1 OR security_groups.staging_default = 1 OR EXISTS (SELECT 1 \
         FROM security_group_spaces vb WHERE vb.security_group_guid = security_groups.guid AND {spaces}))"
    ))
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<SecurityGroup>> {
    super::find(connection, guid).await
}

pub async fn find_visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> Result<Option<SecurityGroup>> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let condition = visible(&mut sql, caller);
    let condition = condition.as_deref().unwrap_or("1 = 1");
    sql.push(&format!("SELECT security_groups.* FROM security_groups WHERE security_groups.guid = {guid} AND {condition}"));
    sql.optional(connection).await?.as_ref().map(SecurityGroup::read).transpose()
}

pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    columns: Vec<(&str, Arg)>,
) -> Result<String> {
    super::insert_new(connection, now, "security_groups", columns).await
}

pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    super::delete(connection, "security_group_spaces", "security_group_guid", guid).await?;
    super::delete(connection, "security_groups", "guid", guid).await.map(drop)
}

pub async fn bind(
    connection: &mut Connection,
    guid: &str,
    space: &str,
    phase: Phase,
) -> Result<()> {
    let text = "INSERT INTO security_group_spaces (security_group_guid, space_guid, phase) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    query(text, [guid.into(), space.into(), phase.name().into()]).run(connection).await.map(drop)
}

pub async fn unbind(
    connection: &mut Connection,
    guid: &str,
    space: &str,
    phase: Phase,
) -> Result<()> {
    let text = "DELETE FROM security_group_spaces WHERE security_group_guid = $1 AND space_guid = $2 AND phase = $3";
    query(text, [guid.into(), space.into(), phase.name().into()]).run(connection).await.map(drop)
}

/// The spaces a group is bound to, in the order they were made.
pub async fn spaces(connection: &mut Connection, guid: &str, phase: Phase) -> Result<Vec<String>> {
    let text = "SELECT s.guid FROM security_group_spaces b JOIN spaces s ON s.guid = b.space_guid \
                WHERE b.security_group_guid = $1 AND b.phase = $2 ORDER BY s.id";
    let rows = query(text, [guid.into(), phase.name().into()]).all(connection).await?;
    rows.iter().map(|row| row.text("guid")).collect()
}

/// Rows of `security_group_guid`, `phase` and `space_guid` for all of `guids`, as far as the caller sees the spaces.
pub async fn visible_spaces(
    connection: &mut Connection,
    caller: &Caller,
    guids: &[String],
) -> Result<Vec<Row>> {
    if guids.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = Sql::default();
    let list = sql.list(guids);
    let seen = super::access::visible_space(&mut sql, caller, "b.space_guid");
    sql.push(&format!(
        "SELECT b.security_group_guid, b.phase, b.space_guid FROM security_group_spaces b JOIN spaces s ON s.guid = b.space_guid \
         WHERE b.security_group_guid IN ({list}) AND {} ORDER BY s.id",
        seen.as_deref().unwrap_or("1 = 1")
    ));
    sql.all(connection).await
}

/// Notes for the bridge about the started apps of a space.
pub async fn apps_in_changed(connection: &mut Connection, space: &str) -> Result<()> {
    let text = "INSERT INTO lrp_changes (process_guid, version) SELECT p.guid, p.version FROM processes p \
                JOIN apps a ON a.guid = p.app_guid WHERE a.state = 'STARTED' AND a.space_guid = $1";
    query(text, [space.into()]).run(connection).await.map(drop)
}

/// Notes for the bridge about every started app the group holds for.
pub async fn apps_changed(connection: &mut Connection, guid: &str) -> Result<()> {
    let text = "INSERT INTO lrp_changes (process_guid, version) SELECT p.guid, p.version FROM processes p \
                JOIN apps a ON a.guid = p.app_guid WHERE a.state = 'STARTED' AND (a.space_guid IN \
                (SELECT b.space_guid FROM security_group_spaces b WHERE b.security_group_guid = $1 AND b.phase = 'running') \
                OR EXISTS (SELECT 1 FROM security_groups g WHERE g.guid = $1 AND g.running_default = 1))";
    query(text, [guid.into()]).run(connection).await.map(drop)
}
