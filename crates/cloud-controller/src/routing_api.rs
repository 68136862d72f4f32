//! `/routing/v1`: Cloud Foundry's Routing API, with its own errors and its own scopes. Router groups are kept here; TCP
//! routes are told as they are, for nobody but the platform makes them.

mod error;
mod groups;
mod tcp_routes;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::routing::{get, post, put};

use self::error::{Name, RoutingError};
use crate::Cc;
use crate::auth::TokenError;

const GROUPS_READ: &str = "routing.router_groups.read";
const GROUPS_WRITE: &str = "routing.router_groups.write";
const ROUTES_READ: &str = "routing.routes.read";
const ROUTES_WRITE: &str = "routing.routes.write";

type Result<T> = std::result::Result<T, RoutingError>;

pub fn router(cc: Cc) -> Router {
    let unknown =
        async || RoutingError::new(StatusCode::NOT_FOUND, Name::NotFound, "Unknown request");
    let v1 = Router::new()
        .route("/router_groups", get(groups::list).post(groups::create))
        .route(
            "/router_groups/{guid}",
            put(groups::update).get(groups::find).delete(groups::delete),
        )
        .route("/tcp_routes", get(tcp_routes::list))
        .route("/tcp_routes/events", get(tcp_routes::events))
        .route("/tcp_routes/create", post(not_here))
        .route("/tcp_routes/delete", post(not_here))
        .route("/routes", get(not_here).post(not_here).delete(not_here))
        .route("/events", get(not_here))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(cc);
    Router::new().nest("/routing/v1", v1)
}

/// What the Routing API has for emitters and gorouters of other makes.
async fn not_here(cc: Cc, parts: Parts) -> Result<()> {
    let reading = parts.method == axum::http::Method::GET;
    require(&cc, &parts, if reading { ROUTES_READ } else { ROUTES_WRITE }).await?;
    let message = "Cannot process request: routes are made and told by the platform itself: map a route to an app, and read HTTP routes from /v3/routes";
    Err(RoutingError::new(StatusCode::NOT_IMPLEMENTED, Name::ProcessRequest, message))
}

/// The values of a query's key, which may come several times.
fn given(parts: &Parts, key: &str) -> Vec<String> {
    let query = parts.uri.query().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(name, _)| name == key).map(|(_, value)| value.into_owned()).collect()
}

/// # Errors
/// 401, with the words by which clients tell an expired token from a missing scope.
async fn require(cc: &Cc, parts: &Parts, scope: &str) -> Result<()> {
    let bearer =
        parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused =
        |message| RoutingError::new(StatusCode::UNAUTHORIZED, Name::Unauthorized, message);
    let claims = cc.identity.verify(bearer).await.map_err(|error| match error {
        TokenError::Missing => refused("invalid token format"),
        TokenError::Invalid => refused("token is malformed or its signature is invalid"),
        TokenError::Expired => refused("Token is expired"),
    })?;
    if claims.scopes.iter().any(|own| own == scope) {
        return Ok(());
    }
    Err(refused("You are not authorized to perform the requested action"))
}
