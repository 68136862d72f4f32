//! Who is asking: the bearer token becomes a [`Caller`]. The only module that knows how users are kept.

mod real;

use std::collections::BTreeMap;

use async_trait::async_trait;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};

use crate::Cc;
use crate::errors::{ApiError, ApiResult, Kind};

/// Tokens and the users behind them. `uaa` is the real one; `testing` has one for tests.
#[async_trait]
pub trait Identity: Send + Sync {
    /// `bearer` is the whole header value, `bearer TOKEN`.
    async fn verify(&self, bearer: &str) -> Result<Claims, TokenError>;
    /// Unknown ids are left out.
    async fn users_by_ids(&self, ids: &[String]) -> anyhow::Result<Vec<User>>;
    /// Every origin, unless one is given.
    async fn users_by_names(
        &self,
        names: &[String],
        origins: &[String],
    ) -> anyhow::Result<Vec<User>>;
    /// Whose names hold one of `parts`, in whatever case; at most `most`.
    async fn users_by_parts(
        &self,
        parts: &[String],
        origins: &[String],
        most: usize,
    ) -> anyhow::Result<Vec<User>>;
    /// Makes a user without a password, for `POST /v3/users` with a name and an origin.
    async fn create_user(&self, username: &str, origin: &str) -> anyhow::Result<User>;
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub guid: String,
    pub username: String,
    pub origin: String,
}

#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Absent in tokens of clients.
    pub user_id: Option<String>,
    pub user_name: Option<String>,
    pub email: Option<String>,
    pub client_id: String,
    pub scopes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    Missing,
    Invalid,
    Expired,
}

/// How far a caller reaches without any role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Admin,
    AdminReadOnly,
    GlobalAuditor,
    User,
}

/// Whoever asks, once the token proved good and its scope fits the method.
#[derive(Clone, Debug)]
pub struct Caller {
    pub guid: String,
    /// User name, or the client's id.
    pub name: String,
    pub email: String,
    /// `user` or `client`, as audit events tell.
    pub kind: &'static str,
    pub power: Power,
    pub scopes: Vec<String>,
}

impl Caller {
    pub fn from_claims(claims: Claims) -> Caller {
        let has = |scope: &str| claims.scopes.iter().any(|own| own == scope);
        let power = if has("cloud_controller.admin") {
            Power::Admin
        } else if has("cloud_controller.admin_read_only") {
            Power::AdminReadOnly
        } else if has("cloud_controller.global_auditor") {
            Power::GlobalAuditor
        } else {
            Power::User
        };
        let kind = if claims.user_id.is_some() { "user" } else { "client" };
        Caller {
            guid: claims.user_id.unwrap_or_else(|| claims.client_id.clone()),
            name: claims.user_name.unwrap_or(claims.client_id),
            email: claims.email.unwrap_or_default(),
            kind,
            power,
            scopes: claims.scopes,
        }
    }

    pub fn is_admin(&self) -> bool {
        self.power == Power::Admin
    }

    /// Reads everything, whatever the roles.
    pub fn reads_all(&self) -> bool {
        self.power != Power::User
    }

    /// Reads secrets (environment, credentials) of everything.
    pub fn reads_all_secrets(&self) -> bool {
        matches!(self.power, Power::Admin | Power::AdminReadOnly)
    }

    /// # Errors
    /// 403 for everybody but administrators.
    pub fn require_admin(&self) -> ApiResult<()> {
        if self.is_admin() { Ok(()) } else { Err(ApiError::forbidden()) }
    }

    /// # Errors
    /// 403 for those that must hold a role to read.
    pub fn require_reads_all(&self) -> ApiResult<()> {
        if self.reads_all() { Ok(()) } else { Err(ApiError::forbidden()) }
    }

    fn check_scope(&self, method: &Method) -> ApiResult<()> {
        let reading = matches!(*method, Method::GET | Method::HEAD);
        let enough = match self.power {
            Power::Admin => true,
            Power::AdminReadOnly | Power::GlobalAuditor if reading => true,
            _ => {
                let scope =
                    if reading { "cloud_controller.read" } else { "cloud_controller.write" };
                self.scopes.iter().any(|own| own == scope)
            }
        };
        if enough { Ok(()) } else { Err(ApiError::forbidden()) }
    }
}

/// Reads the token of a request whose method asks for no particular scope.
///
/// # Errors
/// 401 without a good token.
pub async fn identify(cc: &Cc, headers: &HeaderMap) -> ApiResult<Caller> {
    let bearer =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let claims = cc.identity.verify(bearer).await.map_err(|error| match error {
        TokenError::Missing => Kind::NotAuthenticated.with("Authentication error"),
        TokenError::Invalid | TokenError::Expired => {
            Kind::InvalidAuthToken.with("Invalid Auth Token")
        }
    })?;
    Ok(Caller::from_claims(claims))
}

impl FromRequestParts<Cc> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, cc: &Cc) -> ApiResult<Caller> {
        let caller = identify(cc, &parts.headers).await?;
        caller.check_scope(&parts.method)?;
        Ok(caller)
    }
}

/// The users behind `guids`, by guid.
pub async fn users(cc: &Cc, guids: &[String]) -> ApiResult<BTreeMap<String, User>> {
    let found = cc.identity.users_by_ids(guids).await?;
    Ok(found.into_iter().map(|user| (user.guid.clone(), user)).collect())
}
