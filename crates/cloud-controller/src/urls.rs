//! The addresses that answers link to: they follow the request, unless a system domain is set.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::request::Parts;
use serde_json::{Value, json};

use crate::Cc;
use crate::config::Config;
use crate::errors::{ApiError, ApiResult};

/// Where this API is, as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    base: String,
}

impl Urls {
    pub fn new(base: &str) -> Urls {
        Urls { base: base.trim_end_matches('/').to_owned() }
    }

    pub fn of_request(config: &Config, headers: &HeaderMap) -> Urls {
        if let Some(domain) = &config.system_domain {
            return Urls::new(&format!("https://api.{domain}"));
        }
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(first);
        let host = header("x-forwarded-host").or_else(|| header(HOST.as_str()));
        match host.filter(|host| is_authority(host)) {
            Some(host) => {
                let scheme =
                    if header("x-forwarded-proto") == Some("https") { "https" } else { "http" };
                Urls::new(&format!("{scheme}://{host}"))
            }
            None => Urls::new(&config.api_url),
        }
    }

    /// Scheme, host and port, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, host)| host)
    }

    /// `v3("apps/GUID")` is the full address below `/v3`.
    pub fn v3(&self, path: &str) -> String {
        format!("{}/v3/{path}", self.base)
    }

    /// `{"href": …}` of a path below `/v3`.
    pub fn link(&self, path: &str) -> Value {
        json!({ "href": self.v3(path) })
    }

    /// `{"href": …, "method": …}`.
    pub fn action(&self, path: &str, method: &str) -> Value {
        json!({ "href": self.v3(path), "method": method })
    }
}

fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

/// Only what can stand in an address is repeated into answers.
fn is_authority(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]_".contains(c))
}

impl FromRequestParts<Cc> for Urls {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, cc: &Cc) -> ApiResult<Urls> {
        Ok(Urls::of_request(&cc.config, &parts.headers))
    }
}
