//! Who may see and change what: one indexed condition for lists, one query for a single space or organization.

use std::collections::BTreeSet;

use sql::Connection;

use super::{Columns as _, Sql, query};
use crate::auth::{Caller, Power};
use crate::errors::{ApiError, ApiResult, Kind};

pub const ORG_USER: &str = "organization_user";
pub const ORG_MANAGER: &str = "organization_manager";
pub const ORG_AUDITOR: &str = "organization_auditor";
pub const ORG_BILLING: &str = "organization_billing_manager";
pub const SPACE_MANAGER: &str = "space_manager";
pub const SPACE_DEVELOPER: &str = "space_developer";
pub const SPACE_AUDITOR: &str = "space_auditor";
pub const SPACE_SUPPORTER: &str = "space_supporter";

/// Every role there is.
pub const ROLES: &[&str] = &[
    ORG_USER,
    ORG_MANAGER,
    ORG_AUDITOR,
    ORG_BILLING,
    SPACE_MANAGER,
    SPACE_DEVELOPER,
    SPACE_AUDITOR,
    SPACE_SUPPORTER,
];

/// Roles that make a space, and what lies in it, visible.
const READS_SPACE: &[&str] =
    &[SPACE_MANAGER, SPACE_DEVELOPER, SPACE_AUDITOR, SPACE_SUPPORTER, ORG_MANAGER];

/// The condition under which a row with the space guid `column` is visible; `None` when all are.
pub fn visible_space(sql: &mut Sql, caller: &Caller, column: &str) -> Option<String> {
    if caller.reads_all() {
        return None;
    }
    let user = sql.arg(&caller.guid);
    Some(format!(
        "{column} IN (SELECT own.space_guid FROM roles own WHERE own.user_guid = {user} AND own.space_guid <> '' \
         UNION ALL SELECT below.guid FROM roles own JOIN spaces below ON below.org_guid = own.org_guid \
         WHERE own.user_guid = {user} AND own.type = 'organization_manager')"
    ))
}

/// The condition under which a row with the organization guid `column` is visible; `None` when all are. A role in a
/// space of the organization is enough.
pub fn visible_org(sql: &mut Sql, caller: &Caller, column: &str) -> Option<String> {
    if caller.reads_all() {
        return None;
    }
    let user = sql.arg(&caller.guid);
    Some(format!("{column} IN (SELECT own.org_guid FROM roles own WHERE own.user_guid = {user})"))
}

/// What a caller may do in one space or organization.
#[derive(Clone, Debug)]
pub struct Rights {
    power: Power,
    roles: BTreeSet<String>,
    org_suspended: bool,
    /// Bars everybody but the organization's managers, who alone can end it.
    space_suspended: bool,
    /// The organization's guid.
    pub org_guid: String,
    in_space: bool,
}

impl Rights {
    pub fn has(&self, roles: &[&str]) -> bool {
        roles.iter().any(|role| self.roles.contains(*role))
    }

    pub fn can_read(&self) -> bool {
        self.power != Power::User
            || if self.in_space { self.has(READS_SPACE) } else { !self.roles.is_empty() }
    }

    /// Environment variables and credentials: developers and supporters, besides administrators.
    pub fn can_read_secrets(&self) -> bool {
        matches!(self.power, Power::Admin | Power::AdminReadOnly)
            || self.has(&[SPACE_DEVELOPER, SPACE_SUPPORTER])
    }

    pub fn can_write(&self, roles: &[&str]) -> bool {
        self.power == Power::Admin || (self.has(roles) && !self.org_suspended && !self.bars(roles))
    }

    fn bars(&self, roles: &[&str]) -> bool {
        self.space_suspended && !(roles.contains(&ORG_MANAGER) && self.has(&[ORG_MANAGER]))
    }

    /// # Errors
    /// 404 `WHAT not found` for those who do not see it.
    pub fn see(&self, what: &str) -> ApiResult<()> {
        if self.can_read() { Ok(()) } else { Err(ApiError::not_found(what)) }
    }

    /// # Errors
    /// 404 for those who do not see it, 403 for those who lack one of `roles` or whose organization or space is
    /// suspended.
    pub fn change(&self, what: &str, roles: &[&str]) -> ApiResult<()> {
        self.see(what)?;
        if self.can_write(roles) {
            return Ok(());
        }
        if self.power != Power::User || !self.has(roles) {
            return Err(ApiError::forbidden());
        }
        Err(match self.org_suspended {
            true => Kind::OrgSuspended.with("The organization is suspended"),
            false => Kind::SpaceSuspended.with("The space is suspended"),
        })
    }

    /// # Errors
    /// 404 or 403 for those who may not read secrets.
    pub fn see_secrets(&self, what: &str) -> ApiResult<()> {
        self.see(what)?;
        if self.can_read_secrets() { Ok(()) } else { Err(ApiError::forbidden()) }
    }
}

/// Developers, and supporters beside them: who runs apps, and who only operates them.
pub const DEVELOPERS: &[&str] = &[SPACE_DEVELOPER];
pub const OPERATORS: &[&str] = &[SPACE_DEVELOPER, SPACE_SUPPORTER];

/// The caller's rights in a space; without any in a space that does not exist, so that nobody learns which do.
pub async fn in_space(
    connection: &mut Connection,
    caller: &Caller,
    space: &str,
) -> ApiResult<Rights> {
    let text = "SELECT s.org_guid, o.suspended, s.suspended AS space_suspended, r.type AS role FROM spaces s JOIN organizations o ON o.guid = s.org_guid \
                LEFT JOIN roles r ON r.user_guid = $2 AND r.org_guid = s.org_guid AND r.space_guid IN ('', s.guid) \
                WHERE s.guid = $1";
    rights(query(text, [space.into(), (&caller.guid).into()]), connection, caller, true).await
}

/// The caller's rights in an organization.
pub async fn in_org(connection: &mut Connection, caller: &Caller, org: &str) -> ApiResult<Rights> {
    let text = "SELECT o.guid AS org_guid, o.suspended, CAST(0 AS BIGINT) AS space_suspended, r.type AS role FROM organizations o \
                LEFT JOIN roles r ON r.user_guid = $2 AND r.org_guid = o.guid WHERE o.guid = $1";
    rights(query(text, [org.into(), (&caller.guid).into()]), connection, caller, false).await
}

async fn rights(
    sql: Sql,
    connection: &mut Connection,
    caller: &Caller,
    in_space: bool,
) -> ApiResult<Rights> {
    let rows = sql.all(connection).await?;
    let (org_guid, power) = match rows.first() {
        Some(row) => (row.text("org_guid")?, caller.power),
        None => (String::new(), Power::User),
    };
    let flag = |column| rows.first().map_or(Ok(false), |row| row.flag(column));
    let (org_suspended, space_suspended) = (flag("suspended")?, flag("space_suspended")?);
    let mut roles = BTreeSet::new();
    for row in &rows {
        roles.extend(row.maybe_text("role")?);
    }
    Ok(Rights { power, roles, org_suspended, space_suspended, org_guid, in_space })
}
