//! Domains: shared by all, or owned by one organization and shared with some.

use std::collections::BTreeMap;

use base::Timestamp;
use sql::Connection;

use super::{Columns as _, Result, Row, Sql, Stored, query};
use crate::auth::Caller;

#[derive(Clone, Debug)]
pub struct Domain {
    pub guid: String,
    pub name: String,
    /// `None` = shared by all.
    pub org_guid: Option<String>,
    pub internal: bool,
    pub router_group_guid: Option<String>,
    /// Whether the group is one of TCP; it stays so when the group goes.
    pub tcp: bool,
    pub enforce_route_policies: bool,
    pub route_policies_scope: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Domain {
    pub fn is_tcp(&self) -> bool {
        self.tcp
    }

    pub fn is_shared(&self) -> bool {
        self.org_guid.is_none()
    }
}

impl Stored for Domain {
    const TABLE: &'static str = "domains";
    const COLUMNS: &'static str = "domains.*";

    fn read(row: &Row) -> Result<Domain> {
        Ok(Domain {
            guid: row.text("guid")?,
            name: row.text("name")?,
            org_guid: row.maybe_text("org_guid")?,
            internal: row.flag("internal")?,
            router_group_guid: row.maybe_text("router_group_guid")?,
            tcp: row.flag("tcp")?,
            enforce_route_policies: row.flag("enforce_route_policies")?,
            route_policies_scope: row.maybe_text("route_policies_scope")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

/// What a new domain is made of.
#[derive(Clone, Debug, Default)]
pub struct NewDomain {
    pub name: String,
    pub org_guid: Option<String>,
    pub internal: bool,
    pub router_group_guid: Option<String>,
    pub tcp: bool,
    pub enforce_route_policies: bool,
    pub route_policies_scope: Option<String>,
}

pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    new: &NewDomain,
) -> Result<String> {
    let columns = vec![
        ("name", (&new.name).into()),
        ("org_guid", (&new.org_guid).into()),
        ("internal", new.internal.into()),
        ("router_group_guid", (&new.router_group_guid).into()),
        ("tcp", new.tcp.into()),
        ("enforce_route_policies", new.enforce_route_policies.into()),
        ("route_policies_scope", (&new.route_policies_scope).into()),
    ];
    super::insert_new(connection, now, "domains", columns).await
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Domain>> {
    super::find(connection, guid).await
}

pub async fn find_by_name(connection: &mut Connection, name: &str) -> Result<Option<Domain>> {
    let row =
        query("SELECT * FROM domains WHERE name = $1", [name.into()]).optional(connection).await?;
    row.as_ref().map(Domain::read).transpose()
}

pub async fn find_many(connection: &mut Connection, guids: &[String]) -> Result<Vec<Domain>> {
    super::find_many(connection, guids).await
}

/// Whether a domain is called so.
pub async fn is_name_taken(connection: &mut Connection, name: &str) -> Result<bool> {
    Ok(find_by_name(connection, name).await?.is_some())
}

/// What apps of an organization get when they name no domain: the first shared HTTP one, else its own first.
pub async fn default_of(connection: &mut Connection, org: &str) -> Result<Option<Domain>> {
    let text = "SELECT d.* FROM domains d WHERE d.internal = 0 AND d.router_group_guid IS NULL \
                AND (d.org_guid IS NULL OR d.org_guid = $1 \
                OR EXISTS (SELECT 1 FROM domain_shares s WHERE s.domain_guid = d.guid AND s.org_guid = $1)) \
                ORDER BY CASE WHEN d.org_guid IS NULL THEN 0 ELSE 1 END, d.id LIMIT 1";
    query(text, [org.into()]).optional(connection).await?.as_ref().map(Domain::read).transpose()
}

/// Whether apps of the organization may have routes under the domain.
pub async fn usable_by(connection: &mut Connection, domain: &Domain, org: &str) -> Result<bool> {
    match &domain.org_guid {
        None => Ok(true),
        Some(owner) if owner == org => Ok(true),
        Some(_) => {
            Ok(shared_with(connection, &domain.guid).await?.iter().any(|shared| shared == org))
        }
    }
}

pub async fn shared_with(connection: &mut Connection, guid: &str) -> Result<Vec<String>> {
    let text = "SELECT s.org_guid FROM domain_shares s JOIN organizations o ON o.guid = s.org_guid \
                WHERE s.domain_guid = $1 ORDER BY o.id";
    query(text, [guid.into()])
        .all(connection)
        .await?
        .iter()
        .map(|row| row.text("org_guid"))
        .collect()
}

/// With which organizations of those the caller sees each domain is shared, with one query.
pub async fn visible_shares(
    connection: &mut Connection,
    caller: &Caller,
    guids: &[String],
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut shares: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if guids.is_empty() {
        return Ok(shares);
    }
    let mut sql = Sql::default();
    let list = sql.list(guids);
    let seen = super::access::visible_org(&mut sql, caller, "s.org_guid");
    sql.push(&format!(
        "SELECT s.domain_guid, s.org_guid FROM domain_shares s WHERE s.domain_guid IN ({list}) AND {} ORDER BY s.org_guid",
        seen.as_deref().unwrap_or("1 = 1")
    ));
    for row in sql.all(connection).await? {
        shares.entry(row.text("domain_guid")?).or_default().push(row.text("org_guid")?);
    }
    Ok(shares)
}

pub async fn share(connection: &mut Connection, guid: &str, org: &str) -> Result<()> {
    let text =
        "INSERT INTO domain_shares (domain_guid, org_guid) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    query(text, [guid.into(), org.into()]).run(connection).await.map(drop)
}

pub async fn unshare(connection: &mut Connection, guid: &str, org: &str) -> Result<()> {
    let text = "DELETE FROM domain_shares WHERE domain_guid = $1 AND org_guid = $2";
    query(text, [guid.into(), org.into()]).run(connection).await.map(drop)
}

/// Whether spaces of the organization have routes under the domain.
pub async fn has_routes_in(connection: &mut Connection, guid: &str, org: &str) -> Result<bool> {
    let text = "SELECT r.guid FROM routes r JOIN spaces s ON s.guid = r.space_guid WHERE r.domain_guid = $1 AND s.org_guid = $2 LIMIT 1";
    Ok(query(text, [guid.into(), org.into()]).optional(connection).await?.is_some())
}

/// Forgets a domain with its routes; the apps behind them are told to the bridge.
pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    let routes = query("SELECT guid FROM routes WHERE domain_guid = $1", [guid.into()])
        .all(connection)
        .await?;
    for row in routes {
        super::routes::delete(connection, &row.text("guid")?).await?;
    }
    super::delete(connection, "domain_shares", "domain_guid", guid).await?;
    super::metadata::remove(connection, "domain", guid).await?;
    super::delete(connection, "domains", "guid", guid).await.map(drop)
}
