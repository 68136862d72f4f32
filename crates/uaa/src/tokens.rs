//! Signing and checking tokens, and the ledger of those that were revoked before their time.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use base::Timestamp;
use jsonwebtoken::{Algorithm, Header, Validation};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::claims::{Claims, TokenError};
use crate::db;
use crate::jti;
use crate::keys::Keys;
use crate::recent::Recent;

/// Verified tokens that are remembered, so that a signature is checked once and not at every request.
const REMEMBERED: usize = 2048;

/// A token longer than this is not one of ours.
const LONGEST: usize = 16 * 1024;

pub(crate) struct Tokens {
    pub keys: Keys,
    issuer: String,
    verified: Mutex<Recent<[u8; 32], Arc<Claims>>>,
    ledger: RwLock<Ledger>,
}

/// What was revoked: a token's id, or a subject or client with the second before which its tokens are void.
#[derive(Default)]
struct Ledger(HashMap<String, Revocation>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// Tokens issued before this second are void.
    pub before: i64,
    /// From this second on every such token has expired anyway.
    pub until: i64,
}

impl Ledger {
    fn revokes(&self, claims: &Claims) -> bool {
        let before =
            |id: &str| self.0.get(id).is_some_and(|revocation| claims.iat < revocation.before);
        !self.0.is_empty()
            && (before(&claims.jti)
                || before(&subject(&claims.sub))
                || before(&client(&claims.client_id)))
    }
}

/// The ledger's name for all tokens of a user (or a client's own).
pub(crate) fn subject(sub: &str) -> String {
    format!("sub:{sub}")
}

/// The ledger's name for all tokens issued to a client.
pub(crate) fn client(client_id: &str) -> String {
    format!("client:{client_id}")
}

impl Tokens {
    pub(crate) async fn open(db: &sql::Db, keys: Keys, issuer: &str) -> anyhow::Result<Tokens> {
        let ledger =
            Ledger(db::revocations::list(&mut *db.read().await?).await?.into_iter().collect());
        Ok(Tokens {
            keys,
            issuer: format!("{issuer}/oauth/token"),
            verified: Mutex::new(Recent::new(REMEMBERED)),
            ledger: RwLock::new(ledger),
        })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs on a thread where milliseconds do not matter.
    pub(crate) async fn sign<T: Serialize + Send + 'static>(
        self: &Arc<Self>,
        claims: T,
    ) -> anyhow::Result<String> {
        let tokens = Arc::clone(self);
        let sign = move || {
            let key = tokens.keys.signing();
            let mut header = Header::new(Algorithm::RS256);
            header.kid = Some(key.kid.clone());
            jsonwebtoken::encode(&header, &claims, &key.signs).context("signing a token")
        };
        tokio::task::spawn_blocking(sign).await?
    }

    /// An access token that is ours, in time and not revoked.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Claims>, TokenError> {
        let claims = self.authentic(token)?;
        if jti::is_refresh(&claims.jti) {
            return Err(TokenError::Invalid);
        }
        self.still_good(claims, now)
    }

    /// As `verify`, for refresh tokens.
    pub(crate) fn verify_refresh(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<Claims>, TokenError> {
        let claims = self.authentic(token)?;
        if !jti::is_refresh(&claims.jti) {
            return Err(TokenError::Invalid);
        }
        self.still_good(claims, now)
    }

    /// A signed document of our own for another purpose than access.
    pub(crate) fn open_signed(&self, token: &str) -> Option<Value> {
        self.decode(token).ok()
    }

    fn still_good(&self, claims: Arc<Claims>, now: Timestamp) -> Result<Arc<Claims>, TokenError> {
        if claims.exp <= now.as_secs() {
            return Err(TokenError::Expired);
        }
        if self.ledger.read().revokes(&claims) {
            return Err(TokenError::Invalid);
        }
        Ok(claims)
    }

    fn authentic(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.verified.lock().get(&digest) {
            return Ok(claims);
        }
        let claims: Arc<Claims> = Arc::new(self.decode(token)?);
        if claims.iss != self.issuer {
            return Err(TokenError::Invalid);
        }
        self.verified.lock().put(digest, Arc::clone(&claims));
        Ok(claims)
    }

    fn decode<T: serde::de::DeserializeOwned>(&self, token: &str) -> Result<T, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let key = self.keys.find(&kid).ok_or(TokenError::Invalid)?;
        // Times are compared with our own clock, and whom a token is for is for its reader to judge.
        let mut rules = Validation::new(Algorithm::RS256);
        (rules.validate_exp, rules.validate_aud) = (false, false);
        rules.required_spec_claims.clear();
        let data =
            jsonwebtoken::decode(token, &key.verifies, &rules).map_err(|_| TokenError::Invalid)?;
        Ok(data.claims)
    }

    /// Takes effect here at once, and elsewhere with the next refresh.
    pub(crate) async fn revoke(
        &self,
        db: &sql::Db,
        id: String,
        revocation: Revocation,
        now: Timestamp,
    ) -> sqlx::Result<()> {
        let mut tx = db.begin().await?;
        db::revocations::put(&mut tx, &id, revocation).await?;
        db::revocations::forget_expired(&mut tx, now.as_secs()).await?;
        tx.commit().await?;
        let mut ledger = self.ledger.write();
        ledger.0.retain(|_, revocation| revocation.until > now.as_secs());
        ledger.0.insert(id, revocation);
        Ok(())
    }

    /// What another process may have revoked: asked where a look into the database costs little beside the rest.
    pub(crate) async fn is_revoked_anywhere(
        &self,
        db: &sql::Db,
        claims: &Claims,
    ) -> sqlx::Result<bool> {
        let ids = [claims.jti.clone(), subject(&claims.sub), client(&claims.client_id)];
        let found = db::revocations::find(&mut *db.read().await?, &ids).await?;
        Ok(Ledger(found.into_iter().collect()).revokes(claims))
    }
}
