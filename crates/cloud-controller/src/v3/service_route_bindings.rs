//! `/v3/service_route_bindings`: routes whose requests go through a user-provided route service.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use sql::Connection;

use super::{common, resource, routes as route_resource, service_instances};
use crate::Cc;
use crate::auth::Caller;
use crate::db::access::{self, OPERATORS};
use crate::db::metadata::{self, Metadata};
use crate::db::service_instances::ServiceInstance;
use crate::db::{self, Columns as _, Row, query, routes as route_rows};
use crate::errors::{ApiError, ApiResult, Kind, when_taken};
use crate::message::Body;
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/service_route_bindings", get(list).post(create))
        .route("/v3/service_route_bindings/{guid}", get(find).patch(update).delete(delete))
        .route("/v3/service_route_bindings/{guid}/parameters", get(parameters))
}

const KIND: &str = "service_route_binding";
const WHAT: &str = "Service route binding";
const COLUMNS: &str = "service_route_bindings.*, r.space_guid";
const FROM: &str =
    "service_route_bindings JOIN routes r ON r.guid = service_route_bindings.route_guid";

const LIST: List = List {
    table: "service_route_bindings",
    filters: &[
        ("route_guids", Filter::Text("service_route_bindings.route_guid")),
        ("service_instance_guids", Filter::Text("service_route_bindings.service_instance_guid")),
        (
            "service_instance_names",
            Filter::Sql(
                "service_route_bindings.service_instance_guid IN (SELECT guid FROM service_instances WHERE name IN ({}))",
            ),
        ),
    ],
    orders: &[],
    includes: &["route", "service_instance"],
    labels: Some(KIND),
};

async fn list(cc: Cc, caller: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    let mut listing = LIST.read(params)?;
    listing.visible(|sql| access::visible_space(sql, &caller, "r.space_guid"));
    let mut connection = cc.db.read().await?;
    let page = listing.fetch(&mut connection, COLUMNS, FROM).await?;
    let resources = present_all(&mut connection, &urls, &page.items).await?;
    let mut included = BTreeMap::new();
    for name in &listing.includes {
        let guids = |column: &str| {
            page.items.iter().map(|row| row.text(column)).collect::<db::Result<Vec<_>>>()
        };
        if name == "route" {
            let documents =
                route_resource::by_guids(&mut connection, &guids("route_guid")?, &urls).await?;
            included.insert("routes", documents);
        } else {
            let documents = resource::by_guids::<ServiceInstance>(
                &mut connection,
                &guids("service_instance_guid")?,
                &urls,
            )
            .await?;
            included.insert("service_instances", documents);
        }
    }
    Ok(respond::ok(listing.present(&urls, page.total, resources, included)))
}

async fn create(cc: Cc, caller: Caller, urls: Urls, body: Body) -> ApiResult<Response> {
    let mut fields = body.fields();
    let [route, instance] = fields.relationships(["route", "service_instance"]);
    let parameters = fields.object("parameters").is_some_and(|parameters| !parameters.is_empty());
    let metadata = fields.metadata();
    fields.finish()?;
    let mut tx = cc.db.begin().await?;
    let missing = |what: &str, guid: &str| {
        ApiError::unprocessable(format!("The {what} could not be found: {guid}"))
    };
    let found = service_instances::visible(&mut tx, &caller, &instance).await;
    let (service, _) = found.map_err(|_| missing("service instance", &instance))?;
    let route = route_resource::changeable(&mut tx, &caller, &route).await.map_err(|error| {
        if error.is(Kind::ResourceNotFound) { missing("route", &route) } else { error }
    })?;
    if route.space_guid != service.space_guid {
        return Err(ApiError::unprocessable(
            "The service instance and the route are in different spaces.",
        ));
    }
    if parameters {
        let detail = "Binding parameters are not supported for user-provided service instances";
        return Err(ApiError::unprocessable(detail));
    }
    let Some(url) = &service.route_service_url else {
        return Err(ApiError::unprocessable(
            "This service instance does not support route binding.",
        ));
    };
    if route.tcp {
        return Err(ApiError::unprocessable("Route services are not supported for TCP routes."));
    }
    let text = "SELECT service_instance_guid FROM service_route_bindings WHERE route_guid = $1";
    if let Some(row) = query(text, [(&route.guid).into()]).optional(&mut tx).await? {
        return Err(if row.text("service_instance_guid")? == instance {
            Kind::ServiceInstanceAlreadyBoundToSameRoute
                .with("The route and service instance are already bound.")
        } else {
            Kind::RouteAlreadyBoundToServiceInstance
                .with("A route may only be bound to a single service instance")
        });
    }
    let columns = vec![
        ("route_guid", (&route.guid).into()),
        ("service_instance_guid", (&instance).into()),
        ("route_service_url", url.into()),
        ("operation_description", "Operation succeeded".into()),
    ];
    let taken = Kind::RouteAlreadyBoundToServiceInstance
        .with("A route may only be bound to a single service instance");
    let guid = db::insert_new(&mut tx, cc.now(), "service_route_bindings", columns)
        .await
        .map_err(|cause| when_taken(cause, taken))?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    route_rows::apps_changed(&mut tx, &route.guid).await?;
    let target = (service.guid.as_str(), "user_provided_service_instance", service.name.as_str());
    let data = json!({ "request": body.redacted(&["parameters"]) });
    let kind = "audit.user_provided_service_instance.bind_route";
    common::audit(&mut tx, &cc, &caller, kind, target, (Some(&service.space_guid), None), data)
        .await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::created(document))
}

/// The binding's row, when the caller sees the route's space.
async fn visible(
    connection: &mut Connection,
    caller: &Caller,
    guid: &str,
) -> ApiResult<(Row, access::Rights)> {
    let text = format!("SELECT {COLUMNS} FROM {FROM} WHERE service_route_bindings.guid = $1");
    let row = query(&text, [guid.into()])
        .optional(connection)
        .await?
        .ok_or_else(|| ApiError::not_found(WHAT))?;
    let rights = access::in_space(connection, caller, &row.text("space_guid")?).await?;
    rights.see(WHAT)?;
    Ok((row, rights))
}

async fn find(cc: Cc, caller: Caller, urls: Urls, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut connection = cc.db.read().await?;
    visible(&mut connection, &caller, &guid).await?;
    Ok(respond::ok(document(&mut connection, &urls, &guid).await?))
}

async fn update(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (_, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change(WHAT, OPERATORS)?;
    let mut fields = body.fields();
    let metadata = fields.metadata();
    fields.finish()?;
    common::write_metadata(&mut tx, KIND, &guid, &metadata).await?;
    let document = document(&mut tx, &urls, &guid).await?;
    tx.commit().await?;
    Ok(respond::ok(document))
}

async fn delete(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    let mut tx = cc.db.begin().await?;
    let (row, rights) = visible(&mut tx, &caller, &guid).await?;
    rights.change(WHAT, OPERATORS)?;
    route_rows::apps_changed(&mut tx, &row.text("route_guid")?).await?;
    metadata::remove(&mut tx, KIND, &guid).await?;
    db::delete(&mut tx, "service_route_bindings", "guid", &guid).await?;
    let instance = row.text("service_instance_guid")?;
    let service = db::service_instances::find(&mut tx, &instance)
        .await?
        .map(|service| service.name)
        .unwrap_or_default();
    let target = (instance.as_str(), "user_provided_service_instance", service.as_str());
    let kind = "audit.user_provided_service_instance.unbind_route";
    let space = row.text("space_guid")?;
    common::audit(&mut tx, &cc, &caller, kind, target, (Some(&space), None), json!({})).await?;
    tx.commit().await?;
    cc.nsync.poke();
    Ok(respond::no_content())
}

async fn parameters(cc: Cc, caller: Caller, Path(guid): Path<String>) -> ApiResult<Response> {
    visible(&mut *cc.db.read().await?, &caller, &guid).await?;
    Err(ApiError::bad_request(
        "user provided service instances do not support fetching route bindings parameters.",
    ))
}

async fn document(connection: &mut Connection, urls: &Urls, guid: &str) -> ApiResult<Value> {
    let text = format!("SELECT {COLUMNS} FROM {FROM} WHERE service_route_bindings.guid = $1");
    let row = query(&text, [guid.into()])
        .optional(connection)
        .await?
        .ok_or_else(|| ApiError::not_found(WHAT))?;
    Ok(present_all(connection, urls, &[row]).await?.remove(0))
}

async fn present_all(
    connection: &mut Connection,
    urls: &Urls,
    rows: &[Row],
) -> ApiResult<Vec<Value>> {
    let guids = rows.iter().map(|row| row.text("guid")).collect::<db::Result<Vec<_>>>()?;
    let metadata = metadata::load(connection, KIND, &guids).await?;
    let none = Metadata::default();
    let one =
        |(row, guid): (&Row, &String)| present(row, metadata.get(guid).unwrap_or(&none), urls);
    Ok(rows.iter().zip(&guids).map(one).collect::<db::Result<_>>()?)
}

fn present(row: &Row, metadata: &Metadata, urls: &Urls) -> db::Result<Value> {
    let (guid, route, instance) =
        (row.text("guid")?, row.text("route_guid")?, row.text("service_instance_guid")?);
    let path = format!("service_route_bindings/{guid}");
    let (created, updated) =
        (row.moment("created_at")?.to_rfc3339(), row.moment("updated_at")?.to_rfc3339());
    Ok(json!({
        "guid": guid,
        "created_at": created,
        "updated_at": updated,
        "route_service_url": row.maybe_text("route_service_url")?,
        "last_operation": {
            "type": row.text("operation_type")?,
            "state": row.text("operation_state")?,
            "description": row.text("operation_description")?,
            "created_at": created,
            "updated_at": updated,
        },
        "relationships": {
            "service_instance": common::to_one(Some(&instance)),
            "route": common::to_one(Some(&route)),
        },
        "metadata": metadata.to_json(),
        "links": {
            "self": urls.link(&path),
            "service_instance": urls.link(&format!("service_instances/{instance}")),
            "route": urls.link(&format!("routes/{route}")),
            "parameters": urls.link(&format!("{path}/parameters")),
        },
    }))
}
