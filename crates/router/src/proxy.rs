//! One request's way to an endpoint and back.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use base::Timestamp;
use http::header::HeaderMap;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tower::ServiceExt as _;
use tracing::debug;

use crate::access_log::{Outcome, Pending, Record};
use crate::balance::{Choice, Wish, choose};
use crate::body::{Attempt, RequestBody, ResponseBody};
use crate::error::RouterError;
use crate::server::Scheme;
use crate::table::{Pool, Target};
use crate::{Config, Router, Shared, headers, is_platform, sticky};

/// How long a failed endpoint is passed over while others are left.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// Pooled connections to endpoints, one kind per protocol.
pub(crate) struct Clients {
    http1: Client<HttpConnector, Attempt>,
    http2: Client<HttpConnector, Attempt>,
}

impl Clients {
    pub(crate) fn new(config: &Config) -> Clients {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(config.connect_timeout));
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(100)
            .set_host(false);
        let http1 = builder.build(connector.clone());
        let http2 = builder.http2_only(true).build(connector);
        Clients { http1, http2 }
    }
}

impl Router {
    /// Answers one request of `client`, whoever it is for. Never fails: a failure is an answer.
    pub(crate) async fn serve_request(
        &self,
        mut request: Request<Incoming>,
        client: SocketAddr,
        scheme: Scheme,
    ) -> Response<Body> {
        let host = headers::host(&request);
        headers::keep_host(&mut request);
        headers::forward(request.headers_mut(), client, scheme);
        let now = self.shared.clock.now();
        headers::identify(request.headers_mut(), &base::new_guid(), now);
        if is_platform(&host, &self.shared.config.platform_names) {
            return self
                .shared
                .front
                .clone()
                .oneshot(request.map(Body::new))
                .await
                .unwrap_or_else(|never| match never {});
        }
        if host.is_empty() {
            return RouterError::EmptyHost.response();
        }
        let Some(pool) = self.shared.table.lookup(&host, request.uri().path()) else {
            return RouterError::UnknownRoute { host }.response();
        };
        let wish = match headers::wish(request.headers_mut(), &self.shared.config.sticky_cookies) {
            Ok(wish) => wish,
            Err(error) => return error.response(),
        };
        Exchange::new(&self.shared, pool, wish, request, &host, client, now).run().await
    }
}

/// A request that has found its route.
struct Exchange<'a> {
    shared: &'a Shared,
    pool: Arc<Pool>,
    wish: Wish,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: RequestBody,
    client_upgrade: Option<hyper::upgrade::OnUpgrade>,
    record: Record,
    tried: Vec<Arc<Target>>,
}

impl<'a> Exchange<'a> {
    fn new(
        shared: &'a Shared,
        pool: Arc<Pool>,
        wish: Wish,
        mut request: Request<Incoming>,
        host: &str,
        client: SocketAddr,
        now: Timestamp,
    ) -> Exchange<'a> {
        let client_upgrade =
            headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        let record = Record::new(
            host,
            client.to_string(),
            &parts.method,
            &parts.uri,
            parts.version,
            &parts.headers,
            now,
        );
        headers::strip_hop_by_hop(&mut parts.headers);
        Exchange {
            shared,
            pool,
            wish,
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body: RequestBody::new(body),
            client_upgrade,
            record,
            tried: Vec::new(),
        }
    }

    async fn run(mut self) -> Response<Body> {
        let mut last = None;
        while self.tried.len() < self.shared.config.max_attempts {
            let now = self.shared.clock.now();
            let target = match choose(
                &self.pool,
                &self.wish,
                &self.headers,
                &self.tried,
                self.shared.config.max_in_flight,
                now,
                &mut rand::rng(),
            ) {
                Choice::Target(target) => target,
                Choice::Unknown => return RouterError::UnknownInstance.response(),
                Choice::Full => return last.unwrap_or(RouterError::ConnectionLimit).response(),
                Choice::Exhausted => break,
            };
            self.tried.push(target.clone());
            match self.attempt(&target).await {
                Ok(response) => return self.answer(&target, response, now),
                Err(failure) => {
                    debug!(endpoint = %target.endpoint.address, error = %failure.error.cause(), "attempt failed");
                    target.mark_failed(now + FAILED_FOR);
                    last = Some(failure.error);
                    if !failure.retry {
                        break;
                    }
                }
            }
        }
        let error = last.unwrap_or(RouterError::EndpointFailure("no endpoint left".to_owned()));
        if let Some(target) = self.tried.pop() {
            let outcome = Outcome {
                status: error.status().as_u16(),
                error: error.cause(),
                request_bytes: self.body.bytes_read(),
                ..Outcome::default()
            };
            drop(pending(self.shared, self.record, outcome, &target));
        }
        error.response()
    }

    async fn attempt(&self, target: &Target) -> Result<Response<Incoming>, Failure> {
        let request = self.request_for(target).map_err(|error| Failure {
            error: RouterError::EndpointFailure(error.to_string()),
            retry: false,
        })?;
        let client =
            if target.endpoint.http2 { &self.shared.proxy.http2 } else { &self.shared.proxy.http1 };
        let _busy = Busy::new(&target.in_flight);
        match tokio::time::timeout(self.shared.config.response_timeout, client.request(request))
            .await
        {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Failure { error: RouterError::Timeout, retry: false }),
        }
    }

    fn request_for(&self, target: &Target) -> Result<Request<Attempt>, http::Error> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder()
            .scheme("http")
            .authority(target.endpoint.address.to_string())
            .path_and_query(path)
            .build()?;
        let mut request = Request::new(self.body.attempt());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() =
            if target.endpoint.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        *request.headers_mut() = self.headers.clone();
        headers::address(request.headers_mut(), &target.endpoint);
        Ok(request)
    }

    /// Another endpoint may have the request when this one cannot have acted on it: no connection came about, or
    /// nothing was answered to a request that is safe to repeat (RFC 9110, 9.2.2).
    fn failure(&self, error: &Error) -> Failure {
        let unread = self.body.bytes_read() == 0;
        let safe =
            matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
                && self.body.is_empty();
        let why =
            error.source().map_or_else(|| error.to_string(), |cause| innermost(cause).to_string());
        Failure {
            error: RouterError::EndpointFailure(why),
            retry: unread && (error.is_connect() || safe),
        }
    }

    fn answer(
        mut self,
        target: &Arc<Target>,
        mut response: Response<Incoming>,
        sent: Timestamp,
    ) -> Response<Body> {
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if upgraded && let Some(client) = self.client_upgrade.take() {
            let backend = hyper::upgrade::on(&mut response);
            tokio::spawn(tunnel(client, backend));
        }
        let outcome = Outcome {
            status: response.status().as_u16(),
            request_bytes: self.body.bytes_read(),
            backend_nanos: self.shared.clock.now().as_nanos() - sent.as_nanos(),
            ..Outcome::default()
        };
        let (mut parts, inner) = response.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        let moved = matches!(&self.wish, Wish::Session(instance) if instance != target.endpoint.instance_guid.as_str());
        sticky::stick(
            &mut parts.headers,
            &self.shared.config.sticky_cookies,
            target.endpoint.instance_guid.as_str(),
            &self.pool.path,
            moved,
        );
        if !parts.headers.contains_key(headers::VCAP_REQUEST_ID)
            && let Some(id) = self.headers.get(headers::VCAP_REQUEST_ID)
        {
            parts.headers.insert(headers::VCAP_REQUEST_ID, id.clone());
        }
        let pending = pending(self.shared, self.record, outcome, target);
        Response::from_parts(parts, Body::new(ResponseBody { inner, pending }))
    }
}

fn pending(shared: &Shared, record: Record, outcome: Outcome, target: &Target) -> Pending {
    Pending {
        record,
        outcome,
        endpoint: target.endpoint.clone(),
        index: shared.config.index,
        sink: shared.sink.clone(),
        clock: shared.clock.clone(),
    }
}

struct Failure {
    error: RouterError,
    retry: bool,
}

fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// Counts a request at its endpoint until the response's headers are there.
struct Busy<'a>(&'a AtomicUsize);

impl Busy<'_> {
    fn new(count: &AtomicUsize) -> Busy<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Carries bytes both ways until either side ends; a WebSocket lives here.
async fn tunnel(client: hyper::upgrade::OnUpgrade, backend: hyper::upgrade::OnUpgrade) {
    match tokio::try_join!(client, backend) {
        Ok((client, backend)) => {
            // A side that goes away ends the tunnel; that is no event.
            let _ = tokio::io::copy_bidirectional(
                &mut TokioIo::new(client),
                &mut TokioIo::new(backend),
            )
            .await;
        }
        Err(error) => debug!(%error, "upgrade did not come about"),
    }
}
