//! `/v3/app_usage_events` and `/v3/service_usage_events`: what billing reads, in the order it was written.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;

use crate::auth::Caller;
use crate::db::{Columns as _, Result, Row, query};
use crate::errors::{ApiError, ApiResult};
use crate::query::{Filter, List, Params};
use crate::urls::Urls;
use crate::{Cc, respond};

pub fn routes() -> Router<Cc> {
    Router::new()
        .route(
            "/v3/app_usage_events",
            get(async |cc: Cc, caller, urls, params| list(cc, caller, urls, params, &APPS).await),
        )
        .route(
            "/v3/app_usage_events/{guid}",
            get(async |cc: Cc, caller, urls, guid| find(cc, caller, urls, guid, &APPS).await),
        )
        .route(
            "/v3/service_usage_events",
            get(async |cc: Cc, caller, urls, params| {
                list(cc, caller, urls, params, &SERVICES).await
            }),
        )
        .route(
            "/v3/service_usage_events/{guid}",
            get(async |cc: Cc, caller, urls, guid| find(cc, caller, urls, guid, &SERVICES).await),
        )
}

const APPS: List = List {
    table: "app_usage_events",
    filters: &[("after_guid", Filter::Own)],
    orders: &[],
    includes: &[],
    labels: None,
};

const SERVICES: List = List {
    table: "service_usage_events",
    filters: &[
        ("after_guid", Filter::Own),
        ("service_instance_types", Filter::Text("service_usage_events.service_instance_type")),
        ("service_offering_guids", Filter::Text("service_usage_events.service_offering_guid")),
    ],
    orders: &[],
    includes: &[],
    labels: None,
};

/// Those who see everything see all; others are answered with nothing.
async fn list(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    params: Params,
    of: &'static List,
) -> ApiResult<Response> {
    let mut listing = of.read(params)?;
    let mut connection = cc.db.read().await?;
    if let Some(after) = listing.params.list("after_guid").map(|list| list.concat()) {
        let text = format!("SELECT id FROM {} WHERE guid = $1", of.table);
        let row = query(&text, [after.into()]).optional(&mut connection).await?;
        let unknown = || ApiError::bad_query("After guid filter must be a valid event guid.");
        let id = listing.sql().arg(row.ok_or_else(unknown)?.int("id")?);
        listing.condition(format!("{}.id > {id}", of.table));
    }
    if !caller.reads_all() {
        listing.condition("1 = 0");
    }
    let page = listing.fetch(&mut connection, &format!("{}.*", of.table), of.table).await?;
    let resources =
        page.items.iter().map(|row| present(row, of, &urls)).collect::<Result<Vec<_>>>()?;
    Ok(respond::ok(listing.present(&urls, page.total, resources, BTreeMap::new())))
}

async fn find(
    cc: Cc,
    caller: Caller,
    urls: Urls,
    Path(guid): Path<String>,
    of: &'static List,
) -> ApiResult<Response> {
    let spoken = if of.table == APPS.table { "App usage event" } else { "Service usage event" };
    let text = format!("SELECT * FROM {} WHERE guid = $1", of.table);
    let row = query(&text, [guid.into()]).optional(&mut *cc.db.read().await?).await?;
    let row = row.filter(|_| caller.reads_all()).ok_or_else(|| ApiError::not_found(spoken))?;
    Ok(respond::ok(present(&row, of, &urls)?))
}

fn present(row: &Row, of: &List, urls: &Urls) -> Result<Value> {
    let guid = row.text("guid")?;
    let mut document = row.json("data")?;
    document["links"] = serde_json::json!({ "self": urls.link(&format!("{}/{guid}", of.table)) });
    document["guid"] = guid.into();
    document["created_at"] = row.moment("created_at")?.to_rfc3339().into();
    document["updated_at"] = row.moment("updated_at")?.to_rfc3339().into();
    Ok(document)
}
