//! The platform's own certificate authority. Its key stays on the platform's servers.

use std::net::IpAddr;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use router::tls::Identity;

use crate::data_dir::{self, DataDir};

pub struct Authority {
    /// As PEM; whoever holds it can tell the platform's machines from others.
    pub certificate: String,
    key: KeyPair,
}

impl Authority {
    /// The one of this data directory, made at first use.
    pub fn of(data: &DataDir) -> anyhow::Result<Authority> {
        let key = data.kept(data_dir::AUTHORITY_KEY, || {
            KeyPair::generate().expect("the system has random numbers").serialize_pem()
        })?;
        let key = KeyPair::from_pem(&key).with_context(|| {
            format!("{} holds no key", data.file(data_dir::AUTHORITY_KEY).display())
        })?;
        let made = params().self_signed(&key)?;
        let certificate = data.kept(data_dir::AUTHORITY, || made.pem())?;
        Ok(Authority { certificate, key })
    }

    /// A certificate for a machine at `address`, with a key of its own.
    pub fn issue(&self, address: IpAddr) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![address.to_string()])?;
        params.distinguished_name.push(DnType::CommonName, address.to_string());
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(self::params(), &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The same at every start, for what is signed names its issuer by them.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Cupola platform authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
