//! Passwords and client secrets: Argon2id, never on the threads that serve requests, never more than a few at once.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::recent::Recent;

/// The stored form of a password that nothing matches.
pub(crate) const UNUSABLE: &str = "!";
/// The stored form of the empty client secret, which is no secret.
pub(crate) const EMPTY: &str = "";

/// Each costs 12 MiB while it runs.
const AT_ONCE: usize = 2;
/// Those that wait beyond this are turned away: a flood of logins must not starve the rest.
const WAITING: usize = 200;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("too many logins at once")]
    Busy,
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

#[derive(Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// Digests of client secrets that were verified, by the stored hash, so that services pay Argon2 once.
    verified: Arc<Mutex<Recent<String, [u8; 32]>>>,
}

impl Passwords {
    pub(crate) fn new() -> Passwords {
        Passwords {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            verified: Arc::new(Mutex::new(Recent::new(256))),
        }
    }

    pub(crate) async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let password = password.to_owned();
        self.blocking(move || hash(&password)).await?
    }

    /// False for [`UNUSABLE`], after the same work as for a wrong password, so that nobody learns which users exist.
    pub(crate) async fn verify(&self, password: &str, stored: &str) -> Result<bool, PasswordError> {
        let (password, stored) = (password.to_owned(), stored.to_owned());
        self.blocking(move || verify(&password, &stored)).await
    }

    /// As `verify`, for client secrets: a client without a secret costs nothing, a repeated one nearly nothing.
    pub(crate) async fn verify_secret(
        &self,
        secret: &str,
        stored: &str,
    ) -> Result<bool, PasswordError> {
        if stored == EMPTY || stored == UNUSABLE {
            return Ok(stored == EMPTY && secret.is_empty());
        }
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        if self.verified.lock().get(stored) == Some(digest) {
            return Ok(true);
        }
        let good = self.verify(secret, stored).await?;
        if good {
            self.verified.lock().put(stored.to_owned(), digest);
        }
        Ok(good)
    }

    pub(crate) async fn hash_secret(&self, secret: Option<&str>) -> Result<String, PasswordError> {
        match secret {
            None => Ok(UNUSABLE.to_owned()),
            Some("") => Ok(EMPTY.to_owned()),
            Some(secret) => self.hash(secret).await,
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _place = self.places.try_acquire().map_err(|_| PasswordError::Busy)?;
        // Owned by the work itself: a caller that goes away must not let another one start beside it.
        let turn =
            Arc::clone(&self.turns).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        let run = move || {
            let _turn = turn;
            work()
        };
        let done = tokio::task::spawn_blocking(run).await.context("hashing a password");
        Ok(done?)
    }
}

fn argon() -> Argon2<'static> {
    let params = Params::new(12 * 1024, 3, 1, None).expect("constant and valid");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &str) -> Result<String, PasswordError> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = argon()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|error| anyhow!("hashing: {error}"))?;
    Ok(hash.to_string())
}

fn verify(password: &str, stored: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(stored) else {
        let mut ignored = [0; 32];
        let _ = argon().hash_password_into(password.as_bytes(), b"nobody has this", &mut ignored);
        return false;
    };
    argon().verify_password(password.as_bytes(), &parsed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_verifies() {
        let passwords = Passwords::new();
        let stored = passwords.hash("s3cret").await.unwrap();
        assert!(passwords.verify("s3cret", &stored).await.unwrap());
        assert!(!passwords.verify("S3cret", &stored).await.unwrap());
        assert!(!passwords.verify("", UNUSABLE).await.unwrap());
        assert!(passwords.verify_secret("", EMPTY).await.unwrap());
        assert!(!passwords.verify_secret("", UNUSABLE).await.unwrap());
        for _ in 0..2 {
            assert!(passwords.verify_secret("s3cret", &stored).await.unwrap());
            assert!(!passwords.verify_secret("other", &stored).await.unwrap());
        }
    }
}
