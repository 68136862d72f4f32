//! Brokers, their offerings and plans: none are registered, and the lists say so.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;

use crate::Cc;
use crate::auth::Caller;
use crate::errors::{ApiError, ApiResult};
use crate::query::{Filter, List, Params};
use crate::respond;
use crate::urls::Urls;

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/service_brokers", get(brokers))
        .route("/v3/service_brokers/{guid}", get(broker))
        .route("/v3/service_offerings", get(offerings))
        .route("/v3/service_offerings/{guid}", get(offering))
        .route("/v3/service_plans", get(plans))
        .route("/v3/service_plans/{guid}", get(plan))
        .route("/v3/service_plans/{guid}/visibility", get(plan))
}

const BROKERS: List = List {
    table: "service_brokers",
    filters: &[("names", Filter::Own), ("space_guids", Filter::Own)],
    orders: &[("name", "name")],
    includes: &[],
    labels: Some("service_broker"),
};

const OFFERINGS: List = List {
    table: "service_offerings",
    filters: &[
        ("names", Filter::Own),
        ("available", Filter::Own),
        ("service_broker_guids", Filter::Own),
        ("service_broker_names", Filter::Own),
        ("space_guids", Filter::Own),
        ("organization_guids", Filter::Own),
        ("fields", Filter::Own),
    ],
    orders: &[("name", "name")],
    includes: &[],
    labels: Some("service_offering"),
};

const PLANS: List = List {
    table: "service_plans",
    filters: &[
        ("names", Filter::Own),
        ("available", Filter::Own),
        ("broker_catalog_ids", Filter::Own),
        ("service_broker_guids", Filter::Own),
        ("service_broker_names", Filter::Own),
        ("service_instance_guids", Filter::Own),
        ("service_offering_guids", Filter::Own),
        ("service_offering_names", Filter::Own),
        ("space_guids", Filter::Own),
        ("organization_guids", Filter::Own),
        ("fields", Filter::Own),
    ],
    orders: &[("name", "name")],
    includes: &["space.organization", "service_offering"],
    labels: Some("service_plan"),
};

async fn brokers(_: Caller, urls: Urls, params: Params) -> ApiResult<Response> {
    none(&BROKERS, &urls, params)
}

async fn offerings(urls: Urls, params: Params) -> ApiResult<Response> {
    none(&OFFERINGS, &urls, params)
}

/// The marketplace is open to people who are not logged in.
async fn plans(urls: Urls, params: Params) -> ApiResult<Response> {
    none(&PLANS, &urls, params)
}

/// Parameters are checked as if there were something to list.
fn none(list: &List, urls: &Urls, params: Params) -> ApiResult<Response> {
    let listing = list.read(params)?;
    let mut included = BTreeMap::new();
    for name in &listing.includes {
        let plurals: &[&str] = if name == "service_offering" {
            &["service_offerings"]
        } else {
            &["spaces", "organizations"]
        };
        included.extend(plurals.iter().map(|plural| (*plural, Vec::new())));
    }
    for (path, _) in listing.params.fields() {
        if path.ends_with("service_broker") {
            included.insert("service_brokers", Vec::new());
        }
    }
    Ok(respond::ok(listing.present(urls, 0, Vec::new(), included)))
}

async fn broker(_: Caller, Path(_): Path<String>) -> ApiResult<Response> {
    Err(ApiError::not_found("Service broker"))
}

async fn offering(Path(_): Path<String>) -> ApiResult<Response> {
    Err(ApiError::not_found("Service offering"))
}

async fn plan(Path(_): Path<String>) -> ApiResult<Response> {
    Err(ApiError::not_found("Service plan"))
}
