//! Groups, which are scopes to give, and who is in them.

use std::collections::{BTreeMap, BTreeSet};

use base::Timestamp;
use sql::Connection;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::users::name_key;
use crate::scim::query::Search;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub guid: String,
    pub display_name: String,
    pub description: String,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub guid: String,
    /// `USER` or `GROUP`.
    pub kind: String,
    pub origin: String,
}

const COLUMNS: &str = "guid, display_name, description, version, created_at, updated_at";

/// Groups within groups within groups: deeper nesting gives nothing.
const DEEPEST: usize = 8;

pub(crate) async fn insert(tx: &mut Connection, group: &Group) -> sqlx::Result<()> {
    let text = format!(
        "INSERT INTO uaa_groups ({COLUMNS}, name_key) VALUES ({})",
        sql::placeholders(1, 7)
    );
    let query =
        sqlx::query(AssertSqlSafe(text)).bind(group.guid.clone()).bind(group.display_name.clone());
    let query =
        query.bind(group.description.clone()).bind(group.version).bind(group.created_at.as_nanos());
    query
        .bind(group.updated_at.as_nanos())
        .bind(name_key(&group.display_name))
        .execute(tx)
        .await
        .map(drop)
}

/// False when the group is gone or was changed by somebody else since it was read.
pub(crate) async fn update(
    tx: &mut Connection,
    group: &Group,
    now: Timestamp,
) -> sqlx::Result<bool> {
    const UPDATE: &str = "UPDATE uaa_groups SET display_name = $1, name_key = $2, description = $3, updated_at = $4, \
                          version = version + 1 WHERE guid = $5 AND version = $6";
    let query =
        sqlx::query(UPDATE).bind(group.display_name.clone()).bind(name_key(&group.display_name));
    let query = query
        .bind(group.description.clone())
        .bind(now.as_nanos())
        .bind(group.guid.clone())
        .bind(group.version);
    Ok(query.execute(tx).await?.rows_affected() == 1)
}

pub(crate) async fn delete(tx: &mut Connection, guid: &str) -> sqlx::Result<()> {
    for statement in [
        "DELETE FROM uaa_members WHERE group_guid = $1",
        "DELETE FROM uaa_members WHERE member_guid = $1",
        "DELETE FROM uaa_groups WHERE guid = $1",
    ] {
        sqlx::query(statement).bind(guid).execute(&mut *tx).await?;
    }
    Ok(())
}

pub(crate) async fn find(connection: &mut Connection, guid: &str) -> sqlx::Result<Option<Group>> {
    let text = format!("SELECT {COLUMNS} FROM uaa_groups WHERE guid = $1");
    let row =
        sqlx::query(AssertSqlSafe(text)).bind(guid.to_owned()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn find_by_name(
    connection: &mut Connection,
    name: &str,
) -> sqlx::Result<Option<Group>> {
    let text = format!("SELECT {COLUMNS} FROM uaa_groups WHERE name_key = $1");
    let row =
        sqlx::query(AssertSqlSafe(text)).bind(name_key(name)).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// The guids and names of those of `names` that exist.
pub(crate) async fn by_names(
    connection: &mut Connection,
    names: &[&str],
) -> sqlx::Result<Vec<(String, String)>> {
    let marks = sql::placeholders(1, names.len());
    let text = format!(
        "SELECT guid, display_name FROM uaa_groups WHERE name_key IN ({marks}) ORDER BY display_name"
    );
    let query = names
        .iter()
        .fold(sqlx::query_as(AssertSqlSafe(text)), |query, name| query.bind(name_key(name)));
    query.fetch_all(connection).await
}

pub(crate) async fn search(
    connection: &mut Connection,
    search: &Search,
) -> sqlx::Result<(Vec<Group>, i64)> {
    let rows = search.rows(connection, COLUMNS, "uaa_groups").await?;
    let total = search.total(connection, "uaa_groups").await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, total))
}

/// The members of each of these groups; one query.
pub(crate) async fn members(
    connection: &mut Connection,
    groups: &[String],
) -> sqlx::Result<BTreeMap<String, Vec<Member>>> {
    let marks = sql::placeholders(1, groups.len());
    let text = format!(
        "SELECT group_guid, member_guid, kind, origin FROM uaa_members WHERE group_guid IN ({marks}) ORDER BY member_guid"
    );
    let query = groups
        .iter()
        .fold(sqlx::query_as(AssertSqlSafe(text)), |query, guid| query.bind(guid.clone()));
    let rows: Vec<(String, String, String, String)> = query.fetch_all(connection).await?;
    let mut members: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for (group, guid, kind, origin) in rows {
        members.entry(group).or_default().push(Member { guid, kind, origin });
    }
    Ok(members)
}

/// False when it was a member already.
pub(crate) async fn add_member(
    tx: &mut Connection,
    group: &str,
    member: &Member,
) -> sqlx::Result<bool> {
    const ADD: &str = "INSERT INTO uaa_members (group_guid, member_guid, kind, origin) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    let query = sqlx::query(ADD).bind(group).bind(member.guid.clone());
    let done = query.bind(member.kind.clone()).bind(member.origin.clone()).execute(tx).await?;
    Ok(done.rows_affected() == 1)
}

/// False when it was no member.
pub(crate) async fn remove_member(
    tx: &mut Connection,
    group: &str,
    member: &str,
) -> sqlx::Result<bool> {
    const REMOVE: &str = "DELETE FROM uaa_members WHERE group_guid = $1 AND member_guid = $2";
    Ok(sqlx::query(REMOVE).bind(group).bind(member).execute(tx).await?.rows_affected() == 1)
}

pub(crate) async fn clear(tx: &mut Connection, group: &str) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM uaa_members WHERE group_guid = $1")
        .bind(group)
        .execute(tx)
        .await
        .map(drop)
}

/// The groups (guid and name) that hold each of these members directly; one query.
pub(crate) async fn of_members(
    connection: &mut Connection,
    members: &[String],
) -> sqlx::Result<Vec<(String, String, String)>> {
    let marks = sql::placeholders(1, members.len());
    let text = format!(
        "SELECT m.member_guid, g.guid, g.display_name FROM uaa_members m JOIN uaa_groups g ON g.guid = m.group_guid \
         WHERE m.member_guid IN ({marks}) ORDER BY g.display_name"
    );
    let query = members
        .iter()
        .fold(sqlx::query_as(AssertSqlSafe(text)), |query, guid| query.bind(guid.clone()));
    query.fetch_all(connection).await
}

/// The names of all groups that hold `member`, directly or through another group.
pub(crate) async fn names_of(
    connection: &mut Connection,
    member: &str,
) -> sqlx::Result<BTreeSet<String>> {
    let (mut names, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut level = vec![member.to_owned()];
    for _ in 0..DEEPEST {
        if level.is_empty() {
            break;
        }
        let mut next = Vec::new();
        for (_, guid, name) in of_members(connection, &level).await? {
            names.insert(name);
            if seen.insert(guid.clone()) {
                next.push(guid);
            }
        }
        level = next;
    }
    Ok(names)
}

fn read(row: &AnyRow) -> sqlx::Result<Group> {
    let moment = |column| row.try_get::<i64, _>(column).map(Timestamp::from_nanos);
    Ok(Group {
        guid: row.try_get("guid")?,
        display_name: row.try_get("display_name")?,
        description: row.try_get("description")?,
        version: row.try_get("version")?,
        created_at: moment("created_at")?,
        updated_at: moment("updated_at")?,
    })
}
