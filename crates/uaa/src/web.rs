//! The HTTP face: every endpoint, who is calling, and how parameters arrive.

mod browser;
mod clients;
mod groups;
mod info;
mod token;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::routing::{delete, get, post, put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Uaa;
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::grants::Form;

/// No request says more than this.
const BODY_LIMIT: usize = 256 * 1024;

pub(crate) fn router(uaa: Uaa) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/info", get(info::login_info))
        .route("/login", get(info::login))
        .route("/login.do", post(browser::log_in))
        .route("/logout.do", get(browser::log_out))
        .route("/passcode", get(browser::passcode))
        .route("/userinfo", get(info::userinfo).post(info::userinfo))
        .route("/token_keys", get(info::token_keys))
        .route("/token_key", get(info::token_key))
        .route("/.well-known/openid-configuration", get(info::openid_configuration))
        .route("/oauth/authorize", get(browser::authorize).post(browser::approve))
        .route("/oauth/token", post(token::token))
        .route("/oauth/token/revoke/{jti}", delete(token::revoke))
        .route(
            "/oauth/token/revoke/user/{user}",
            delete(token::revoke_user).get(token::revoke_user),
        )
        .route(
            "/oauth/token/revoke/client/{client}",
            delete(token::revoke_client).get(token::revoke_client),
        )
        .route("/check_token", post(token::check))
        .route("/introspect", post(token::introspect))
        .route("/oauth/clients", get(clients::list).post(clients::create))
        .route("/oauth/clients/tx", post(clients::create_many).put(clients::update_many))
        .route("/oauth/clients/tx/modify", post(clients::modify))
        .route("/oauth/clients/tx/delete", post(clients::delete_many))
        .route(
            "/oauth/clients/{id}",
            get(clients::find).put(clients::update).delete(clients::delete),
        )
        .route("/oauth/clients/{id}/secret", put(clients::secret))
        .route("/ids/Users", get(users::ids))
        .route("/Users", get(users::list).post(users::create))
        .route(
            "/Users/{id}",
            get(users::find).put(users::replace).patch(users::patch).delete(users::delete),
        )
        .route("/Users/{id}/password", put(users::password))
        .route("/Users/{id}/status", axum::routing::patch(users::status))
        .route("/Groups", get(groups::list).post(groups::create))
        .route(
            "/Groups/{id}",
            get(groups::find).put(groups::replace).patch(groups::patch).delete(groups::delete),
        )
        .route("/Groups/{id}/members", get(groups::members).post(groups::add_member))
        .route("/Groups/{id}/members/{member}", get(groups::member).delete(groups::remove_member))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(uaa)
}

/// Whoever showed a valid access token.
pub(crate) struct Caller(pub Arc<Claims>);

impl Caller {
    /// Lets in who holds one of `scopes`; `uaa.admin` holds all of them.
    pub(crate) fn needs(&self, scopes: &[&str]) -> Result<()> {
        match self.0.has_scope("uaa.admin") || self.0.has_any(scopes) {
            true => Ok(()),
            false => Err(Error::insufficient_scope(scopes)),
        }
    }

    pub(crate) fn is_user(&self, guid: &str) -> bool {
        self.0.user_id.as_deref() == Some(guid)
    }

    /// As `needs`, but a user may do it to itself.
    pub(crate) fn is_user_or_needs(&self, guid: &str, scopes: &[&str]) -> Result<()> {
        if self.is_user(guid) { Ok(()) } else { self.needs(scopes) }
    }
}

impl FromRequestParts<Uaa> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, uaa: &Uaa) -> Result<Caller> {
        Ok(Caller(uaa.verify(authorization(&parts.headers))?))
    }
}

pub(crate) fn authorization(headers: &HeaderMap) -> &str {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// A JSON body, however the request calls it.
pub(crate) struct Body<T>(pub T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>> {
        let bytes = bytes(request, state).await?;
        let read = serde_json::from_slice(&bytes);
        read.map(Body).map_err(|error| {
            Error::invalid_request(format!("the body is not as expected: {error}"))
        })
    }
}

/// The parameters of query and body together; the body's win.
pub(crate) struct Parameters {
    pub form: Form,
    pub headers: HeaderMap,
}

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Parameters> {
        let headers = request.headers().clone();
        let mut form = pairs(request.uri().query().unwrap_or("").as_bytes());
        form.extend(pairs(&bytes(request, state).await?));
        Ok(Parameters { form, headers })
    }
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<axum::body::Bytes> {
    let bytes = axum::body::Bytes::from_request(request, state).await;
    bytes.map_err(|error| {
        Error::new(error.status(), "invalid_request", "the body is too long or was cut off")
    })
}

pub(crate) fn pairs(encoded: &[u8]) -> Form {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

impl Parameters {
    /// The client's id and secret, from the header or from the form.
    pub(crate) fn credentials(&self) -> Option<(String, String)> {
        basic(&self.headers).or_else(|| {
            let id = self.form.get("client_id").filter(|id| !id.is_empty())?;
            Some((id.clone(), self.form.get("client_secret").cloned().unwrap_or_default()))
        })
    }
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = authorization(headers).split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    if headers.get("x-cf-encoded-credentials").is_some_and(|value| value == "true") {
        return Some((decoded(id), decoded(secret)));
    }
    Some((id.to_owned(), secret.to_owned()))
}

/// Undoes form encoding of a single value.
fn decoded(text: &str) -> String {
    // Without the escape an `=` in the value would end it.
    let escaped = text.replace('=', "%3D").replace('&', "%26");
    url::form_urlencoded::parse(escaped.as_bytes())
        .next()
        .map(|(key, _)| key.into_owned())
        .unwrap_or_default()
}

/// The origin under which the caller reached us.
pub(crate) fn origin(headers: &HeaderMap, uaa: &Uaa) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let usable = |host: &&str| {
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
    };
    let Some(host) = text("host").filter(|host| !host.is_empty()).filter(usable) else {
        return uaa.0.config.issuer().to_owned();
    };
    let scheme =
        if text("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            "https"
        } else {
            "http"
        };
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn basic_credentials_may_be_encoded() {
        let plain = headers(&[("authorization", &format!("Basic {}", STANDARD.encode("cf:")))]);
        assert_eq!(basic(&plain), Some(("cf".to_owned(), String::new())));
        let text = format!("basic {}", STANDARD.encode("a%3Ab:c%26d=e%2Bf"));
        let encoded = headers(&[("authorization", &text), ("x-cf-encoded-credentials", "true")]);
        assert_eq!(basic(&encoded), Some(("a:b".to_owned(), "c&d=e+f".to_owned())));
        assert_eq!(basic(&headers(&[("authorization", "Basic !")])), None);
    }
}
