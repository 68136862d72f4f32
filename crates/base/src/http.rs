//! Plain HTTP between components: one client, one way to serve, one shared secret.

use std::fmt::Debug;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio_util::sync::CancellationToken;

/// What components show each other; made at first start and kept in the data directory.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Must run before the first TLS or HTTP client is made; running it again changes nothing.
pub fn install_crypto() {
    // An error says that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A pooled client without a total time limit (streams stay open); a connection attempt gives up after 5 s.
pub fn client(secret: Option<&Secret>) -> reqwest::Client {
    install_crypto();
    let mut headers = HeaderMap::new();
    if let Some(secret) = secret {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
            .expect("secrets are header text");
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let builder = reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(Duration::from_secs(5))
        .no_proxy();
    let builder = match (crate::tls::authority(), secret) {
        (None, _) => builder,
        // The secret is shown to the platform's own machines alone.
        (Some(authority), Some(_)) => builder.tls_certs_only([authority]),
        (Some(authority), None) => builder.tls_certs_merge([authority]),
    };
    builder.build().expect("the settings are constant and valid")
}

/// Passes on what others ask, as they ask it: it shows no secret, follows no redirect, and speaks HTTP/1.1, whose `Host`
/// is the one that was asked for.
pub fn relay() -> reqwest::Client {
    install_crypto();
    let builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .no_proxy();
    let builder = match crate::tls::authority() {
        None => builder,
        Some(authority) => builder.tls_certs_only([authority]),
    };
    builder.build().expect("the settings are constant and valid")
}

/// Answers 401 to every request that does not show `secret` as a bearer token.
pub fn guarded(router: Router, secret: &Secret) -> Router {
    let expected = format!("Bearer {}", secret.expose());
    router.layer(from_fn(move |request: Request, next: Next| {
        let shown = request
            .headers()
            .get(AUTHORIZATION)
            .is_some_and(|value| same(value.as_bytes(), expected.as_bytes()));
        async move { if shown { next.run(request).await } else { unauthorized() } }
    }))
}

fn unauthorized() -> Response {
    (axum::http::StatusCode::UNAUTHORIZED, "the platform's secret is missing or wrong")
        .into_response()
}

/// Compares without telling by its duration where the difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Serves until `stop`, then lets the requests under way finish for at most a second.
pub async fn serve<L>(listener: L, router: Router, stop: CancellationToken) -> std::io::Result<()>
where
    L: Listener<Addr: Debug>,
{
    let grace = stop.clone();
    let late = async move {
        grace.cancelled().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        result = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()) => result,
        () = late => Ok(()),
    }
}
