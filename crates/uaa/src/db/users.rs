//! Accounts.

use base::Timestamp;
use sql::Connection;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::lockout::Lockout;
use crate::scim::query::Search;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Account {
    pub guid: String,
    pub user_name: String,
    pub origin: String,
    pub external_id: String,
    pub email: String,
    pub family_name: String,
    pub given_name: String,
    pub phone_number: String,
    pub password_hash: String,
    pub password_changed_at: Timestamp,
    pub password_change_required: bool,
    pub active: bool,
    pub verified: bool,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub logon_at: Timestamp,
    pub previous_logon_at: Timestamp,
    pub lockout: Lockout,
}

/// How names are compared.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

const COLUMNS: &str = "guid, user_name, origin, external_id, email, family_name, given_name, phone_number, password_hash, \
     password_changed_at, password_change_required, active, verified, version, created_at, updated_at, logon_at, \
     previous_logon_at, failures, failing_since, locked_until";

pub(crate) async fn insert(tx: &mut Connection, account: &Account) -> sqlx::Result<()> {
    let text = format!(
        "INSERT INTO uaa_users ({COLUMNS}, name_key) VALUES ({})",
        sql::placeholders(1, 22)
    );
    let query =
        sqlx::query(AssertSqlSafe(text)).bind(account.guid.clone()).bind(account.user_name.clone());
    let query = query
        .bind(account.origin.clone())
        .bind(account.external_id.clone())
        .bind(account.email.clone());
    let query = query
        .bind(account.family_name.clone())
        .bind(account.given_name.clone())
        .bind(account.phone_number.clone());
    let query =
        query.bind(account.password_hash.clone()).bind(account.password_changed_at.as_nanos());
    let query =
        query.bind(i64::from(account.password_change_required)).bind(i64::from(account.active));
    let query = query
        .bind(i64::from(account.verified))
        .bind(account.version)
        .bind(account.created_at.as_nanos());
    let query = query.bind(account.updated_at.as_nanos()).bind(account.logon_at.as_nanos());
    let query = query.bind(account.previous_logon_at.as_nanos()).bind(account.lockout.failures);
    let query = query.bind(account.lockout.since.as_nanos()).bind(account.lockout.until.as_nanos());
    query.bind(name_key(&account.user_name)).execute(tx).await.map(drop)
}

/// False when the account is gone or was changed by somebody else since it was read.
pub(crate) async fn update(
    tx: &mut Connection,
    account: &Account,
    now: Timestamp,
) -> sqlx::Result<bool> {
    const UPDATE: &str = "UPDATE uaa_users SET user_name = $1, name_key = $2, external_id = $3, email = $4, family_name = $5, \
         given_name = $6, phone_number = $7, password_hash = $8, password_changed_at = $9, password_change_required = $10, \
         active = $11, verified = $12, updated_at = $13, failures = $14, failing_since = $15, locked_until = $16, \
         version = version + 1 WHERE guid = $17 AND version = $18";
    let query =
        sqlx::query(UPDATE).bind(account.user_name.clone()).bind(name_key(&account.user_name));
    let query = query
        .bind(account.external_id.clone())
        .bind(account.email.clone())
        .bind(account.family_name.clone());
    let query = query.bind(account.given_name.clone()).bind(account.phone_number.clone());
    let query =
        query.bind(account.password_hash.clone()).bind(account.password_changed_at.as_nanos());
    let query =
        query.bind(i64::from(account.password_change_required)).bind(i64::from(account.active));
    let query =
        query.bind(i64::from(account.verified)).bind(now.as_nanos()).bind(account.lockout.failures);
    let query = query.bind(account.lockout.since.as_nanos()).bind(account.lockout.until.as_nanos());
    let done = query.bind(account.guid.clone()).bind(account.version).execute(tx).await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn delete(tx: &mut Connection, guid: &str) -> sqlx::Result<()> {
    for statement in [
        "DELETE FROM uaa_members WHERE member_guid = $1",
        "DELETE FROM uaa_codes WHERE user_guid = $1",
        "DELETE FROM uaa_users WHERE guid = $1",
    ] {
        sqlx::query(statement).bind(guid).execute(&mut *tx).await?;
    }
    Ok(())
}

pub(crate) async fn find(connection: &mut Connection, guid: &str) -> sqlx::Result<Option<Account>> {
    let text = format!("SELECT {COLUMNS} FROM uaa_users WHERE guid = $1");
    let row =
        sqlx::query(AssertSqlSafe(text)).bind(guid.to_owned()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn find_by_name(
    connection: &mut Connection,
    name: &str,
    origin: &str,
) -> sqlx::Result<Option<Account>> {
    let text = format!("SELECT {COLUMNS} FROM uaa_users WHERE name_key = $1 AND origin = $2");
    let query = sqlx::query(AssertSqlSafe(text)).bind(name_key(name)).bind(origin.to_owned());
    let row = query.fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// One page and how many there are in all.
pub(crate) async fn search(
    connection: &mut Connection,
    search: &Search,
) -> sqlx::Result<(Vec<Account>, i64)> {
    let rows = search.rows(connection, COLUMNS, "uaa_users").await?;
    let total = search.total(connection, "uaa_users").await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, total))
}

/// Users as other components know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub guid: String,
    pub username: String,
    pub origin: String,
}

/// Values per statement, well below what both engines take.
const CHUNK: usize = 500;

pub(crate) async fn by_guids(
    connection: &mut Connection,
    guids: &[String],
) -> sqlx::Result<Vec<User>> {
    let mut found = Vec::with_capacity(guids.len());
    for chunk in guids.chunks(CHUNK) {
        let marks = sql::placeholders(1, chunk.len());
        let text = format!("SELECT guid, user_name, origin FROM uaa_users WHERE guid IN ({marks})");
        let query = chunk
            .iter()
            .fold(sqlx::query(AssertSqlSafe(text)), |query, guid| query.bind(guid.clone()));
        for row in query.fetch_all(&mut *connection).await? {
            found.push(brief(&row)?);
        }
    }
    Ok(found)
}

pub(crate) async fn by_names(
    connection: &mut Connection,
    names: &[String],
    origins: Option<&[String]>,
) -> sqlx::Result<Vec<User>> {
    let mut found = Vec::with_capacity(names.len());
    for chunk in names.chunks(CHUNK) {
        let marks = sql::placeholders(1, chunk.len());
        let text = format!(
            "SELECT guid, user_name, origin FROM uaa_users WHERE name_key IN ({marks}) ORDER BY created_at, guid"
        );
        let query = chunk
            .iter()
            .fold(sqlx::query(AssertSqlSafe(text)), |query, name| query.bind(name_key(name)));
        for row in query.fetch_all(&mut *connection).await? {
            found.push(brief(&row)?);
        }
    }
    if let Some(origins) = origins {
        found.retain(|user| origins.contains(&user.origin));
    }
    Ok(found)
}

/// Accounts whose names hold one of `parts`, compared without case; at most `most`, by name.
pub(crate) async fn by_parts(
    connection: &mut Connection,
    parts: &[String],
    most: usize,
) -> sqlx::Result<Vec<User>> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let holds = (1..=parts.len())
        .map(|n| format!("name_key LIKE ${n} ESCAPE '\\'"))
        .collect::<Vec<_>>()
        .join(" OR ");
    let text = format!(
        "SELECT guid, user_name, origin FROM uaa_users WHERE {holds} ORDER BY name_key, guid LIMIT {most}"
    );
    let query = parts
        .iter()
        .fold(sqlx::query(AssertSqlSafe(text)), |query, part| query.bind(pattern(part)));
    query.fetch_all(connection).await?.iter().map(brief).collect()
}

fn pattern(part: &str) -> String {
    let plain = name_key(part).replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{plain}%")
}

pub(crate) async fn set_lockout(
    tx: &mut Connection,
    guid: &str,
    lockout: Lockout,
) -> sqlx::Result<()> {
    const SET: &str =
        "UPDATE uaa_users SET failures = $1, failing_since = $2, locked_until = $3 WHERE guid = $4";
    let query = sqlx::query(SET)
        .bind(lockout.failures)
        .bind(lockout.since.as_nanos())
        .bind(lockout.until.as_nanos());
    query.bind(guid).execute(tx).await.map(drop)
}

pub(crate) async fn logged_on(tx: &mut Connection, guid: &str, now: Timestamp) -> sqlx::Result<()> {
    const SET: &str = "UPDATE uaa_users SET failures = 0, failing_since = 0, locked_until = 0, previous_logon_at = logon_at, \
                       logon_at = $1 WHERE guid = $2";
    sqlx::query(SET).bind(now.as_nanos()).bind(guid).execute(tx).await.map(drop)
}

fn brief(row: &AnyRow) -> sqlx::Result<User> {
    Ok(User { guid: row.try_get(0)?, username: row.try_get(1)?, origin: row.try_get(2)? })
}

fn read(row: &AnyRow) -> sqlx::Result<Account> {
    let moment = |column| row.try_get::<i64, _>(column).map(Timestamp::from_nanos);
    let truth = |column| row.try_get::<i64, _>(column).map(|value| value != 0);
    Ok(Account {
        guid: row.try_get("guid")?,
        user_name: row.try_get("user_name")?,
        origin: row.try_get("origin")?,
        external_id: row.try_get("external_id")?,
        email: row.try_get("email")?,
        family_name: row.try_get("family_name")?,
        given_name: row.try_get("given_name")?,
        phone_number: row.try_get("phone_number")?,
        password_hash: row.try_get("password_hash")?,
        password_changed_at: moment("password_changed_at")?,
        password_change_required: truth("password_change_required")?,
        active: truth("active")?,
        verified: truth("verified")?,
        version: row.try_get("version")?,
        created_at: moment("created_at")?,
        updated_at: moment("updated_at")?,
        logon_at: moment("logon_at")?,
        previous_logon_at: moment("previous_logon_at")?,
        lockout: Lockout {
            failures: row.try_get("failures")?,
            since: moment("failing_since")?,
            until: moment("locked_until")?,
        },
    })
}
