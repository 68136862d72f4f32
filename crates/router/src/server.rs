//! Listening: connections in, each served by the router.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::CancellationToken;
use base::TaskTracker;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::Router;

/// How a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// How long a client may take to say what it wants: its TLS handshake, its request's headers.
const PATIENCE: Duration = Duration::from_secs(30);
/// What requests under way get when the router stops.
const GRACE: Duration = Duration::from_secs(2);

impl Router {
    pub async fn serve_http(&self, listener: TcpListener, stop: CancellationToken) {
        self.serve(listener, None, stop).await;
    }

    pub async fn serve_https(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) {
        self.serve(listener, Some(TlsAcceptor::from(tls)), stop).await;
    }

    async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        stop: CancellationToken,
    ) {
        let connections = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(self.shared.config.max_connections));
        loop {
            let (accepted, slot) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            let (router, tls, stop) = (self.clone(), tls.clone(), stop.clone());
            connections.spawn(async move {
                let (stream, client) = accepted;
                match tls {
                    None => router.connection(stream, client, Scheme::Http, stop).await,
                    Some(tls) => match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            router.connection(stream, client, Scheme::Https, stop).await
                        }
                        Ok(Err(error)) => debug!(%client, %error, "TLS handshake"),
                        Err(_) => debug!(%client, "TLS handshake took too long"),
                    },
                }
                drop(slot);
            });
        }
        connections.close();
        // Requests that are not over by then are cut.
        let _ = tokio::time::timeout(GRACE, connections.wait()).await;
    }

    async fn connection<S>(
        &self,
        stream: S,
        client: SocketAddr,
        scheme: Scheme,
        stop: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .preserve_header_case(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(250)
            .enable_connect_protocol();
        let router = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let router = router.clone();
            async move {
                Ok::<_, std::convert::Infallible>(
                    router.serve_request(request, client, scheme).await,
                )
            }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            debug!(%client, %error, "connection ended");
        }
    }
}

/// Accepting fails when file descriptors run out; the next client then waits a moment.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> ((TcpStream, SocketAddr), tokio::sync::OwnedSemaphorePermit) {
    let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                // Without it small answers wait for acknowledgements; a socket that is gone already cannot be set.
                let _ = stream.set_nodelay(true);
                return ((stream, client), slot);
            }
            Err(error) => {
                warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
