//! What a token says, as clients and components read it.

use serde::{Deserialize, Serialize};

/// The claims of an access token (and of a refresh token, which has an id that ends in `-r`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub jti: String,
    /// The user's guid, or the client's id in a token without a user.
    pub sub: String,
    /// What the token allows: a user's scopes, or a client's authorities.
    #[serde(default)]
    pub scope: Vec<String>,
    pub client_id: String,
    #[serde(default)]
    pub cid: String,
    #[serde(default)]
    pub azp: String,
    #[serde(default)]
    pub grant_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<String>,
    /// In refresh tokens: what the refreshed access token may hold at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted_scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(default)]
    pub rev_sig: String,
    pub iat: i64,
    pub exp: i64,
    pub iss: String,
    #[serde(default)]
    pub zid: String,
    #[serde(default)]
    pub aud: Vec<String>,
    #[serde(default)]
    pub revocable: bool,
}

impl Claims {
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.iter().any(|held| held == scope)
    }

    pub fn has_any(&self, scopes: &[&str]) -> bool {
        scopes.iter().any(|scope| self.has_scope(scope))
    }

    /// Whether a person is behind it, and not a client alone.
    pub fn is_user(&self) -> bool {
        self.user_id.is_some()
    }

    /// The name to show for whoever holds it.
    pub fn display_name(&self) -> &str {
        self.user_name.as_deref().unwrap_or(&self.client_id)
    }
}

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("no token was given")]
    Missing,
    #[error("the token is not one of ours, is damaged or was revoked")]
    Invalid,
    #[error("the token has expired")]
    Expired,
}

/// Whom a token is for: each scope without its last part, and the client itself.
pub(crate) fn audience(scopes: &[String], client_id: &str) -> Vec<String> {
    let parts = scopes
        .iter()
        .map(|scope| scope.rsplit_once('.').map_or(scope.as_str(), |(resource, _)| resource));
    let mut audience: Vec<String> = parts.chain([client_id]).map(str::to_owned).collect();
    audience.sort();
    audience.dedup();
    audience
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_made_of_resources() {
        let scopes =
            ["cloud_controller.read", "cloud_controller.write", "openid", "routing.routes.read"];
        let audience = audience(&scopes.map(str::to_owned), "cf");
        assert_eq!(audience, ["cf", "cloud_controller", "openid", "routing.routes"]);
    }
}
