//! Who may read which logs: operators all, others those of the apps they can see.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, header::AUTHORIZATION};
use base::{Clock, Timestamp};
use cloud_controller::auth::Identity;
use loggregator::Access;
use parking_lot::Mutex;
use serde_json::Value;
use tower::ServiceExt as _;

/// An answer counts for so long.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Answers remembered; when there are more, all are asked for anew.
const MAX_REMEMBERED: usize = 10_000;
/// Source ids asked for at once; they travel in an address.
const AT_ONCE: usize = 100;
const OPERATORS: [&str; 4] = [
    "doppler.firehose",
    "logs.admin",
    "cloud_controller.admin",
    "cloud_controller.admin_read_only",
];

pub struct LogAccess {
    pub identity: Arc<dyn Identity>,
    /// Cloud Controller's public API, asked with the reader's own token.
    pub api: axum::Router,
    pub clock: Clock,
    /// By token and source.
    pub remembered: Mutex<HashMap<(String, String), Timestamp>>,
}

#[async_trait]
impl Access for LogAccess {
    async fn readable(&self, authorization: Option<&str>, source_ids: Vec<String>) -> Vec<String> {
        let Some(token) = authorization else { return Vec::new() };
        let Ok(claims) = self.identity.verify(token).await else { return Vec::new() };
        if claims.scopes.iter().any(|scope| OPERATORS.contains(&scope.as_str())) {
            return source_ids;
        }
        let now = self.clock.now();
        let known = |id: &String| {
            let key = (token.to_owned(), id.clone());
            self.remembered.lock().get(&key).is_some_and(|until| *until > now)
        };
        let (mut readable, unknown): (Vec<_>, Vec<_>) = source_ids.into_iter().partition(known);
        for some in unknown.chunks(AT_ONCE) {
            let seen = self.ask(token, some).await;
            let mut remembered = self.remembered.lock();
            if remembered.len() + seen.len() > MAX_REMEMBERED {
                remembered.clear();
            }
            remembered
                .extend(seen.iter().map(|id| ((token.to_owned(), id.clone()), now + REMEMBERED)));
            readable.extend(seen);
        }
        readable
    }
}

impl LogAccess {
    /// The guids among `ids` that name an app or a service instance which the token's owner can see.
    async fn ask(&self, token: &str, ids: &[String]) -> Vec<String> {
        let guids: Vec<&str> = ids.iter().map(String::as_str).filter(|id| is_plain(id)).collect();
        let mut seen = Vec::new();
        for resource in ["apps", "service_instances"] {
            let uri = format!("/v3/{resource}?per_page={AT_ONCE}&guids={}", guids.join(","));
            let Ok(request) = Request::get(uri).header(AUTHORIZATION, token).body(Body::empty())
            else {
                continue;
            };
            let response =
                self.api.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
            let Ok(bytes) = axum::body::to_bytes(response.into_body(), 16 << 20).await else {
                continue;
            };
            let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let resources = body["resources"].as_array().into_iter().flatten();
            seen.extend(
                resources.filter_map(|resource| resource["guid"].as_str()).map(str::to_owned),
            );
        }
        seen
    }
}

/// Ids of apps and service instances are guids; whatever is not cannot be one, and must not end up in an address.
fn is_plain(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
