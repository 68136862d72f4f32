//! `/`, `/v3`, `/v3/info` and `/v2/info`: where everything is. No token needed.

use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::Cc;
use crate::errors::{ApiError, ApiResult};
use crate::respond;
use crate::urls::Urls;

/// What of the v3 API is spoken here; clients turn features on by it.
pub const API_VERSION: &str = "3.211.0";
const OSBAPI_VERSION: &str = "2.17";

const RESOURCES: &[&str] = &[
    "app_usage_events",
    "apps",
    "audit_events",
    "buildpacks",
    "builds",
    "deployments",
    "domains",
    "droplets",
    "environment_variable_groups",
    "feature_flags",
    "info",
    "isolation_segments",
    "organizations",
    "organization_quotas",
    "packages",
    "processes",
    "resource_matches",
    "roles",
    "routes",
    "security_groups",
    "service_brokers",
    "service_instances",
    "service_credential_bindings",
    "service_offerings",
    "service_plans",
    "service_route_bindings",
    "service_usage_events",
    "spaces",
    "space_quotas",
    "stacks",
    "tasks",
    "users",
];

pub fn routes() -> Router<Cc> {
    Router::new()
        .route("/", get(global))
        .route("/v3", get(v3))
        .route("/v3/info", get(info))
        .route("/v2/{name}", get(v2))
}

async fn global(cc: Cc, urls: Urls) -> Json<Value> {
    let link = |href: String| json!({ "href": href });
    let named = |name: &str| match &cc.config.system_domain {
        Some(domain) => format!("https://{name}.{domain}"),
        None => urls.base().to_owned(),
    };
    let logging = named("doppler").replacen("http", "ws", 1);
    let app_ssh = cc.config.app_ssh.as_ref().map(|ssh| {
        let host = urls.host().rsplit_once(':').map_or(urls.host(), |(host, _)| host);
        let address = if ssh.address.starts_with(':') { format!("{host}{}", ssh.address) } else { ssh.address.clone() };
        json!({ "href": address, "meta": { "host_key_fingerprint": ssh.host_key_fingerprint, "oauth_client": ssh.oauth_client } })
    });
    Json(json!({ "links": {
        "self": link(urls.base().to_owned()),
        "cloud_controller_v3": { "href": format!("{}/v3", urls.base()), "meta": { "version": API_VERSION } },
        "network_policy_v0": link(format!("{}/networking/v0/external", urls.base())),
        "network_policy_v1": link(format!("{}/networking/v1/external", urls.base())),
        "login": link(named("login")),
        "uaa": link(named("uaa")),
        "credhub": Value::Null,
        "routing": link(format!("{}/routing", urls.base())),
        "logging": link(logging),
        "log_cache": link(named("log-cache")),
        "log_stream": link(named("log-stream")),
        "app_ssh": app_ssh,
    } }))
}

async fn v3(urls: Urls) -> Json<Value> {
    let own = ("self".to_owned(), json!({ "href": format!("{}/v3", urls.base()) }));
    let links = RESOURCES.iter().map(|name| ((*name).to_owned(), urls.link(name)));
    Json(json!({ "links": std::iter::once(own).chain(links).collect::<serde_json::Map<_, _>>() }))
}

async fn info(cc: Cc, urls: Urls) -> Json<Value> {
    let info = &cc.config.info;
    Json(json!({
        "build": info.build,
        "cli_version": { "minimum": "", "recommended": "" },
        "custom": {},
        "description": info.description,
        "name": info.name,
        "version": 0,
        "osbapi_version": OSBAPI_VERSION,
        "rate_limits": { "enabled": false, "general_limit": 0, "reset_interval_in_minutes": 0 },
        "links": { "self": urls.link("info"), "support": { "href": info.support } },
    }))
}

/// What tools older than v3 ask to find their way; nothing else of v2 is spoken.
async fn v2(cc: Cc, urls: Urls, Path(name): Path<String>) -> ApiResult<Response> {
    if name != "info" {
        return Err(ApiError::unknown_request());
    }
    let named = |name: &str| match &cc.config.system_domain {
        Some(domain) => format!("https://{name}.{domain}"),
        None => urls.base().to_owned(),
    };
    Ok(respond::ok(json!({
        "name": cc.config.info.name,
        "build": cc.config.info.build,
        "support": cc.config.info.support,
        "version": 0,
        "description": cc.config.info.description,
        "authorization_endpoint": named("login"),
        "token_endpoint": named("uaa"),
        "api_version": "2.293.0",
        "osbapi_version": OSBAPI_VERSION,
        "routing_endpoint": format!("{}/routing", urls.base()),
        "doppler_logging_endpoint": named("doppler").replacen("http", "ws", 1),
    })))
}
