//! Pages of other origins: whoever asks is named in the answer, with credentials allowed.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};

use crate::BbsServer;

/// A browser's question before the question needs no password: it carries none.
pub(super) fn allowed(router: Router<BbsServer>) -> Router<BbsServer> {
    router.layer(from_fn(async |request: Request, next: Next| -> Response {
        let headers = answers(request.headers());
        let mut response = if request.method() == Method::OPTIONS {
            StatusCode::OK.into_response()
        } else {
            next.run(request).await
        };
        response.headers_mut().extend(headers);
        response
    }))
}

/// Nothing for an origin that names nobody.
fn answers(asked: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let named = |origin: &&HeaderValue| !origin.is_empty() && origin.as_bytes() != b"*";
    let Some(origin) = asked.get(ORIGIN).filter(named) else { return headers };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    let echoed = [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
    ];
    for (question, answer) in echoed {
        if let Some(value) = asked.get(question) {
            headers.insert(answer, value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_origin_is_echoed() {
        let mut asked = HeaderMap::new();
        assert!(answers(&asked).is_empty());
        asked.insert(ORIGIN, HeaderValue::from_static("*"));
        assert!(answers(&asked).is_empty());
        asked.insert(ORIGIN, HeaderValue::from_static("http://a.example"));
        asked.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        let headers = answers(&asked);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "http://a.example");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
    }
}
