//! Sealing secrets for the database with the configured key (ChaCha20-Poly1305), bound to what they are for.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

pub(crate) struct Seal(LessSafeKey);

impl Seal {
    pub(crate) fn new(key: &[u8]) -> anyhow::Result<Seal> {
        let Ok(key) = UnboundKey::new(&CHACHA20_POLY1305, key) else {
            bail!("the encryption key must have 32 bytes, not {}", key.len());
        };
        Ok(Seal(LessSafeKey::new(key)))
    }

    /// Random nonces are safe here: a key seals a handful of secrets, not billions.
    pub(crate) fn seal(&self, purpose: &str, secret: &[u8]) -> anyhow::Result<String> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok().context("no randomness")?;
        let mut sealed = secret.to_vec();
        let aad = Aad::from(purpose.as_bytes());
        let locked =
            self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed);
        locked.ok().context("sealing a secret")?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    pub(crate) fn open(&self, purpose: &str, sealed: &str) -> anyhow::Result<Vec<u8>> {
        let bytes = STANDARD.decode(sealed).context("a sealed secret is not base64")?;
        let Some((nonce, sealed)) = bytes.split_first_chunk::<NONCE_LEN>() else {
            bail!("a sealed secret is cut off")
        };
        let mut sealed = sealed.to_vec();
        let aad = Aad::from(purpose.as_bytes());
        let opened = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut sealed);
        Ok(opened
            .ok()
            .with_context(|| format!("the configured encryption key does not open {purpose}"))?
            .to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_the_same_key_and_purpose() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let sealed = seal.seal("key a", b"secret").unwrap();
        assert_eq!(seal.open("key a", &sealed).unwrap(), b"secret");
        assert!(seal.open("key b", &sealed).is_err());
        assert!(Seal::new(&[8; 32]).unwrap().open("key a", &sealed).is_err());
        assert!(seal.open("key a", "AAAA").is_err());
        assert_ne!(sealed, seal.seal("key a", b"secret").unwrap());
        assert!(Seal::new(&[7; 31]).is_err());
    }
}
