//! Where a route leads, and which other spaces may use it.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use super::{common, routes as resource};
use crate::Cc;
use crate::actions::routes::{self as actions, By, Wanted};
use crate::auth::Caller;
use crate::db::access::{self, DEVELOPERS, OPERATORS};
use crate::db::routes::{self, Destination, Route};
use crate::db::{self, domains, feature_flags};
use crate::errors::{ApiError, ApiResult};
use crate::message::{Body, Fields, to_many_body, to_one_body};
use crate::query::Params;
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/routes/{guid}/destinations", get(list).post(insert).patch(replace))
        .route(
            "/v3/routes/{guid}/destinations/{destination}",
            axum::routing::patch(update).delete(delete),
        )
        .route("/v3/routes/{guid}/relationships/shared_spaces", get(shared_spaces).post(share))
        .route(
            "/v3/routes/{guid}/relationships/shared_spaces/{space}",
            axum::routing::delete(unshare),
        )
        .route("/v3/routes/{guid}/relationships/space", axum::routing::patch(transfer))
}

const NO_SUCH: &str =
    "Unable to unmap route from destination. Ensure the route has a destination with this guid.";

async fn list(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    params.only(&["guids", "app_guids"])?;
    let mut connection = cc.db.read().await?;
    resource::visible(&mut connection, &caller, &guid).await?;
    let mut found = routes::destinations_of(&mut connection, &guid).await?;
    if let Some(guids) = params.list("guids") {
        found.retain(|destination| guids.contains(&destination.guid));
    }
    if let Some(apps) = params.list("app_guids") {
        found.retain(|destination| apps.contains(&destination.app_guid));
    }
    Ok(respond::ok(present_all(&found, &guid, &urls)))
}

async fn insert(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let wanted = read(&body, false)?;
    let mut tx = cc.db.begin().await?;
    let route = resource::changeable(&mut tx, &caller, &guid).await?;
    check_apps(&mut tx, &caller, &wanted).await?;
    actions::add(By { cc: &cc, caller: &caller, manifest: false }, &mut tx, &route, &wanted)
        .await?;
    finish(&cc, tx, &guid, &urls).await
}

async fn replace(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let wanted = read(&body, true)?;
    let mut tx = cc.db.begin().await?;
    let route = resource::changeable(&mut tx, &caller, &guid).await?;
    check_apps(&mut tx, &caller, &wanted).await?;
    actions::replace(By { cc: &cc, caller: &caller, manifest: false }, &mut tx, &route, &wanted)
        .await?;
    finish(&cc, tx, &guid, &urls).await
}

async fn finish(cc: &Cc, mut tx: sql::Tx, guid: &str, urls: &Urls) -> ApiResult<Response> {
    let found = routes::destinations_of(&mut tx, guid).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::ok(present_all(&found, guid, urls)))
}

/// Apps that exist but that the caller does not see are named as such; the rest is the action's.
async fn check_apps(tx: &mut Connection, caller: &Caller, wanted: &[Wanted]) -> ApiResult<()> {
    let mut hidden = Vec::new();
    for wanted in wanted {
        let Some(app) = db::apps::find(tx, &wanted.app_guid).await? else { continue };
        if !access::in_space(tx, caller, &app.space_guid).await?.can_read() {
            hidden.push(app.guid);
        }
    }
    if hidden.is_empty() {
        return Ok(());
    }
    let detail =
        format!("App(s) with guid(s) \"{}\" you do not have access.", hidden.join("\", \""));
    Err(ApiError::unprocessable(detail))
}

fn read(body: &Body, replace: bool) -> ApiResult<Vec<Wanted>> {
    let mut fields = body.fields();
    let least = usize::from(!replace);
    let items = fields
        .value("destinations")
        .and_then(Value::as_array)
        .filter(|items| (least..=100).contains(&items.len()));
    let Some(items) = items else {
        fields.error(format!(
            "Destinations must be an array containing between {least} and 100 destination objects."
        ));
        return Err(fields.finish().err().unwrap_or_else(ApiError::parse));
    };
    let mut wanted = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match read_one(item, replace) {
            Ok(one) => wanted.push(one),
            Err(why) => fields.error(format!("Destinations[{at}]: {why}")),
        }
    }
    let weights: Vec<i64> = wanted.iter().filter_map(|one| one.weight).collect();
    if !weights.is_empty() && weights.len() != wanted.len() {
        fields.error("Destinations cannot contain both weighted and unweighted destinations.");
    } else if !weights.is_empty() && weights.iter().sum::<i64>() != 100 {
        fields.error("Destinations must have weights that sum to 100.");
    }
    fields.finish()?;
    Ok(wanted)
}

fn read_one(item: &Value, replace: bool) -> Result<Wanted, String> {
    let object = item.as_object().ok_or("must be an object.")?;
    let app = object.get("app").ok_or("must have an \"app\".")?;
    if object.keys().any(|key| !["app", "weight", "port", "protocol"].contains(&key.as_str())) {
        return Err("must have only \"app\" and optionally \"weight\", \"port\" or \"protocol\"."
            .to_owned());
    }
    let app_guid = app.get("guid").and_then(Value::as_str).filter(|guid| !guid.is_empty());
    let app_guid = app_guid.ok_or("app must have the structure {\"guid\": \"app_guid\"}")?;
    let process_type = match app.get("process") {
        None | Some(Value::Null) => "web",
        Some(process) => {
            let kind = process.get("type").and_then(Value::as_str).filter(|kind| !kind.is_empty());
            kind.ok_or("process must have the structure {\"type\": \"process_type\"}")?
        }
    };
    let given = |key: &str| object.get(key).filter(|value| !value.is_null());
    let whole = |key: &str, range: std::ops::RangeInclusive<i64>, words: &str| match given(key) {
        None => Ok(None),
        Some(value) => value
            .as_i64()
            .filter(|number| range.contains(number))
            .map(Some)
            .ok_or_else(|| words.to_owned()),
    };
    let port = whole(
        "port",
        1024..=65535,
        "port must be a positive integer between 1024 and 65535 inclusive.",
    )?;
    let weight = whole("weight", 1..=100, "weight must be a positive integer between 1 and 100.")?;
    if weight.is_some() && !replace {
        return Err(
            "weighted destinations can only be used when replacing all destinations.".to_owned()
        );
    }
    let protocol = match given("protocol") {
        None => None,
        Some(value) => Some(protocol(value).ok_or("protocol must be 'http1', 'http2' or 'tcp'.")?),
    };
    Ok(Wanted {
        app_guid: app_guid.to_owned(),
        process_type: process_type.to_owned(),
        port,
        weight,
        protocol,
    })
}

fn protocol(value: &Value) -> Option<String> {
    value.as_str().filter(|name| ["http1", "http2", "tcp"].contains(name)).map(str::to_owned)
}

async fn one(tx: &mut Connection, route: &str, guid: &str) -> ApiResult<Destination> {
    let found = routes::destinations_of(tx, route)
        .await?
        .into_iter()
        .find(|destination| destination.guid == guid);
    found.ok_or_else(|| ApiError::unprocessable(NO_SUCH))
}

async fn update(
    cc: Cc,
    caller: Caller,
    Path((guid, destination)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let wanted = read_protocol(&mut fields);
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let route = resource::changeable(&mut tx, &caller, &guid).await?;
    let found = one(&mut tx, &guid, &destination).await?;
    if let Some(wanted) = wanted {
        if route.tcp && wanted != "tcp" {
            let detail =
                "Destination protocol must be 'tcp' if the parent route's protocol is 'tcp'";
            return Err(ApiError::unprocessable(detail));
        }
        if !route.tcp && wanted == "tcp" {
            let detail = "Destination protocol must be 'http1' or 'http2' if the parent route's protocol is 'http'";
            return Err(ApiError::unprocessable(detail));
        }
        routes::set_protocol(&mut tx, cc.now(), &found, &wanted).await?;
    }
    let found = one(&mut tx, &guid, &destination).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::ok(present(&found)))
}

fn read_protocol(fields: &mut Fields<'_>) -> Option<String> {
    let value = fields.value("protocol")?;
    let found = protocol(value);
    if found.is_none() {
        fields.error("Protocol must be 'http1', 'http2' or 'tcp'.");
    }
    found
}

async fn delete(
    cc: Cc,
    caller: Caller,
    Path((guid, destination)): Path<(String, String)>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let route = resource::changeable(&mut tx, &caller, &guid).await?;
    let found = one(&mut tx, &guid, &destination).await?;
    if found.weight.is_some() {
        return Err(ApiError::unprocessable(
            "Weighted destinations cannot be deleted individually.",
        ));
    }
    actions::remove(By { cc: &cc, caller: &caller, manifest: false }, &mut tx, &route, &found)
        .await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::no_content())
}

async fn shared_spaces(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    feature_flags::require(&mut connection, &caller, "route_sharing").await?;
    resource::visible(&mut connection, &caller, &guid).await?;
    let spaces = routes::shared_spaces(&mut connection, &guid).await?;
    Ok(respond::ok(shares(&spaces, &guid, &urls)))
}

fn shares(spaces: &[String], guid: &str, urls: &Urls) -> Value {
    respond::to_many(spaces, urls.link(&format!("routes/{guid}/relationships/shared_spaces")))
}

async fn share(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let spaces = to_many_body(&body)?;
    let mut tx = cc.db.begin().await?;
    feature_flags::require(&mut tx, &caller, "route_sharing").await?;
    let route = resource::changeable(&mut tx, &caller, &guid).await?;
    let (mut hidden, mut closed) = (Vec::new(), Vec::new());
    for space in &spaces {
        let rights = access::in_space(&mut tx, &caller, space).await?;
        if rights.org_guid.is_empty() || !rights.can_read() {
            hidden.push(format!("'{space}'"));
        } else if !rights.can_write(OPERATORS) {
            closed.push(format!("'{space}'"));
        }
    }
    let url = route.url();
    if !hidden.is_empty() {
        let list = hidden.join(", ");
        let detail = format!(
            "Unable to share route {url} with spaces [{list}]. Ensure the spaces exist and that you have access to them."
        );
        return Err(ApiError::unprocessable(detail));
    }
    if !closed.is_empty() {
        return Err(ApiError::unprocessable(format!(
            "Unable to share route {url} with spaces [{}]. Write permission is required in order to share a route with a space \
             and the containing organization must not be suspended.",
            closed.join(", ")
        )));
    }
    if spaces.contains(&route.space_guid) {
        return Err(ApiError::unprocessable(format!(
            "Unable to share route '{url}' with space '{}'. Routes cannot be shared into the space where they were created.",
            route.space_guid
        )));
    }
    for space in &spaces {
        routes::share(&mut tx, &guid, space).await?;
    }
    audit(
        &cc,
        &mut tx,
        &caller,
        &route,
        "audit.route.share",
        json!({ "target_space_guids": spaces }),
    )
    .await?;
    let all = routes::shared_spaces(&mut tx, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(shares(&all, &guid, &urls)))
}

async fn audit(
    cc: &Cc,
    tx: &mut Connection,
    caller: &Caller,
    route: &Route,
    kind: &str,
    data: Value,
) -> ApiResult<()> {
    let target = (route.guid.as_str(), "route", route.host.as_str());
    common::audit(tx, cc, caller, kind, target, (Some(&route.space_guid), None), data).await
}

/// # Errors
/// 422 beginning with `what` unless the caller may work in the space.
async fn target_space(
    tx: &mut Connection,
    caller: &Caller,
    space: &str,
    roles: &[&str],
    what: &str,
) -> ApiResult<access::Rights> {
    let rights = access::in_space(tx, caller, space).await?;
    let why = if rights.org_guid.is_empty() || !rights.can_read() {
        "Ensure the space exists and that you have access to it."
    } else if !rights.has(roles) && !caller.is_admin() {
        "You don't have write permission for the target space."
    } else if !rights.can_write(roles) {
        "The target organization or space is suspended."
    } else {
        return Ok(rights);
    };
    Err(ApiError::unprocessable(format!("{what} {why}")))
}

async fn unshare(
    cc: Cc,
    caller: Caller,
    Path((guid, space)): Path<(String, String)>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    feature_flags::require(&mut tx, &caller, "route_sharing").await?;
    let route = resource::changeable(&mut tx, &caller, &guid).await?;
    let what = format!("Unable to unshare route '{}' from space '{space}'.", route.url());
    target_space(&mut tx, &caller, &space, OPERATORS, &what).await?;
    if space == route.space_guid {
        let detail = format!("{what} Routes cannot be removed from the space that owns them.");
        return Err(ApiError::unprocessable(detail));
    }
    routes::unshare(&mut tx, &guid, &space).await?;
    audit(
        &cc,
        &mut tx,
        &caller,
        &route,
        "audit.route.unshare",
        json!({ "target_space_guid": space }),
    )
    .await?;
    tx.commit().await?;
    Ok(respond::no_content())
}

/// The route moves; the space it leaves keeps using it.
async fn transfer(
    cc: Cc,
    caller: Caller,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let space =
        to_one_body(&body)?.ok_or_else(|| ApiError::unprocessable("Data can't be blank"))?;
    let mut tx = cc.db.begin().await?;
    feature_flags::require(&mut tx, &caller, "route_sharing").await?;
    let route = resource::visible(&mut tx, &caller, &guid).await?;
    access::in_space(&mut tx, &caller, &route.space_guid).await?.change("Route", DEVELOPERS)?;
    let what = format!("Unable to transfer owner of route '{}' to space '{space}'.", route.url());
    let rights = target_space(&mut tx, &caller, &space, DEVELOPERS, &what).await?;
    let domain = domains::find(&mut tx, &route.domain_guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Domain"))?;
    if !domains::usable_by(&mut tx, &domain, &rights.org_guid).await? {
        return Err(ApiError::unprocessable(format!(
            "{what} Target space does not have access to route's domain"
        )));
    }
    if space != route.space_guid {
        let set = vec![("space_guid", (&space).into())];
        db::change(&mut tx, cc.now(), "routes", &guid, set).await?;
        routes::unshare(&mut tx, &guid, &space).await?;
        routes::share(&mut tx, &guid, &route.space_guid).await?;
        let data = json!({ "target_space_guid": space });
        audit(&cc, &mut tx, &caller, &route, "audit.route.transfer-owner", data).await?;
    }
    tx.commit().await?;
    Ok(respond::ok(json!({ "status": "ok" })))
}

fn present_all(found: &[Destination], route: &str, urls: &Urls) -> Value {
    json!({
        "destinations": found.iter().map(present).collect::<Vec<_>>(),
        "links": {
            "self": urls.link(&format!("routes/{route}/destinations")),
            "route": urls.link(&format!("routes/{route}")),
        },
    })
}

pub fn present(destination: &Destination) -> Value {
    json!({
        "guid": destination.guid,
        "created_at": destination.created_at.to_rfc3339(),
        "updated_at": destination.updated_at.to_rfc3339(),
        "app": { "guid": destination.app_guid, "process": { "type": destination.process_type } },
        "weight": destination.weight,
        "port": if destination.port == 0 { 8080 } else { destination.port },
        "protocol": destination.protocol,
    })
}
