//! TLS between the platform's machines: one authority of its own that all of them trust, and a listener that shows a
//! certificate signed by it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Certificate;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

/// A peer that does not finish its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at once; more wait in the kernel's queue.
const HANDSHAKES: usize = 256;

static AUTHORITY: OnceLock<(String, Certificate)> = OnceLock::new();

/// From now on every client of [`crate::http`] trusts what the authority `pem` signed. Once per process, before the
/// first client is made.
///
/// # Errors
/// When `pem` is no certificate, or another authority is trusted already; the same one again changes nothing.
pub fn trust(pem: &str) -> anyhow::Result<()> {
    crate::http::install_crypto();
    let certificate =
        Certificate::from_pem(pem.as_bytes()).context("reading the authority's certificate")?;
    let (trusted, _) = AUTHORITY.get_or_init(|| (pem.trim().to_owned(), certificate));
    anyhow::ensure!(trusted == pem.trim(), "another authority is trusted already");
    Ok(())
}

pub(crate) fn authority() -> Option<Certificate> {
    AUTHORITY.get().map(|(_, certificate)| certificate.clone())
}

/// What a listener shows: a chain and its key, both as PEM. HTTP/2 and HTTP/1.1 over TLS 1.2 and 1.3.
pub fn server_config(certificate: &str, key: &str) -> anyhow::Result<Arc<ServerConfig>> {
    crate::http::install_crypto();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .context("reading the certificate")?;
    anyhow::ensure!(!chain.is_empty(), "the certificate file holds no certificate");
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).context("reading the certificate's key")?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not fit")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Connections whose handshake is done; slow handshakes hold nobody up.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
    _accepting: DropGuard,
}

impl TlsListener {
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> std::io::Result<TlsListener> {
        let address = listener.local_addr()?;
        let (send, ready) = mpsc::channel(HANDSHAKES);
        let stop = CancellationToken::new();
        let until = stop.clone();
        tokio::spawn(async move {
            until.run_until_cancelled(accept(listener, config.into(), send)).await;
        });
        Ok(TlsListener { ready, address, _accepting: stop.drop_guard() })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task lives as long as this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("nobody closes it");
        let (stream, peer) = axum::serve::Listener::accept(&mut listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "setting up a connection");
        }
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let _slot = slot;
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                // An error says that the listener is gone, and so the connection.
                Ok(Ok(stream)) => drop(ready.send((stream, peer)).await),
                Ok(Err(error)) => warn!(%peer, %error, "a TLS handshake failed"),
                Err(_) => warn!(%peer, "a TLS handshake took too long"),
            }
        });
    }
}
