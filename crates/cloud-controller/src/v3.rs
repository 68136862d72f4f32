//! The public API: every resource's routes in one list, and what all of them share.

pub mod app_env;
pub mod app_features;
pub mod apps;
pub mod audit_events;
pub mod buildpacks;
pub mod builds;
pub mod common;
pub mod deployments;
pub mod domain_shares;
pub mod domains;
pub mod droplets;
pub mod environment_variable_groups;
pub mod feature_flags;
pub mod isolation_segments;
pub mod jobs;
pub mod lifecycle;
pub mod manifests;
pub mod organization_quotas;
pub mod organizations;
pub mod packages;
pub mod places;
pub mod process_stats;
pub mod processes;
pub mod quotas;
pub mod resource;
pub mod resource_matches;
pub mod revisions;
pub mod roles;
pub mod root;
pub mod route_destinations;
pub mod routes;
pub mod security_group_rules;
pub mod security_groups;
pub mod service_catalog;
pub mod service_credential_bindings;
pub mod service_instances;
pub mod service_route_bindings;
pub mod sidecars;
pub mod space_quotas;
pub mod spaces;
pub mod stacks;
pub mod tasks;
pub mod usage_events;
pub mod users;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;
use tower::ServiceExt as _;

use crate::Cc;
use crate::errors::{ApiError, ApiResult};

/// One line per resource.
fn resources() -> Router<Cc> {
    Router::new()
        .merge(shared_resources())
        .merge(app_env::routes())
        .merge(app_features::routes())
        .merge(apps::routes())
        .merge(builds::routes())
        .merge(deployments::routes())
        .merge(droplets::routes())
        .merge(jobs::routes())
        .merge(packages::routes())
        .merge(processes::routes())
        .merge(resource_matches::routes())
        .merge(revisions::routes())
        .merge(root::routes())
        .merge(sidecars::routes())
        .merge(tasks::routes())
        .merge(usage_events::routes())
}

/// What apps stand in and share.
fn shared_resources() -> Router<Cc> {
    Router::new()
        .merge(audit_events::routes())
        .merge(buildpacks::routes())
        .merge(domain_shares::routes())
        .merge(domains::routes())
        .merge(environment_variable_groups::routes())
        .merge(feature_flags::routes())
        .merge(isolation_segments::routes())
        .merge(manifests::routes())
        .merge(organization_quotas::routes())
        .merge(organizations::routes())
        .merge(roles::routes())
        .merge(route_destinations::routes())
        .merge(routes::routes())
        .merge(security_groups::routes())
        .merge(service_catalog::routes())
        .merge(service_credential_bindings::routes())
        .merge(service_instances::routes())
        .merge(service_route_bindings::routes())
        .merge(space_quotas::routes())
        .merge(spaces::routes())
        .merge(stacks::routes())
        .merge(users::routes())
}

pub fn router(cc: Cc) -> Router {
    let limit = DefaultBodyLimit::max(cc.config.limits.body_bytes);
    let inner = resources()
        .fallback(async || ApiError::unknown_request())
        .method_not_allowed_fallback(async || ApiError::unknown_request())
        .layer(limit)
        .layer(from_fn(request_id))
        .with_state(cc);
    // Clients write `/v3/packages/?x` as well as `/v3/packages?x`; routing must come after the slash went.
    Router::new().fallback(move |request: Request| {
        let inner = inner.clone();
        async move {
            match check_text(request.uri()) {
                Ok(()) => inner.oneshot(without_slash(request)).await,
                Err(error) => Ok(error.into_response()),
            }
        }
    })
}

/// What no column can hold is refused before anything asks for it.
fn check_text(uri: &Uri) -> ApiResult<()> {
    let is_text = |encoded: &str| {
        let decoded = percent_decode_str(encoded).decode_utf8();
        decoded.is_ok_and(|text| !text.contains('\0'))
    };
    if !is_text(uri.path()) {
        return Err(ApiError::bad_request("The path must be UTF-8 without null bytes"));
    }
    if !uri.query().is_none_or(is_text) {
        return Err(ApiError::bad_query("Values must be UTF-8 without null bytes"));
    }
    Ok(())
}

fn without_slash(mut request: Request<Body>) -> Request<Body> {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if !trimmed.is_empty() && trimmed.len() < path.len() {
        let target = match request.uri().query() {
            Some(query) => format!("{trimmed}?{query}"),
            None => trimmed.to_owned(),
        };
        if let Ok(uri) = target.parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    request
}

async fn request_id(request: Request, next: Next) -> Response {
    const NAME: HeaderName = HeaderName::from_static("x-vcap-request-id");
    let given = request.headers().get(&NAME).filter(|value| value.len() <= 128).cloned();
    let mut response = next.run(request).await;
    let id = given.or_else(|| HeaderValue::from_str(&base::new_guid()).ok());
    if let Some(id) = id {
        response.headers_mut().insert(NAME, id);
    }
    response
}
