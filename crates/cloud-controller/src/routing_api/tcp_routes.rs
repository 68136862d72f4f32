//! `/routing/v1/tcp_routes`: which ports lead to which instances now, and as it changes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use diego::actual_lrp::State;
use diego::{ActualLrp, InstanceKey, NetInfo};
use futures::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};

use super::error::Name;
use super::{ROUTES_READ, Result, RoutingError, given, require};
use crate::Cc;
use crate::db::processes::lrp_guid;
use crate::db::{Columns as _, query, routing};

/// Seconds that a reader may believe a route without hearing of it again; the default of the Routing API.
const TTL: u32 = 120;
/// Backends speak no TLS, and are not to be asked for it.
const NO_TLS: i32 = -1;
/// Readers of the stream at once; more are refused.
const READERS: usize = 32;
/// Changes that come so close together are told together.
const TOGETHER: Duration = Duration::from_millis(50);

static SEATS: Semaphore = Semaphore::const_new(READERS);

/// Every route by what identifies it: port, instance and its port.
type Routes = BTreeMap<(u16, String, u16), Value>;

pub async fn list(cc: Cc, parts: Parts) -> Result<Json<Vec<Value>>> {
    require(&cc, &parts, ROUTES_READ).await?;
    let segments = given(&parts, "isolation_segment");
    let fits = |route: &Value| {
        let own = &route["isolation_segment"];
        segments.is_empty() || segments.iter().any(|segment| own == segment)
    };
    Ok(Json(all(&cc).await?.into_values().filter(fits).collect()))
}

/// `Upsert` and `Delete` events from now on.
pub async fn events(cc: Cc, parts: Parts) -> Result<Sse<impl Stream<Item = Told>>> {
    require(&cc, &parts, ROUTES_READ).await?;
    let seat = SEATS.try_acquire().map_err(|_| {
        let message = format!("Cannot process request: {READERS} read the events already");
        RoutingError::new(StatusCode::SERVICE_UNAVAILABLE, Name::ProcessRequest, message)
    })?;
    let changes = cc.changes.listen();
    let known = all(&cc).await?;
    let reader = Reader { cc, changes, known, told: 0, _seat: seat };
    let rounds = stream::unfold(reader, async |mut reader| Some((reader.round().await?, reader)));
    Ok(Sse::new(rounds.map(stream::iter).flatten()).keep_alive(KeepAlive::default()))
}

type Told = std::result::Result<Event, Infallible>;

/// One who follows the routes.
struct Reader {
    cc: Cc,
    changes: broadcast::Receiver<Arc<str>>,
    known: Routes,
    told: u64,
    _seat: SemaphorePermit<'static>,
}

impl Reader {
    /// Waits until something may have changed and answers what did. `None` ends the stream: the reader comes again and
    /// lists everything.
    async fn round(&mut self) -> Option<Vec<Told>> {
        tokio::select! {
            () = self.cc.stop.cancelled() => return None,
            // Whatever it was, and however many were missed: everything is looked at.
            _ = self.changes.recv() => {}
        }
        tokio::time::sleep(TOGETHER).await;
        self.changes = self.changes.resubscribe();
        let now = all(&self.cc).await.ok()?;
        let mut events = Vec::new();
        for (name, route) in difference(&self.known, &now) {
            let event = Event::default().id(self.told.to_string()).event(name);
            events.push(Ok(event.data(route.to_string())));
            self.told += 1;
        }
        self.known = now;
        Some(events)
    }
}

/// Pure: the events that make `now` of `before`.
fn difference<'a>(before: &'a Routes, now: &'a Routes) -> Vec<(&'static str, &'a Value)> {
    let changed = now.iter().filter(|(key, route)| before.get(*key) != Some(*route));
    let gone = before.iter().filter(|(key, _)| !now.contains_key(*key));
    let upserts = changed.map(|(_, route)| ("Upsert", route));
    upserts.chain(gone.map(|(_, route)| ("Delete", route))).collect()
}

async fn all(cc: &Cc) -> Result<Routes> {
    let text = "SELECT r.port, d.router_group_guid, x.port AS app_port, p.guid AS process_guid, p.version, g.name AS segment \
                FROM route_destinations x JOIN routes r ON r.guid = x.route_guid JOIN domains d ON d.guid = r.domain_guid \
                JOIN processes p ON p.app_guid = x.app_guid AND p.type = x.process_type JOIN apps a ON a.guid = p.app_guid \
                JOIN spaces s ON s.guid = a.space_guid JOIN organizations o ON o.guid = s.org_guid \
                LEFT JOIN isolation_segments g ON g.guid = COALESCE(s.isolation_segment_guid, o.default_isolation_segment_guid) \
                WHERE r.port <> 0 AND a.state = 'STARTED'";
    let rows = query(text, []).all(&mut *cc.db.read().await?).await?;
    let mut routes = Routes::new();
    for row in rows {
        let port = |column: &str| row.int(column).map(|port| u16::try_from(port).unwrap_or(0));
        let (route_port, app_port) = (port("port")?, port("app_port")?);
        let app_port = if app_port == 0 { routing::DEFAULT_PORT } else { app_port };
        let (group, segment) = (row.maybe_text("router_group_guid")?, row.maybe_text("segment")?);
        let segment = segment.filter(|name| name != "shared").unwrap_or_default();
        let lrp = lrp_guid(&row.text("process_guid")?, &row.text("version")?);
        for instance in cc.mirror.instances(&lrp) {
            let State::Running { by, net, routable: true } = &instance.state else { continue };
            let Some((ip, backend_port)) = backend(net, app_port) else { continue };
            let route = json!({
                "router_group_guid": group,
                "port": route_port,
                "backend_ip": ip,
                "backend_port": backend_port,
                "backend_tls_port": NO_TLS,
                "instance_id": by.instance_guid,
                "modification_tag": tag(&instance),
                "ttl": TTL,
                "isolation_segment": segment,
            });
            routes.insert(key(route_port, by, backend_port), route);
        }
    }
    Ok(routes)
}

fn key(port: u16, by: &InstanceKey, backend: u16) -> (u16, String, u16) {
    (port, by.instance_guid.to_string(), backend)
}

fn tag(lrp: &ActualLrp) -> Value {
    json!({ "guid": lrp.modification_tag.epoch, "index": lrp.modification_tag.index })
}

/// Where others reach a port of the instance: by its cell, or by its own address where the cell forwards nothing.
fn backend(net: &NetInfo, port: u16) -> Option<(String, u16)> {
    let mapping = net.ports.iter().find(|mapping| mapping.container_port == port)?;
    Some(match mapping.host_port {
        0 => (net.instance_address.to_string(), mapping.listen_port),
        port => (net.address.to_string(), port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_and_what_stayed_is_not() {
        let routes = |all: &[(u16, &str)]| -> Routes {
            all.iter().map(|(port, value)| ((*port, "i".to_owned(), 1), json!(value))).collect()
        };
        let (before, now) =
            (routes(&[(1, "a"), (2, "b"), (3, "c")]), routes(&[(1, "a"), (2, "x"), (4, "d")]));
        let told: Vec<_> = difference(&before, &now)
            .into_iter()
            .map(|(name, route)| format!("{name} {}", route.as_str().unwrap()))
            .collect();
        assert_eq!(told, ["Upsert x", "Upsert d", "Delete c"]);
    }
}
