//! Certificates for containers: an authority of the platform's, apart from the one its machines trust each other by, signs
//! one authority for each cell, and that one signs what the cell's containers show. No key leaves the machine it is
//! used on, but for a cell's when it joins.

use std::time::Duration;

use anyhow::Context as _;
use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use executor::{Credentials, Identities, Subject};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SigningKey as _,
};
use serde::{Deserialize, Serialize};

use super::subject;
use crate::data_dir::{self, DataDir};

/// How long a container's certificate is good for; the next one comes three hours earlier. Diego's.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
/// Clocks of other machines may be so far behind.
const SKEW: Duration = Duration::from_secs(300);

/// The root of what containers show.
pub struct InstanceAuthority {
    certificate: String,
    key: KeyPair,
}

/// What a cell signs with: PEM, its own certificate first and then the root's.
#[derive(Clone, Serialize, Deserialize)]
pub struct CellAuthority {
    cell_id: String,
    certificate: String,
    key: String,
    root: String,
}

/// A cell's authority at work.
struct Signer {
    name: String,
    certificate: String,
    root: String,
    key: KeyPair,
}

impl InstanceAuthority {
    /// The one of this data directory, made at first use.
    pub fn of(data: &DataDir) -> anyhow::Result<InstanceAuthority> {
        let made = || KeyPair::generate().expect("the system has random numbers").serialize_pem();
        let key = data.kept(data_dir::INSTANCE_AUTHORITY_KEY, made)?;
        let path = data.file(data_dir::INSTANCE_AUTHORITY_KEY);
        let key =
            KeyPair::from_pem(&key).with_context(|| format!("{} holds no key", path.display()))?;
        let made = root_params().self_signed(&key)?;
        let certificate = data.kept(data_dir::INSTANCE_AUTHORITY, || made.pem())?;
        Ok(InstanceAuthority { certificate, key })
    }

    /// An authority for a cell, with a key of its own.
    pub fn cell(&self, cell_id: &str) -> anyhow::Result<CellAuthority> {
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(root_params(), &self.key);
        let certificate = cell_params(&name(cell_id)).signed_by(&key, &issuer)?;
        Ok(CellAuthority {
            cell_id: cell_id.to_owned(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            root: self.certificate.clone(),
        })
    }
}

impl CellAuthority {
    pub fn identities(&self) -> anyhow::Result<impl Identities + use<>> {
        let key = KeyPair::from_pem(&self.key).context("the key of this cell's authority")?;
        let (certificate, root) = (self.certificate.clone(), self.root.clone());
        Ok(Signer { name: name(&self.cell_id), certificate, root, key })
    }
}

impl Identities for Signer {
    fn issue(&self, subject: &Subject, now: Timestamp) -> anyhow::Result<Credentials> {
        let key = KeyPair::generate()?;
        let until = now + GOOD_FOR;
        let names = vec![subject.guid.to_owned(), subject.address.to_string()];
        let mut params = CertificateParams::new(names).context("naming a container")?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let since_epoch = |at: Timestamp| at.since(Timestamp::from_secs(0));
        params.not_before = epoch + since_epoch(now - SKEW);
        params.not_after = epoch + since_epoch(until);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(cell_params(&self.name), &self.key);
        let made = params.signed_by(&key, &issuer)?;
        // The library writes each kind of name once, and an app's certificate has several units.
        let named =
            subject::rename(made.der(), &name_of(subject), |tbs| Ok(self.key.sign(tbs)?))?;
        Ok(Credentials {
            certificate: format!("{}{}", pem(&named), self.certificate),
            key: key.serialize_pem(),
            until,
        })
    }

    fn authority(&self) -> &str {
        &self.root
    }
}

/// Units first, then who it is, as Diego has it.
fn name_of(subject: &Subject) -> Vec<(subject::Kind, String)> {
    let units = subject.units.iter().map(|unit| (subject::Kind::Unit, unit.clone()));
    units.chain([(subject::Kind::CommonName, subject.guid.to_owned())]).collect()
}

fn name(cell_id: &str) -> String {
    format!("Cupola instances of {cell_id}")
}

/// The same at every start, for what is signed names its issuer by them.
fn root_params() -> CertificateParams {
    authority_params("Cupola instance authority", 1)
}

fn cell_params(name: &str) -> CertificateParams {
    let mut params = authority_params(name, 0);
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority_params(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use base::Clock;

    use super::*;

    fn openssl(args: &[&str]) -> String {
        let output = Command::new("openssl").args(args).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "openssl {args:?}: {text}");
        text
    }

    #[test]
    fn others_can_check_what_a_container_shows() {
        let folder = tempfile::tempdir().unwrap();
        let root = InstanceAuthority::of(&DataDir::open(folder.path()).unwrap()).unwrap();
        let (one, other) = (root.cell("cell-1").unwrap(), root.cell("cell-2").unwrap());
        let units = ["organization:o", "space:s", "app:a"].map(str::to_owned);
        let address = [10, 254, 0, 6].into();
        let guid = "90c5ba23-3d23-4b2e-8ed4-4b1c";
        let subject = Subject { guid, address, units: &units };
        let now = Clock::system().now();
        let made = one.identities().unwrap().issue(&subject, now).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (shown, trusted) = (write("shown", &made.certificate), write("root", &one.root));
        let verified =
            openssl(&["verify", "-x509_strict", "-CAfile", &trusted, "-untrusted", &shown, &shown]);
        assert!(verified.contains("OK"), "{verified}");
        let text = openssl(&["x509", "-in", &shown, "-noout", "-text", "-nameopt", "RFC2253"]);
        for part in [
            "Subject: CN=90c5ba23-3d23-4b2e-8ed4-4b1c,OU=app:a,OU=space:s,OU=organization:o",
            "Issuer: CN=Cupola instances of cell-1",
            "DNS:90c5ba23-3d23-4b2e-8ed4-4b1c, IP Address:10.254.0.6",
            "TLS Web Server Authentication, TLS Web Client Authentication",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        openssl(&["x509", "-in", &shown, "-noout", "-checkend", "86000"]);
        // The key belongs to it.
        let key = write("key", &made.key);
        let public = openssl(&["pkey", "-in", &key, "-pubout"]);
        assert_eq!(openssl(&["x509", "-in", &shown, "-noout", "-pubkey"]), public);
        // Another cell's word does not count for it.
        let other = write("other", &other.certificate);
        let output = Command::new("openssl")
            .args(["verify", "-CAfile", &trusted, "-untrusted", &other, &shown])
            .output()
            .unwrap();
        assert!(!output.status.success());
    }
}
