//! Routes and where they lead. Every change leaves a note for the bridge about the apps concerned.

use std::collections::BTreeMap;

use base::Timestamp;
use serde_json::Value;
use sql::Connection;

use super::{Columns as _, Result, Row, Sql, Stored, query};
use crate::auth::Caller;

#[derive(Clone, Debug)]
pub struct Route {
    pub guid: String,
    pub host: String,
    pub path: String,
    /// 0 = none.
    pub port: i64,
    pub domain_guid: String,
    pub domain_name: String,
    pub tcp: bool,
    pub space_guid: String,
    pub options: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Route {
    /// `host.domain/path`, or `domain:port`.
    pub fn url(&self) -> String {
        url(&self.host, &self.domain_name, self.port, &self.path)
    }

    pub fn protocol(&self) -> &'static str {
        if self.tcp { "tcp" } else { "http" }
    }
}

pub fn url(host: &str, domain: &str, port: i64, path: &str) -> String {
    let dot = if host.is_empty() { "" } else { "." };
    let port = if port == 0 { String::new() } else { format!(":{port}") };
    format!("{host}{dot}{domain}{port}{path}")
}

pub const COLUMNS: &str = "routes.*, d.name AS domain_name, d.tcp AS domain_tcp";
pub const FROM: &str = "routes JOIN domains d ON d.guid = routes.domain_guid JOIN spaces sp ON sp.guid = routes.space_guid";

impl Stored for Route {
    const TABLE: &'static str = "routes";
    const COLUMNS: &'static str = COLUMNS;
    const FROM: &'static str = FROM;

    fn read(row: &Row) -> Result<Route> {
        Ok(Route {
            guid: row.text("guid")?,
            host: row.text("host")?,
            path: row.text("path")?,
            port: row.int("port")?,
            domain_guid: row.text("domain_guid")?,
            domain_name: row.text("domain_name")?,
            tcp: row.flag("domain_tcp")?,
            space_guid: row.text("space_guid")?,
            options: row.json("options")?,
            created_at: row.moment("created_at")?,
            updated_at: row.moment("updated_at")?,
        })
    }
}

#[derive(Clone, Debug)]
pub struct Destination {
    pub guid: String,
    pub route_guid: String,
    pub app_guid: String,
    pub process_type: String,
    /// 0 = the process's own, 8080 as a rule.
    pub port: i64,
    pub weight: Option<i64>,
    pub protocol: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

fn read_destination(row: &Row) -> Result<Destination> {
    Ok(Destination {
        guid: row.text("guid")?,
        route_guid: row.text("route_guid")?,
        app_guid: row.text("app_guid")?,
        process_type: row.text("process_type")?,
        port: row.int("port")?,
        weight: row.maybe_int("weight")?,
        protocol: row.text("protocol")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
    })
}

/// The condition under which a route is visible: through its space, one it is shared with, or for auditors of its
/// organization.
pub fn visible(sql: &mut Sql, caller: &Caller) -> Option<String> {
    let own = super::access::visible_space(sql, caller, "routes.space_guid")?;
    let shared = super::access::visible_space(sql, caller, "rs.space_guid")?;
    let user = sql.arg(&caller.guid);
    Some(format!(
        "({own} OR EXISTS (SELECT 1 FROM route_shares rs WHERE rs.route_guid = routes.guid AND {shared}) \
         OR sp.org_guid IN (SELECT own.org_guid FROM roles own WHERE own.user_guid = {user} AND own.type = 'organization_auditor'))"
    ))
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<Route>> {
    super::find(connection, guid).await
}

/// The route when the caller may see it.
pub async fn find_visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> Result<Option<Route>> {
    let mut sql = Sql::default();
    let guid = sql.arg(guid);
    let seen = visible(&mut sql, caller);
    let seen = seen.as_deref().unwrap_or("1 = 1");
    sql.push(&format!("SELECT {COLUMNS} FROM {FROM} WHERE routes.guid = {guid} AND {seen}"));
    sql.optional(connection).await?.as_ref().map(Route::read).transpose()
}

pub async fn find_many(connection: &mut Connection, guids: &[String]) -> Result<Vec<Route>> {
    super::find_many(connection, guids).await
}

pub async fn find_by_address(
    connection: &mut Connection,
    domain: &str,
    host: &str,
    path: &str,
    port: i64,
) -> Result<Option<Route>> {
    let text = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE routes.domain_guid = $1 AND routes.host = $2 AND routes.path = $3 AND routes.port = $4"
    );
    let args = [domain.into(), host.into(), path.into(), port.into()];
    query(&text, args).optional(connection).await?.as_ref().map(Route::read).transpose()
}

/// Every route an app is mapped to, oldest mapping first.
pub async fn of_app(connection: &mut Connection, app: &str) -> Result<Vec<Route>> {
    let text = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE routes.guid IN (SELECT m.route_guid FROM route_destinations m WHERE m.app_guid = $1) ORDER BY routes.id"
    );
    query(&text, [app.into()]).all(connection).await?.iter().map(Route::read).collect()
}

/// What a new route is made of.
#[derive(Clone, Debug, Default)]
pub struct NewRoute {
    pub host: String,
    pub path: String,
    pub port: i64,
    pub domain_guid: String,
    pub space_guid: String,
    pub options: Value,
}

pub async fn insert(connection: &mut Connection, now: Timestamp, new: &NewRoute) -> Result<String> {
    let columns = vec![
        ("host", (&new.host).into()),
        ("path", (&new.path).into()),
        ("port", new.port.into()),
        ("domain_guid", (&new.domain_guid).into()),
        ("space_guid", (&new.space_guid).into()),
        ("options", (&new.options).into()),
    ];
    super::insert_new(connection, now, "routes", columns).await
}

/// Forgets a route, its destinations and shares, and tells the bridge of the apps behind it.
pub async fn delete(connection: &mut Connection, guid: &str) -> Result<()> {
    apps_changed(connection, guid).await?;
    for (table, column) in [
        ("route_destinations", "route_guid"),
        ("route_shares", "route_guid"),
        ("service_route_bindings", "route_guid"),
        ("routes", "guid"),
    ] {
        super::delete(connection, table, column, guid).await?;
    }
    super::metadata::remove(connection, "route", guid).await
}

/// Notes for the bridge that the apps behind a route have other routes, or routes with other options, now.
pub async fn apps_changed(connection: &mut Connection, route: &str) -> Result<()> {
    let rows = query(
        "SELECT DISTINCT app_guid FROM route_destinations WHERE route_guid = $1",
        [route.into()],
    )
    .all(connection)
    .await?;
    for row in rows {
        super::processes::app_changed(connection, &row.text("app_guid")?).await?;
    }
    Ok(())
}

/// Routes of a space that lead nowhere and are bound to no service.
pub async fn unmapped(connection: &mut Connection, space: &str) -> Result<Vec<Route>> {
    let text = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE routes.space_guid = $1 \
         AND NOT EXISTS (SELECT 1 FROM route_destinations m WHERE m.route_guid = routes.guid) \
         AND NOT EXISTS (SELECT 1 FROM service_route_bindings b WHERE b.route_guid = routes.guid)"
    );
    query(&text, [space.into()]).all(connection).await?.iter().map(Route::read).collect()
}

/// The destinations of many routes with one query, by route, oldest first.
pub async fn destinations(
    connection: &mut Connection,
    routes: &[String],
) -> Result<BTreeMap<String, Vec<Destination>>> {
    let mut found: BTreeMap<String, Vec<Destination>> = BTreeMap::new();
    if routes.is_empty() {
        return Ok(found);
    }
    let mut sql = Sql::default();
    let list = sql.list(routes);
    sql.push(&format!("SELECT * FROM route_destinations WHERE route_guid IN ({list}) ORDER BY id"));
    for row in sql.all(connection).await? {
        let destination = read_destination(&row)?;
        found.entry(destination.route_guid.clone()).or_default().push(destination);
    }
    Ok(found)
}

pub async fn destinations_of(connection: &mut Connection, route: &str) -> Result<Vec<Destination>> {
    let text = "SELECT * FROM route_destinations WHERE route_guid = $1 ORDER BY id";
    query(text, [route.into()]).all(connection).await?.iter().map(read_destination).collect()
}

/// A destination on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDestination {
    pub app_guid: String,
    pub process_type: String,
    pub port: i64,
    pub protocol: String,
    pub weight: Option<i64>,
}

/// Answers the destination's guid.
pub async fn map(
    connection: &mut Connection,
    now: Timestamp,
    route: &str,
    new: &NewDestination,
) -> Result<String> {
    let columns = vec![
        ("route_guid", route.into()),
        ("app_guid", (&new.app_guid).into()),
        ("process_type", (&new.process_type).into()),
        ("port", new.port.into()),
        ("weight", new.weight.into()),
        ("protocol", (&new.protocol).into()),
    ];
    let guid = super::insert_new(connection, now, "route_destinations", columns).await?;
    super::processes::app_changed(connection, &new.app_guid).await?;
    Ok(guid)
}

pub async fn unmap(connection: &mut Connection, destination: &Destination) -> Result<()> {
    super::delete(connection, "route_destinations", "guid", &destination.guid).await?;
    super::processes::app_changed(connection, &destination.app_guid).await
}

pub async fn set_protocol(
    connection: &mut Connection,
    now: Timestamp,
    destination: &Destination,
    protocol: &str,
) -> Result<()> {
    let set = vec![("protocol", protocol.into())];
    super::change(connection, now, "route_destinations", &destination.guid, set).await?;
    super::processes::app_changed(connection, &destination.app_guid).await
}

pub async fn shared_spaces(connection: &mut Connection, route: &str) -> Result<Vec<String>> {
    let text = "SELECT s.guid FROM route_shares r JOIN spaces s ON s.guid = r.space_guid WHERE r.route_guid = $1 ORDER BY s.id";
    query(text, [route.into()]).all(connection).await?.iter().map(|row| row.text("guid")).collect()
}

pub async fn share(connection: &mut Connection, route: &str, space: &str) -> Result<()> {
    let text =
        "INSERT INTO route_shares (route_guid, space_guid) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    query(text, [route.into(), space.into()]).run(connection).await.map(drop)
}

pub async fn unshare(connection: &mut Connection, route: &str, space: &str) -> Result<()> {
    let text = "DELETE FROM route_shares WHERE route_guid = $1 AND space_guid = $2";
    query(text, [route.into(), space.into()]).run(connection).await.map(drop)
}

/// Whether `name` is the whole name of somebody's route, `host.domain`, so that no domain may be called so.
pub async fn is_whole_name(connection: &mut Connection, name: &str) -> Result<bool> {
    let Some((host, domain)) = name.split_once('.') else { return Ok(false) };
    let text = "SELECT r.guid FROM routes r JOIN domains d ON d.guid = r.domain_guid WHERE r.host = $1 AND d.name = $2 LIMIT 1";
    Ok(query(text, [host.into(), domain.into()]).optional(connection).await?.is_some())
}

/// Whether another space has a route of the host under the domain.
pub async fn host_is_elsewhere(
    connection: &mut Connection,
    domain: &str,
    host: &str,
    space: &str,
) -> Result<bool> {
    let text =
        "SELECT guid FROM routes WHERE domain_guid = $1 AND host = $2 AND space_guid <> $3 LIMIT 1";
    Ok(query(text, [domain.into(), host.into(), space.into()])
        .optional(connection)
        .await?
        .is_some())
}
