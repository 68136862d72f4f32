//! `/routing/v1/router_groups`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use diego::routing::ReservablePorts;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{GROUPS_READ, GROUPS_WRITE, Result, RoutingError, given, require};
use crate::Cc;
use crate::db::router_groups::{self, RouterGroup};

/// As clients show it to their users, with the spaces of a query.
const WARNING: (HeaderName, &str) = (
    HeaderName::from_static("x-cf-warnings"),
    "Warning%3A+if+routes+are+registered+for+ports+that+are+not+in+the+new+range%2C+modifying+your+load+balancer+to+remove+these+ports+will+result+in+backends+for+those+routes+becoming+inaccessible.",
);
/// Longer names and lists of ports are refused.
const LONGEST: usize = 4096;

pub async fn list(cc: Cc, parts: Parts) -> Result<Json<Value>> {
    require(&cc, &parts, GROUPS_READ).await?;
    let mut connection = cc.db.read().await?;
    let named = given(&parts, "name").into_iter().find(|name| !name.is_empty());
    let found = match named {
        None => router_groups::all(&mut connection).await?,
        Some(name) => {
            let group = router_groups::find_by_name(&mut connection, &name).await?;
            vec![group.ok_or_else(|| {
                RoutingError::not_found(format!("router group '{name}' not found"))
            })?]
        }
    };
    Ok(Json(found.iter().map(present).collect()))
}

pub async fn find(cc: Cc, Path(guid): Path<String>, parts: Parts) -> Result<Json<Value>> {
    require(&cc, &parts, GROUPS_READ).await?;
    let group = router_groups::find(&mut *cc.db.read().await?, &guid).await?;
    Ok(Json(present(&group.ok_or_else(|| missing(&guid))?)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    reservable_ports: String,
}

fn read(body: &Bytes) -> Result<Message> {
    let message: Message = serde_json::from_slice(body).map_err(RoutingError::process)?;
    let texts = [&message.name, &message.kind, &message.reservable_ports];
    if texts.iter().any(|text| text.len() > LONGEST) {
        return Err(RoutingError::process("a value is too long"));
    }
    Ok(message)
}

pub async fn create(cc: Cc, parts: Parts, body: Bytes) -> Result<Response> {
    require(&cc, &parts, GROUPS_WRITE).await?;
    let message = read(&body)?;
    let group = RouterGroup {
        guid: base::new_guid(),
        name: message.name,
        kind: message.kind,
        reservable_ports: message.reservable_ports,
    };
    let mut tx = cc.db.begin().await?;
    if let Some(known) = router_groups::find_by_name(&mut tx, &group.name).await? {
        if known.kind == group.kind {
            return Ok(Json(present(&known)).into_response());
        }
        let why = format!("router group '{}' has the type {}", known.name, known.kind);
        return Err(RoutingError::process(why));
    }
    check(&group)?;
    router_groups::insert(&mut tx, cc.now(), &group).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(present(&group))).into_response())
}

/// Only the ports can be changed.
pub async fn update(
    cc: Cc,
    Path(guid): Path<String>,
    parts: Parts,
    body: Bytes,
) -> Result<Response> {
    require(&cc, &parts, GROUPS_WRITE).await?;
    let message = read(&body)?;
    let mut tx = cc.db.begin().await?;
    let group = router_groups::find(&mut tx, &guid).await?.ok_or_else(|| missing(&guid))?;
    let group = RouterGroup { reservable_ports: message.reservable_ports, ..group };
    check(&group)?;
    router_groups::set_ports(&mut tx, cc.now(), &guid, &group.reservable_ports).await?;
    tx.commit().await?;
    Ok(([WARNING], Json(present(&group))).into_response())
}

pub async fn delete(cc: Cc, Path(guid): Path<String>, parts: Parts) -> Result<StatusCode> {
    require(&cc, &parts, GROUPS_WRITE).await?;
    let mut tx = cc.db.begin().await?;
    let known = router_groups::delete(&mut tx, &guid).await?;
    tx.commit().await?;
    // Without a body, as the Routing API says it.
    Ok(if known { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
}

fn missing(guid: &str) -> RoutingError {
    RoutingError::not_found(format!("router group '{guid}' does not exist"))
}

/// Pure: whether a group can be like this.
fn check(group: &RouterGroup) -> Result<()> {
    let problem = match (group.kind.as_str(), group.reservable_ports.as_str()) {
        _ if group.name.is_empty() => "missing name in router group".to_owned(),
        ("", _) => "missing type in router group".to_owned(),
        ("http", "") => return Ok(()),
        ("http", _) => {
            "reservable ports are not supported for router groups of type http".to_owned()
        }
        ("tcp", "") => format!("missing reservable_ports in router group: {}", group.name),
        ("tcp", ports) => match ports.parse::<ReservablePorts>() {
            Ok(_) => return Ok(()),
            Err(problem) => problem.to_string(),
        },
        (kind, _) => format!("router groups of type {kind} do not exist: use tcp or http"),
    };
    Err(RoutingError::process(problem))
}

fn present(group: &RouterGroup) -> Value {
    json!({
        "guid": group.guid,
        "name": group.name,
        "type": group.kind,
        "reservable_ports": group.reservable_ports,
    })
}
