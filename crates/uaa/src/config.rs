//! What an operator decides about accounts and tokens.

use serde::Deserialize;

/// Everything but the encryption key is written by the operator.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The origin that tokens name: `https://uaa.example.com`; their `iss` is `<issuer>/oauth/token`.
    pub issuer: String,
    /// 32 bytes that seal the signing key in the database.
    #[serde(skip)]
    pub encryption_key: Vec<u8>,
    #[serde(default = "admin")]
    pub admin_user: String,
    /// Given to the administrator when the account is made; later changes of the account are kept.
    pub admin_password: String,
    /// Added to the built-in clients, or put in their place; they follow the configuration at every start.
    #[serde(default)]
    pub clients: Vec<ClientConfig>,
    #[serde(default = "access_seconds")]
    pub access_token_seconds: i64,
    #[serde(default = "refresh_seconds")]
    pub refresh_token_seconds: i64,
    /// What clients that depend on a UAA's version are told.
    #[serde(default = "version")]
    pub version: String,
    /// Failed logins in a row that lock an account.
    #[serde(default = "lockout_failures")]
    pub lockout_failures: i64,
    /// The span in which they count, and for which the account stays locked.
    #[serde(default = "lockout_seconds")]
    pub lockout_seconds: i64,
}

/// An OAuth client as the configuration writes it.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    pub client_id: String,
    /// Absent: nobody can authenticate as this client. Empty: anybody can, as with `cf`.
    pub secret: Option<String>,
    pub scope: Vec<String>,
    pub authorities: Vec<String>,
    pub authorized_grant_types: Vec<String>,
    pub redirect_uri: Vec<String>,
    pub autoapprove: bool,
    pub access_token_seconds: Option<i64>,
    pub refresh_token_seconds: Option<i64>,
}

impl Config {
    /// The usual settings around what has no default.
    pub fn new(
        issuer: impl Into<String>,
        encryption_key: Vec<u8>,
        admin_password: impl Into<String>,
    ) -> Config {
        Config {
            issuer: issuer.into(),
            encryption_key,
            admin_user: admin(),
            admin_password: admin_password.into(),
            clients: Vec::new(),
            access_token_seconds: access_seconds(),
            refresh_token_seconds: refresh_seconds(),
            version: version(),
            lockout_failures: lockout_failures(),
            lockout_seconds: lockout_seconds(),
        }
    }

    pub(crate) fn issuer(&self) -> &str {
        self.issuer.trim_end_matches('/')
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

fn admin() -> String {
    "admin".to_owned()
}

fn access_seconds() -> i64 {
    1_200
}

fn refresh_seconds() -> i64 {
    2_592_000
}

fn version() -> String {
    "77.20.0".to_owned()
}

fn lockout_failures() -> i64 {
    5
}

fn lockout_seconds() -> i64 {
    300
}
