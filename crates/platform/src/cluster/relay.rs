//! Asks elsewhere what is asked here, and hands the answer back as it comes: for the platform's own names at a router
//! apart from the API, and for the Receptor API beside a brain that stands by.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any};
use futures::future::BoxFuture;
use tracing::warn;

/// Of one connection, not of the message.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

type Find = dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync;

/// Where to ask, found for each request.
pub struct Relay {
    find: Box<Find>,
    /// Stands before the path there.
    prefix: &'static str,
    http: reqwest::Client,
    /// What is said when there is nobody to ask.
    nobody: &'static str,
}

impl Relay {
    pub fn new(
        prefix: &'static str,
        nobody: &'static str,
        find: impl Fn() -> BoxFuture<'static, Option<String>> + Send + Sync + 'static,
    ) -> Relay {
        Relay { find: Box::new(find), prefix, http: base::http::relay(), nobody }
    }

    pub fn router(self) -> Router {
        Router::new().fallback(pass).with_state(Arc::new(self))
    }

    /// For one path.
    pub fn route(self) -> MethodRouter {
        any(pass).with_state(Arc::new(self))
    }
}

async fn pass(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    let Some(target) = (relay.find)().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, relay.nobody).into_response();
    };
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    // HTTP/2 has it in the address.
    if !parts.headers.contains_key(HOST)
        && let Some(host) = parts.uri.authority().and_then(|host| host.as_str().parse().ok())
    {
        parts.headers.insert(HOST, host);
    }
    strip(&mut parts.headers);
    let url = format!("{target}{}{path}", relay.prefix);
    let mut asking = relay.http.request(parts.method, url).headers(parts.headers);
    if !body.is_end_stream() {
        asking = asking.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    match asking.send().await {
        Ok(answer) => {
            let (status, mut headers) = (answer.status(), answer.headers().clone());
            strip(&mut headers);
            (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
        }
        Err(error) => {
            warn!(error = %error.without_url(), target, "asking elsewhere");
            (StatusCode::BAD_GATEWAY, relay.nobody).into_response()
        }
    }
}

/// Also what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use base::CancellationToken;
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn requests_and_answers_pass_as_they_are() {
        let listen = || tokio::net::TcpListener::bind("127.0.0.1:0");
        let (there, here) = (listen().await.unwrap(), listen().await.unwrap());
        let (target, url) = (
            format!("http://{}", there.local_addr().unwrap()),
            format!("http://{}", here.local_addr().unwrap()),
        );
        let api = Router::new()
            .route("/echo", post(|body: String| async move { body }))
            .route(
                "/host",
                get(|headers: HeaderMap| async move { headers[HOST].to_str().unwrap().to_owned() }),
            )
            .route(
                "/away",
                get(|| async { axum::response::Redirect::to("https://elsewhere.test/") }),
            );
        let stop = CancellationToken::new();
        let served = Router::new().nest("/front", api);
        let elsewhere = tokio::spawn(base::http::serve(there, served, stop.clone()));
        let relay = Relay::new("/front", "nobody", move || {
            let target = target.clone();
            async move { Some(target) }.boxed()
        });
        let relaying = tokio::spawn(base::http::serve(here, relay.router(), stop.clone()));
        let http = base::http::relay();
        let large = "x".repeat(1 << 20);
        let echo = http.post(format!("{url}/echo?a=b")).body(large.clone()).send().await.unwrap();
        assert_eq!(echo.text().await.unwrap(), large);
        let host =
            http.get(format!("{url}/host")).header(HOST, "api.example.com").send().await.unwrap();
        assert_eq!(host.text().await.unwrap(), "api.example.com");
        let away = http.get(format!("{url}/away")).send().await.unwrap();
        assert_eq!(
            (away.status(), &away.headers()["location"]),
            (StatusCode::SEE_OTHER, &"https://elsewhere.test/".parse().unwrap())
        );
        stop.cancel();
        elsewhere.await.unwrap().unwrap();
        relaying.await.unwrap().unwrap();
    }
}
