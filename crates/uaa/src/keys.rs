//! The RSA keys that sign tokens: made at first start, kept sealed in the database, published as JWKS.

use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _};
use rsa::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};

use crate::db;
use crate::seal::Seal;

const BITS: usize = 2048;

/// The newest key signs; the older ones still verify.
pub(crate) struct Keys {
    all: Vec<Key>,
}

pub(crate) struct Key {
    pub kid: String,
    pub signs: EncodingKey,
    pub verifies: DecodingKey,
    jwk: Value,
}

impl Keys {
    /// Reads the keys, making the first one when there is none. Two programs that start at once end with the same key.
    pub(crate) async fn open(
        db: &sql::Db,
        seal: Arc<Seal>,
        now: base::Timestamp,
    ) -> anyhow::Result<Keys> {
        let mut rows = db::keys::list(&mut *db.read().await?).await?;
        if rows.is_empty() {
            let kid = format!("key-{}", &base::new_guid()[..8]);
            let (name, sealer) = (purpose(&kid), Arc::clone(&seal));
            let sealed =
                tokio::task::spawn_blocking(move || sealer.seal(&name, &generate()?)).await??;
            let mut tx = db.begin().await?;
            db::keys::insert_first(&mut tx, &kid, &sealed, now).await?;
            tx.commit().await?;
            rows = db::keys::list(&mut *db.read().await?).await?;
        }
        let all = rows
            .iter()
            .map(|(kid, sealed)| Key::open(kid, &seal.open(&purpose(kid), sealed)?))
            .collect::<Result<_, _>>()?;
        Ok(Keys { all })
    }

    pub(crate) fn signing(&self) -> &Key {
        self.all.last().expect("open makes the first key")
    }

    pub(crate) fn find(&self, kid: &str) -> Option<&Key> {
        self.all.iter().find(|key| key.kid == kid)
    }

    /// `GET /token_keys`, the signing key first.
    pub(crate) fn jwks(&self) -> Value {
        json!({ "keys": self.all.iter().rev().map(|key| &key.jwk).collect::<Vec<_>>() })
    }

    /// `GET /token_key`.
    pub(crate) fn jwk(&self) -> &Value {
        &self.signing().jwk
    }
}

impl Key {
    fn open(kid: &str, der: &[u8]) -> anyhow::Result<Key> {
        let public = RsaPublicKey::from(
            RsaPrivateKey::from_pkcs1_der(der).context("reading the signing key")?,
        );
        let (n, e) = (public.n().to_bytes_be(), public.e().to_bytes_be());
        let pem = public.to_public_key_pem(LineEnding::LF).context("writing the public key")?;
        let jwk = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "value": pem.trim_end(),
            "n": URL_SAFE_NO_PAD.encode(&n), "e": URL_SAFE_NO_PAD.encode(&e),
        });
        Ok(Key {
            kid: kid.to_owned(),
            signs: EncodingKey::from_rsa_der(der),
            verifies: DecodingKey::from_rsa_raw_components(&n, &e),
            jwk,
        })
    }
}

fn purpose(kid: &str) -> String {
    format!("uaa signing key {kid}")
}

fn generate() -> anyhow::Result<Vec<u8>> {
    let key =
        RsaPrivateKey::new(&mut rsa::rand_core::OsRng, BITS).context("making the signing key")?;
    Ok(key.to_pkcs1_der().context("writing the signing key")?.as_bytes().to_vec())
}
