//! `/v3/routes`: addresses, the space they belong to, and lists of them.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value, json};
use sql::Connection;

use super::resource::by_guids as resources_by_guids;
use super::{common, domains, organizations, route_destinations};
use crate::Cc;
use crate::actions::route_options;
use crate::actions::routes::{self as actions, Address, By};
use crate::auth::Caller;
use crate::db::access::{self, OPERATORS};
use crate::db::metadata::{self, Metadata};
use crate::db::routes::{self, Destination, Route};
use crate::db::spaces::Space;
use crate::db::{self, Stored as _, feature_flags};
use crate::errors::{ApiError, ApiResult};
use crate::message::{Body, Fields};
use crate::query::{Filter, List, Listing, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/routes", get(list).post(create))
        .route("/v3/routes/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/apps/{guid}/routes", get(of_app))
        .route("/v3/spaces/{guid}/routes", axum::routing::delete(delete_unmapped))
}

const KIND: &str = "route";
const INCLUDES: &[&str] = &["domain", "space", "space.organization", "route_policies"];

const LIST: List = List {
    table: "routes",
    filters: &[
        ("hosts", Filter::Lower("routes.host")),
        ("paths", Filter::Text("routes.path")),
        ("ports", Filter::Int("routes.port")),
        ("domain_guids", Filter::Text("routes.domain_guid")),
        ("space_guids", Filter::Own),
        ("organization_guids", Filter::Text("sp.org_guid")),
        (
            "app_guids",
            Filter::Sql(
                "routes.guid IN (SELECT m.route_guid FROM route_destinations m WHERE m.app_guid IN ({}))",
            ),
        ),
        (
            "service_instance_guids",
            Filter::Sql(
                "routes.guid IN (SELECT b.route_guid FROM service_route_bindings b WHERE b.service_instance_guid IN ({}))",
            ),
        ),
    ],
    orders: &[],
    includes: INCLUDES,
    labels: Some(KIND),
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let listing = LIST.read(params)?;
    page(&cc, &caller, &urls, listing).await
}

async fn of_app(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    super::apps::visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    let app = listing.sql().arg(&guid);
    listing.condition(format!(
        "routes.guid IN (SELECT m.route_guid FROM route_destinations m WHERE m.app_guid = {app})"
    ));
    page(&cc, &caller, &urls, listing).await
}

async fn page(cc: &Cc, caller: &Caller, urls: &Urls, mut listing: Listing) -> ApiResult<Response> {
    if let Some(spaces) = listing.params.list("space_guids") {
        let list = listing.sql().list(spaces);
        listing.condition(format!(
            "(routes.space_guid IN ({list}) OR EXISTS (SELECT 1 FROM route_shares rs WHERE rs.route_guid = routes.guid AND rs.space_guid IN ({list})))"
        ));
    }
    listing.visible(|sql| routes::visible(sql, caller));
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, routes::COLUMNS, routes::FROM).await?;
    let found = page.items.iter().map(Route::read).collect::<db::Result<Vec<_>>>()?;
    let resources = present_all(&mut connection, urls, &found).await?;
    let included = included(&mut connection, caller, urls, &listing.includes, &found).await?;
    Ok(respond::ok(listing.present(urls, page.total, resources, included)))
}

async fn included(
    connection: &mut Connection,
    caller: &Caller,
    urls: &Urls,
    wanted: &[String],
    found: &[Route],
) -> ApiResult<BTreeMap<&'static str, Vec<Value>>> {
    let unique = |guid: fn(&Route) -> &String| -> Vec<String> {
        found.iter().map(guid).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    };
    let space_guids = unique(|route| &route.space_guid);
    let mut included = BTreeMap::new();
    for name in wanted {
        match name.as_str() {
            "domain" => {
                let guids = unique(|route| &route.domain_guid);
                included
                    .insert("domains", domains::by_guids(connection, caller, &guids, urls).await?);
            }
            "space" => drop(included.insert(
                "spaces",
                resources_by_guids::<Space>(connection, &space_guids, urls).await?,
            )),
            "space.organization" => {
                included.insert(
                    "spaces",
                    resources_by_guids::<Space>(connection, &space_guids, urls).await?,
                );
                included.insert(
                    "organizations",
                    organizations::of_spaces(connection, &space_guids, urls).await?,
                );
            }
            // No route has a policy as long as no domain asks for them.
            _ => drop(included.insert("route_policies", Vec::new())),
        }
    }
    Ok(included)
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let address = read_address(&mut fields);
    let [space, domain] = fields.relationships(["space", "domain"]);
    let options = fields.object("options").cloned().unwrap_or_default();
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    feature_flags::require(&mut tx, &caller, "route_creation").await?;
    let options = read_options(&mut tx, &json!({}), &options).await?;
    let rights = access::in_space(&mut tx, &caller, &space).await?;
    let found = db::spaces::find(&mut tx, &space).await?.filter(|_| rights.can_read());
    let invalid = |what: &str| {
        ApiError::unprocessable(format!(
            "Invalid {what}. Ensure that the {what} exists and you have access to it."
        ))
    };
    let space = found.ok_or_else(|| invalid("space"))?;
    let domain = db::domains::find(&mut tx, &domain).await?.ok_or_else(|| invalid("domain"))?;
    rights.change("Space", OPERATORS)?;
    if domain.is_shared() && address.host == "*" && !caller.is_admin() {
        let detail = "You do not have sufficient permissions to create a route with a wildcard host on a domain not scoped to an organization.";
        return Err(ApiError::unprocessable(detail));
    }
    let by = By { cc: &cc, caller: &caller, manifest: false };
    let route =
        actions::create(by, &mut tx, &space, &domain, &address, options, body.redacted(&[]))
            .await?;
    common::write_metadata(&mut tx, KIND, &route.guid, &metadata).await?;
    let document = document(&mut tx, &urls, &route.guid).await?;
    tx.commit().await?;
    Ok(respond::created(document))
}

fn read_address(fields: &mut Fields<'_>) -> Address {
    let host = fields.text("host").unwrap_or_default().to_lowercase();
    let path = fields.text("path").unwrap_or_default();
    let given = fields.has("port");
    let port = fields.int("port", 0..=65535);
    // Null is no wish for just any port.
    let port = if given { Some(port.unwrap_or(0)) } else { None };
    if host.len() > 63 {
        fields.error("Host is too long (maximum is 63 characters)");
    }
    if host != "*" && !host.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        fields.error(
            "Host must be either \"*\" or contain only alphanumeric characters, \"_\", or \"-\"",
        );
    }
    if let Some(problem) = path_problem(&path) {
        fields.error(format!("Path {problem}"));
    }
    Address { host, path, port }
}

/// Pure: what is wrong with a path.
pub fn path_problem(path: &str) -> Option<&'static str> {
    match path {
        "" => None,
        "/" => Some("cannot be exactly /"),
        _ if !path.starts_with('/') => Some("must begin with /"),
        _ if path.contains('?') => Some("cannot contain ?"),
        _ if path.len() > 128 => Some("is too long (maximum is 128 characters)"),
        _ if path
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}#".contains(c)) =>
        {
            Some("is invalid")
        }
        _ => None,
    }
}

/// The options after `change`, checked against what is switched on.
pub async fn read_options(
    tx: &mut Connection,
    before: &Value,
    change: &Map<String, Value>,
) -> ApiResult<Value> {
    let hash = feature_flags::is_enabled(tx, "hash_based_routing").await?;
    route_options::changed(before, change, hash)
        .map_err(|wrong| ApiError::unprocessable(wrong.join(", ")))
}

async fn find(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    params.only(&["include"])?;
    let wanted = params.includes(INCLUDES)?;
    let mut connection = cc.db.read().await?;
    let route = visible(&mut connection, &caller, &guid).await?;
    let mut document = document(&mut connection, &urls, &guid).await?;
    if !wanted.is_empty() {
        document["included"] =
            json!(included(&mut connection, &caller, &urls, &wanted, &[route]).await?);
    }
    Ok(respond::ok(document))
}

/// # Errors
/// 404 when the caller does not see it.
pub async fn visible(connection: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Route> {
    routes::find_visible(connection, caller, guid)
        .await?
        .ok_or_else(|| ApiError::not_found("Route"))
}

/// The route, when the caller may change it: operators of the space it belongs to.
pub async fn changeable(tx: &mut Connection, caller: &Caller, guid: &str) -> ApiResult<Route> {
    let route = visible(tx, caller, guid).await?;
    let rights = access::in_space(tx, caller, &route.space_guid).await?;
    if !rights.can_read() {
        return Err(ApiError::forbidden());
    }
    rights.change("Route", OPERATORS)?;
    Ok(route)
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut fields = body.fields();
    let options = fields.object("options").cloned();
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let route = changeable(&mut tx, &caller, &guid).await?;
    let mut set = Vec::new();
    if let Some(change) = &options {
        let after = read_options(&mut tx, &route.options, change).await?;
        set.push(("options", (&after).into()));
        routes::apps_changed(&mut tx, &guid).await?;
    }
    db::change(&mut tx, cc.now(), "routes", &guid, set).await?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let target = (guid.as_str(), KIND, route.host.as_str());
    let data = json!({ "request": body.redacted(&[]) });
    let place = (Some(route.space_guid.as_str()), None);
    common::audit(&mut tx, &cc, &caller, "audit.route.update", target, place, data).await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::ok(document))
}

async fn delete(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let route = changeable(&mut tx, &caller, &guid).await?;
    actions::delete(By { cc: &cc, caller: &caller, manifest: false }, &mut tx, &route).await?;
    let job = common::done_job(&mut tx, cc.now(), "route.delete", (KIND, &guid)).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::job(&urls, &job))
}

async fn delete_unmapped(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    params.only(&["unmapped"])?;
    let mut tx = cc.db.begin().await?;
    access::in_space(&mut tx, &caller, &guid).await?.change("Space", OPERATORS)?;
    if params.get("unmapped") != Some("true") {
        let detail = "Mass delete not supported for routes. Use 'unmapped=true' parameter to delete all unmapped routes.";
        return Err(ApiError::unprocessable(detail));
    }
    let by = By { cc: &cc, caller: &caller, manifest: false };
    for route in routes::unmapped(&mut tx, &guid).await? {
        actions::delete(by, &mut tx, &route).await?;
    }
    let job = common::done_job(&mut tx, cc.now(), "space.delete_unmapped_routes", ("space", &guid))
        .await?;
    tx.commit().await?;
    Ok(respond::job(&urls, &job))
}

async fn document(connection: &mut Connection, urls: &Urls, guid: &str) -> ApiResult<Value> {
    let route =
        routes::find(connection, guid).await?.ok_or_else(|| ApiError::not_found("Route"))?;
    Ok(present_all(connection, urls, &[route]).await?.remove(0))
}

/// For `include=route`.
pub async fn by_guids(
    connection: &mut Connection,
    guids: &[String],
    urls: &Urls,
) -> ApiResult<Vec<Value>> {
    let found = routes::find_many(connection, guids).await?;
    present_all(connection, urls, &found).await
}

/// With metadata and destinations, each loaded at once.
async fn present_all(
    connection: &mut Connection,
    urls: &Urls,
    found: &[Route],
) -> ApiResult<Vec<Value>> {
    let guids: Vec<String> = found.iter().map(|route| route.guid.clone()).collect();
    let metadata = metadata::load(connection, KIND, &guids).await?;
    let destinations = routes::destinations(connection, &guids).await?;
    let (no_metadata, none) = (Metadata::default(), Vec::new());
    let one = |route: &Route| {
        let metadata = metadata.get(&route.guid).unwrap_or(&no_metadata);
        present(route, destinations.get(&route.guid).unwrap_or(&none), metadata, urls)
    };
    Ok(found.iter().map(one).collect())
}

fn present(route: &Route, destinations: &[Destination], metadata: &Metadata, urls: &Urls) -> Value {
    let path = format!("routes/{}", route.guid);
    json!({
        "guid": route.guid,
        "protocol": route.protocol(),
        "port": (route.port != 0).then_some(route.port),
        "created_at": route.created_at.to_rfc3339(),
        "updated_at": route.updated_at.to_rfc3339(),
        "host": route.host,
        "path": route.path,
        "url": route.url(),
        "destinations": destinations.iter().map(route_destinations::present).collect::<Vec<_>>(),
        "options": route.options,
        "relationships": {
            "space": common::to_one(Some(&route.space_guid)),
            "domain": common::to_one(Some(&route.domain_guid)),
        },
        "metadata": metadata.to_json(),
        "links": {
            "self": urls.link(&path),
            "space": urls.link(&format!("spaces/{}", route.space_guid)),
            "destinations": urls.link(&format!("{path}/destinations")),
            "domain": urls.link(&format!("domains/{}", route.domain_guid)),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain() {
        for good in ["", "/a", "/a/b%20c"] {
            assert_eq!(path_problem(good), None, "{good}");
        }
        for bad in ["/", "a", "/a?b", "/a b", &format!("/{}", "a".repeat(128))] {
            assert!(path_problem(bad).is_some(), "{bad}");
        }
    }
}
