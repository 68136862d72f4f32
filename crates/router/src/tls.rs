//! The front door's certificate: the operator's, or one made by the platform itself.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

pub use rustls::ServerConfig;

/// A certificate chain and its key, both as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Identity {
    /// Signed by itself, for `names` (host names, wildcards, addresses). Browsers warn; `--skip-ssl-validation` accepts it.
    pub fn self_made(names: Vec<String>) -> anyhow::Result<Identity> {
        let mut params =
            CertificateParams::new(names).context("a name cannot stand in a certificate")?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Cupola");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// HTTP/2 and HTTP/1.1 over TLS 1.2 and 1.3.
    pub fn server_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        base::tls::server_config(&self.certificate, &self.key)
    }
}
