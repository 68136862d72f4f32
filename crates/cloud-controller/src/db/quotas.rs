//! Quotas of organizations and spaces: one shape, two tables; and whether one more route still fits.

use std::collections::BTreeMap;

use base::Timestamp;
use sql::Connection;

use super::usage::{self, Usage};
use super::{Arg, Columns as _, Result, Row, Sql, query};
use crate::actions::seed::DEFAULT_QUOTA;
use crate::auth::Caller;
use crate::errors::{ApiError, ApiResult};

/// Every absent number is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory_mb: Option<i64>,
    pub process_memory_mb: Option<i64>,
    /// Bytes per second.
    pub log_rate: Option<i64>,
    pub instances: Option<i64>,
    pub app_tasks: Option<i64>,
    pub paid_services: bool,
    pub service_instances: Option<i64>,
    pub service_keys: Option<i64>,
    pub routes: Option<i64>,
    pub reserved_ports: Option<i64>,
    /// Of organizations alone.
    pub domains: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct Quota {
    pub guid: String,
    pub name: String,
    /// Of space quotas alone.
    pub org_guid: Option<String>,
    pub limits: Limits,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Organization,
    Space,
}

impl Level {
    pub fn table(self) -> &'static str {
        match self {
            Level::Organization => "organization_quotas",
            Level::Space => "space_quotas",
        }
    }

    /// The table of what the quota is put on.
    pub fn members(self) -> &'static str {
        match self {
            Level::Organization => "organizations",
            Level::Space => "spaces",
        }
    }

    pub fn read(self, row: &Row) -> Result<Quota> {
        let space = self == Level::Space;
        Ok(Quota {
            guid: row.text("guid")?,
            name: row.text("name")?,
            org_guid: if space { row.maybe_text("org_guid")? } else { None },
            limits: Limits {
                memory_mb: row.maybe_int("total_memory_in_mb")?,
                process_memory_mb: row.maybe_int("per_process_memory_in_mb")?,
                log_rate: row.maybe_int("log_rate_limit_in_bytes_per_second")?,
                instances: row.maybe_int("total_instances")?,
                app_tasks: row.maybe_int("per_app_tasks")?,
                paid_services: row.flag("paid_services_allowed")?,
                service_instances: row.maybe_int("total_service_instances")?,
                service_keys: row.maybe_int("total_service_keys")?,
                routes: row.maybe_int("total_routes")?,
                reserved_ports: row.maybe_int("total_reserved_ports")?,
                domains: if space { None } else { row.maybe_int("total_domains")? },
            },
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }

    fn columns(self, limits: &Limits) -> Vec<(&'static str, Arg)> {
        let mut columns = vec![
            ("total_memory_in_mb", limits.memory_mb.into()),
            ("per_process_memory_in_mb", limits.process_memory_mb.into()),
            ("log_rate_limit_in_bytes_per_second", limits.log_rate.into()),
            ("total_instances", limits.instances.into()),
            ("per_app_tasks", limits.app_tasks.into()),
            ("paid_services_allowed", limits.paid_services.into()),
            ("total_service_instances", limits.service_instances.into()),
            ("total_service_keys", limits.service_keys.into()),
            ("total_routes", limits.routes.into()),
            ("total_reserved_ports", limits.reserved_ports.into()),
        ];
        if self == Level::Organization {
            columns.push(("total_domains", limits.domains.into()));
        }
        columns
    }
}

pub async fn find(connection: &mut Connection, level: Level, guid: &str) -> Result<Option<Quota>> {
    let text = format!("SELECT * FROM {} WHERE guid = $1", level.table());
    query(&text, [guid.into()])
        .optional(connection)
        .await?
        .as_ref()
        .map(|row| level.read(row))
        .transpose()
}

/// `org` for space quotas alone.
pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    level: Level,
    name: &str,
    org: Option<&str>,
    limits: &Limits,
) -> Result<String> {
    let mut columns = level.columns(limits);
    columns.push(("name", name.into()));
    columns.extend(org.map(|org| ("org_guid", org.into())));
    super::insert_new(connection, now, level.table(), columns).await
}

pub async fn update(
    connection: &mut Connection,
    now: Timestamp,
    level: Level,
    guid: &str,
    name: &str,
    limits: &Limits,
) -> Result<()> {
    let mut columns = level.columns(limits);
    columns.push(("name", name.into()));
    super::change(connection, now, level.table(), guid, columns).await
}

pub async fn delete(connection: &mut Connection, level: Level, guid: &str) -> Result<()> {
    super::delete(connection, level.table(), "guid", guid).await.map(drop)
}

/// What each quota is put on, of what the caller sees, with one query.
pub async fn visible_members(
    connection: &mut Connection,
    level: Level,
    caller: &Caller,
    guids: &[String],
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if guids.is_empty() {
        return Ok(found);
    }
    let mut sql = Sql::default();
    let list = sql.list(guids);
    let seen = match level {
        Level::Organization => super::access::visible_org(&mut sql, caller, "m.guid"),
        Level::Space => super::access::visible_space(&mut sql, caller, "m.guid"),
    };
    sql.push(&format!(
        "SELECT m.guid, m.quota_guid FROM {} m WHERE m.quota_guid IN ({list}) AND {} ORDER BY m.id",
        level.members(),
        seen.as_deref().unwrap_or("1 = 1")
    ));
    for row in sql.all(connection).await? {
        found.entry(row.text("quota_guid")?).or_default().push(row.text("guid")?);
    }
    Ok(found)
}

/// What a quota is put on, whoever sees it.
pub async fn members(connection: &mut Connection, level: Level, guid: &str) -> Result<Vec<String>> {
    let text = format!("SELECT guid FROM {} WHERE quota_guid = $1 ORDER BY id", level.members());
    let rows = query(&text, [guid.into()]).all(connection).await?;
    rows.iter().map(|row| row.text("guid")).collect()
}

pub async fn is_in_use(connection: &mut Connection, level: Level, guid: &str) -> Result<bool> {
    let text = format!("SELECT guid FROM {} WHERE quota_guid = $1 LIMIT 1", level.members());
    Ok(query(&text, [guid.into()]).optional(connection).await?.is_some())
}

/// Puts an organization or a space under a quota; `None` frees a space.
pub async fn apply(
    connection: &mut Connection,
    level: Level,
    member: &str,
    quota: Option<&str>,
) -> Result<()> {
    super::update(connection, level.members(), member, vec![("quota_guid", quota.into())]).await
}

/// The quota that new organizations get: the one of that name, or the oldest when it was renamed.
pub async fn default_organization_quota(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<String> {
    let text = "SELECT guid FROM organization_quotas ORDER BY CASE WHEN name = $1 THEN 0 ELSE 1 END, id LIMIT 1";
    match query(text, [DEFAULT_QUOTA.into()]).optional(connection).await? {
        Some(row) => row.text("guid"),
        None => {
            let limits = Limits { paid_services: true, ..Limits::default() };
            insert(connection, now, Level::Organization, DEFAULT_QUOTA, None, &limits).await
        }
    }
}

/// The limits of an organization's own quota.
pub async fn of_organization(connection: &mut Connection, org: &str) -> Result<Option<Limits>> {
    let text = "SELECT q.* FROM organizations o JOIN organization_quotas q ON q.guid = o.quota_guid WHERE o.guid = $1";
    let row = query(text, [org.into()]).optional(connection).await?;
    row.map(|row| Ok(Level::Organization.read(&row)?.limits)).transpose()
}

/// How many domains an organization owns, and how many it may.
pub async fn private_domains(connection: &mut Connection, org: &str) -> Result<(i64, Option<i64>)> {
    let text = "SELECT q.total_domains, (SELECT COUNT(*) FROM domains d WHERE d.org_guid = o.guid) AS used \
                FROM organizations o JOIN organization_quotas q ON q.guid = o.quota_guid WHERE o.guid = $1";
    match query(text, [org.into()]).optional(connection).await? {
        Some(row) => Ok((row.int("used")?, row.maybe_int("total_domains")?)),
        None => Ok((0, None)),
    }
}

/// Limits over a space, and what of them is in use.
#[derive(Clone, Debug)]
pub struct Scope {
    pub level: Level,
    /// Of the space or the organization.
    pub name: String,
    pub limits: Limits,
    pub used: Usage,
}

impl Scope {
    /// As errors speak of it.
    pub fn spoken(&self) -> &'static str {
        match self.level {
            Level::Space => "space",
            Level::Organization => "organization",
        }
    }
}

/// Of the space itself when it has a quota, and of its organization. What a process uses is left out; an empty guid
/// leaves none out.
pub async fn over_space(
    connection: &mut Connection,
    space: &str,
    without: &str,
) -> Result<Vec<Scope>> {
    let mut scopes = Vec::new();
    let text = "SELECT q.*, s.guid AS scope_guid, s.name AS scope_name FROM spaces s \
                JOIN space_quotas q ON q.guid = s.quota_guid WHERE s.guid = $1";
    if let Some(row) = query(text, [space.into()]).optional(connection).await? {
        let used = usage::of_space_without(connection, &row.text("scope_guid")?, without).await?;
        scopes.push(scope(Level::Space, &row, used)?);
    }
    let text = "SELECT q.*, o.guid AS scope_guid, o.name AS scope_name FROM spaces s \
                JOIN organizations o ON o.guid = s.org_guid \
                JOIN organization_quotas q ON q.guid = o.quota_guid WHERE s.guid = $1";
    if let Some(row) = query(text, [space.into()]).optional(connection).await? {
        let used = usage::of_org_without(connection, &row.text("scope_guid")?, without).await?;
        scopes.push(scope(Level::Organization, &row, used)?);
    }
    Ok(scopes)
}

fn scope(level: Level, row: &Row, used: Usage) -> Result<Scope> {
    Ok(Scope { level, name: row.text("scope_name")?, limits: level.read(row)?.limits, used })
}

/// Whether a space may have one more route, with a port of its own or without.
///
/// # Errors
/// 422 that names the space or the organization.
pub async fn check_route(
    connection: &mut Connection,
    space: &str,
    with_port: bool,
) -> ApiResult<()> {
    for scope in over_space(connection, space, "").await? {
        let full = |limit: Option<i64>, used: i64| limit.is_some_and(|limit| used >= limit);
        let what = if full(scope.limits.routes, scope.used.routes) {
            "Routes"
        } else if with_port && full(scope.limits.reserved_ports, scope.used.reserved_ports) {
            "Reserved route ports"
        } else {
            continue;
        };
        let (kind, name) = (scope.spoken(), &scope.name);
        return Err(ApiError::unprocessable(format!("{what} quota exceeded for {kind} '{name}'.")));
    }
    Ok(())
}

/// Of `members`, those with started or stopped apps whose logs have no limit: no quota with a log rate fits them.
pub async fn with_unlimited_logs(
    connection: &mut Connection,
    level: Level,
    members: &[String],
) -> Result<Vec<String>> {
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = Sql::default();
    let list = sql.list(members);
    let column = if level == Level::Space { "s.guid" } else { "s.org_guid" };
    sql.push(&format!(
        "SELECT DISTINCT s.name AS space_name FROM processes p JOIN apps a ON a.guid = p.app_guid JOIN spaces s ON s.guid = a.space_guid \
         WHERE p.log_rate = -1 AND a.state = 'STARTED' AND p.instances > 0 AND {column} IN ({list})"
    ));
    sql.all(connection).await?.iter().map(|row| row.text("space_name")).collect()
}
