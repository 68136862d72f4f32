//! Secrets at rest: AES-256-GCM under a key made from the configured one.

use anyhow::{Context as _, anyhow, ensure};
use base::http::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Seals and opens text. The form is `1:` and base64 of nonce and sealed bytes; the number says which form it is.
pub struct Seal(LessSafeKey);

impl Seal {
    pub fn new(key: &Secret) -> Seal {
        let digest =
            Sha256::digest(format!("cloud controller database\n{}", key.expose()).as_bytes());
        let key = UnboundKey::new(&AES_256_GCM, &digest).expect("SHA-256 has the key's length");
        Seal(LessSafeKey::new(key))
    }

    pub fn seal(&self, text: &str) -> String {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut bytes = text.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes)
            .expect("AES-GCM seals whatever fits in memory");
        format!("1:{}", STANDARD.encode([nonce.as_slice(), &bytes].concat()))
    }

    pub fn open(&self, sealed: &str) -> anyhow::Result<String> {
        let bytes = STANDARD.decode(sealed.strip_prefix("1:").context("not a sealed text")?)?;
        ensure!(bytes.len() > NONCE_LEN, "a sealed text is cut short");
        let (nonce, rest) = bytes.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce)
            .map_err(|_| anyhow!("a nonce has the wrong length"))?;
        let mut rest = rest.to_vec();
        let open = self.0.open_in_place(nonce, Aad::empty(), &mut rest);
        let open = open.map_err(|_| {
            anyhow!("a secret in the database was sealed with another encryption key")
        })?;
        Ok(String::from_utf8(open.to_vec())?)
    }

    pub fn seal_json(&self, value: &Value) -> String {
        self.seal(&value.to_string())
    }

    /// An absent or empty text is an empty object.
    pub fn open_json(&self, sealed: Option<&str>) -> anyhow::Result<Value> {
        match sealed {
            None | Some("") => Ok(Value::Object(serde_json::Map::new())),
            Some(text) => Ok(serde_json::from_str(&self.open(text)?)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_only_with_its_key() {
        let seal = Seal::new(&Secret::new("one"));
        let (first, second) = (seal.seal("ü"), seal.seal("ü"));
        assert_ne!(first, second);
        assert_eq!(seal.open(&first).unwrap(), "ü");
        assert!(Seal::new(&Secret::new("two")).open(&first).is_err());
        assert!(seal.open("1:AAAA").is_err());
    }
}
