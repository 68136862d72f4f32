//! Router groups: whose ports TCP routes have.

use base::Timestamp;
use diego::routing::ReservablePorts;
use rand::seq::IteratorRandom as _;
use sql::Connection;

use super::{Columns as _, Result, Row, query};

/// The group that is there from the start. Its name is Cloud Foundry's.
pub const DEFAULT: &str = "default-tcp";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterGroup {
    pub guid: String,
    pub name: String,
    /// `tcp` or `http`.
    pub kind: String,
    /// As it was written; empty for HTTP.
    pub reservable_ports: String,
}

impl RouterGroup {
    pub fn is_tcp(&self) -> bool {
        self.kind == "tcp"
    }

    /// `None` when the group has no ports.
    pub fn ports(&self) -> Option<ReservablePorts> {
        self.reservable_ports.parse().ok()
    }
}

fn read(row: &Row) -> Result<RouterGroup> {
    Ok(RouterGroup {
        guid: row.text("guid")?,
        name: row.text("name")?,
        kind: row.text("type")?,
        reservable_ports: row.text("reservable_ports")?,
    })
}

/// In the order they were made.
pub async fn all(connection: &mut Connection) -> Result<Vec<RouterGroup>> {
    let text = "SELECT * FROM router_groups ORDER BY id";
    query(text, []).all(connection).await?.iter().map(read).collect()
}

pub async fn find(connection: &mut Connection, guid: &str) -> Result<Option<RouterGroup>> {
    let text = "SELECT * FROM router_groups WHERE guid = $1";
    query(text, [guid.into()]).optional(connection).await?.as_ref().map(read).transpose()
}

pub async fn find_by_name(connection: &mut Connection, name: &str) -> Result<Option<RouterGroup>> {
    let text = "SELECT * FROM router_groups WHERE name = $1";
    query(text, [name.into()]).optional(connection).await?.as_ref().map(read).transpose()
}

pub async fn insert(
    connection: &mut Connection,
    now: Timestamp,
    group: &RouterGroup,
) -> Result<()> {
    let columns = vec![
        ("guid", (&group.guid).into()),
        ("name", (&group.name).into()),
        ("type", (&group.kind).into()),
        ("reservable_ports", (&group.reservable_ports).into()),
        ("created_at", now.into()),
        ("updated_at", now.into()),
    ];
    super::insert(connection, "router_groups", columns).await
}

pub async fn set_ports(
    connection: &mut Connection,
    now: Timestamp,
    guid: &str,
    ports: &str,
) -> Result<()> {
    let set = vec![("reservable_ports", ports.into())];
    super::change(connection, now, "router_groups", guid, set).await
}

/// Whether there was one. Routes below its domains stay.
pub async fn delete(connection: &mut Connection, guid: &str) -> Result<bool> {
    Ok(super::delete(connection, "router_groups", "guid", guid).await? > 0)
}

/// Makes the first group when there is none, and gives it the operator's ports when the setting changed: what was said
/// last, by setting or by API, holds.
pub async fn configure(
    connection: &mut Connection,
    now: Timestamp,
    ports: &ReservablePorts,
) -> Result<()> {
    let ports = ports.to_string();
    if all(connection).await?.is_empty() {
        let group = RouterGroup {
            guid: base::new_guid(),
            name: DEFAULT.to_owned(),
            kind: "tcp".to_owned(),
            reservable_ports: String::new(),
        };
        insert(connection, now, &group).await?;
    }
    let text = "UPDATE router_groups SET reservable_ports = $1, configured_ports = $1, updated_at = $2 \
                WHERE name = $3 AND type = 'tcp' AND configured_ports <> $1";
    query(text, [(&ports).into(), now.into(), DEFAULT.into()]).run(connection).await.map(drop)
}

/// Until this transaction ends nobody else takes a port.
pub async fn lock_ports(connection: &mut Connection) -> Result<()> {
    let text = "UPDATE router_groups SET updated_at = updated_at WHERE type = 'tcp'";
    query(text, []).run(connection).await.map(drop)
}

/// The domain whose route has the port.
pub async fn holder(connection: &mut Connection, port: i64) -> Result<Option<String>> {
    let text = "SELECT domain_guid FROM routes WHERE port = $1";
    let row = query(text, [port.into()]).optional(connection).await?;
    row.map(|row| row.text("domain_guid")).transpose()
}

/// One of `ports` that no route has, by chance; `None` when all are taken.
pub async fn free_port(
    connection: &mut Connection,
    ports: &ReservablePorts,
) -> Result<Option<i64>> {
    let rows = query("SELECT port FROM routes WHERE port <> 0", []).all(connection).await?;
    let taken =
        rows.iter().map(|row| row.int("port")).collect::<Result<std::collections::HashSet<_>>>()?;
    let free = ports.iter().map(i64::from).filter(|port| !taken.contains(port));
    Ok(free.choose(&mut rand::rng()))
}
