//! HTTP Basic, or the cookie that browsers trade it for.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::ReceptorError;
use crate::BbsServer;
use crate::config::Credentials;

const NAME: &str = "receptor_authorization";

pub(super) fn guarded(
    router: Router<BbsServer>,
    credentials: Option<Credentials>,
) -> Router<BbsServer> {
    let Some(credentials) = credentials else { return router };
    let expected =
        STANDARD.encode(format!("{}:{}", credentials.user, credentials.password.expose()));
    router.layer(from_fn(move |request: Request, next: Next| {
        let shown = shown(request.headers());
        let right = shown.is_some_and(|shown| same(shown.as_bytes(), expected.as_bytes()));
        async move {
            if right {
                return next.run(request).await;
            }
            ReceptorError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
                .into_response()
        }
    }))
}

/// The cookie, when sent, counts in place of the header.
fn shown(headers: &HeaderMap) -> Option<String> {
    let header = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let value = cookie_of(headers).or_else(|| headers.get(AUTHORIZATION).and_then(header))?;
    let (scheme, text) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| text.trim().to_owned())
}

fn cookie_of(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| value.trim_matches('"').to_owned())
}

/// Compares without telling by its duration where the difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

pub(super) async fn cookie(headers: HeaderMap) -> Response {
    let shown =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match HeaderValue::from_str(&format!("{NAME}={shown}; HttpOnly")) {
        Ok(cookie) => (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_counts_before_the_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(shown(&headers), None);
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic aGVhZGVy"));
        assert_eq!(shown(&headers).unwrap(), "aGVhZGVy");
        headers
            .insert(COOKIE, HeaderValue::from_static("a=b; receptor_authorization=Basic Y29va2ll"));
        assert_eq!(shown(&headers).unwrap(), "Y29va2ll");
        headers.insert(COOKIE, HeaderValue::from_static("receptor_authorization=Bearer x"));
        assert_eq!(shown(&headers), None);
    }
}
