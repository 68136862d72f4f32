//! Accounts and tokens: a UAA as Cloud Foundry's clients know it. Knows no organization, space or app.

mod claims;
mod config;
mod db;
mod defaults;
mod error;
mod grants;
mod jti;
mod keys;
mod lockout;
mod login;
mod password;
mod recent;
mod scim;
mod seal;
mod seed;
mod tokens;
mod users;
mod web;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base::{Clock, Timestamp};

pub use claims::{Claims, TokenError};
pub use config::{ClientConfig, Config};
pub use db::users::User;
pub use users::AccountError;

use db::clients::Client;
use keys::Keys;
use lockout::Policy;
use password::Passwords;
use seal::Seal;
use tokens::Tokens;

/// Cheap to clone; there is nothing to stop.
#[derive(Clone)]
pub struct Uaa(Arc<Inner>);

struct Inner {
    db: sql::Db,
    config: Config,
    clock: Clock,
    passwords: Passwords,
    tokens: Arc<Tokens>,
}

impl Uaa {
    /// Makes the tables, the signing key, the built-in groups and clients and the administrator where they are missing.
    ///
    /// # Errors
    /// When the encryption key is not 32 bytes long or not the one that the database was made with.
    pub async fn open(db: sql::Db, config: Config, clock: Clock) -> anyhow::Result<Uaa> {
        db.migrate("uaa", db::MIGRATIONS).await?;
        let seal = Arc::new(Seal::new(&config.encryption_key)?);
        let passwords = Passwords::new();
        let (keys, ()) = tokio::try_join!(
            Keys::open(&db, seal, clock.now()),
            seed_patiently(&db, &config, &passwords, clock.now()),
        )?;
        let tokens = Arc::new(Tokens::open(&db, keys, config.issuer()).await?);
        Ok(Uaa(Arc::new(Inner { db, config, clock, passwords, tokens })))
    }

    /// Who sent this `Authorization` header (or bare token). Asks no database: a token that another process
    /// revoked is good here until it expires.
    pub fn verify(&self, bearer: &str) -> Result<Arc<Claims>, TokenError> {
        let token = match bearer.trim().split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            Some(_) => return Err(TokenError::Invalid),
            None => bearer.trim(),
        };
        if token.is_empty() || token.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::Missing);
        }
        self.0.tokens.verify(token, self.now())
    }

    /// All endpoints with their absolute paths; neither `/` nor anything of Cloud Controller's is among them.
    pub fn router(&self) -> axum::Router {
        web::router(self.clone())
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn db(&self) -> &sql::Db {
        &self.0.db
    }

    fn lockout_policy(&self) -> Policy {
        let seconds = u64::try_from(self.0.config.lockout_seconds).unwrap_or(0);
        Policy { failures: self.0.config.lockout_failures, span: Duration::from_secs(seconds) }
    }

    async fn client(&self, client_id: &str) -> anyhow::Result<Option<Client>> {
        db::clients::find(&mut *self.db().read().await?, client_id).await
    }
}

/// Programs that start at the same moment on one database may take each other's rows; a second look finds them.
async fn seed_patiently(
    db: &sql::Db,
    config: &Config,
    passwords: &Passwords,
    now: Timestamp,
) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match seed::seed(db, config, passwords, now).await {
            Err(error)
                if tries < 3 && error.downcast_ref::<sqlx::Error>().is_some_and(sql::is_taken) => {}
            result => return result.context("filling the tables of users and clients"),
        }
    }
}
