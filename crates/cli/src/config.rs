//! `$CF_HOME/.cf/config.json`, in the format of the `cf` CLI, so that both can share it. Keys unknown here stay as they are.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::ui::Io;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    pub access_token: String,
    #[serde(rename = "APIVersion")]
    pub api_version: String,
    pub async_timeout: u64,
    pub authorization_endpoint: String,
    pub color_enabled: String,
    pub config_version: u32,
    #[serde(rename = "DopplerEndPoint")]
    pub doppler_endpoint: String,
    #[serde(rename = "LogCacheEndPoint")]
    pub log_cache_endpoint: String,
    #[serde(rename = "NetworkPolicyV1Endpoint")]
    pub network_policy_endpoint: String,
    #[serde(rename = "OrganizationFields")]
    pub org: Place,
    pub refresh_token: String,
    #[serde(rename = "RoutingAPIEndpoint")]
    pub routing_endpoint: String,
    #[serde(rename = "SpaceFields")]
    pub space: SpacePlace,
    #[serde(rename = "SSHOAuthClient")]
    pub ssh_oauth_client: String,
    #[serde(rename = "SSLDisabled")]
    pub skip_ssl_validation: bool,
    pub target: String,
    pub trace: String,
    pub uaa_endpoint: String,
    #[serde(rename = "UAAGrantType")]
    pub uaa_grant_type: String,
    #[serde(rename = "UAAOAuthClient")]
    pub uaa_client: String,
    #[serde(rename = "UAAOAuthClientSecret")]
    pub uaa_client_secret: String,
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// An org as it is targeted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    #[serde(rename = "GUID")]
    pub guid: String,
    #[serde(rename = "Name")]
    pub name: String,
}

/// A space as it is targeted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpacePlace {
    #[serde(rename = "GUID")]
    pub guid: String,
    #[serde(rename = "Name")]
    pub name: String,
    #[serde(rename = "AllowSSH")]
    pub allow_ssh: bool,
}

/// Who the access token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub guid: String,
    pub origin: String,
    pub is_client: bool,
}

impl Default for Config {
    fn default() -> Config {
        let others = json!({
            "CFOnK8s": { "Enabled": false, "AuthInfo": "" },
            "Locale": "",
            "MinCLIVersion": "",
            "MinRecommendedCLIVersion": "",
            "PluginRepos": [{ "Name": "CF-Community", "URL": "https://plugins.cloudfoundry.org" }],
        });
        Config {
            access_token: String::new(),
            api_version: String::new(),
            async_timeout: 0,
            authorization_endpoint: String::new(),
            color_enabled: String::new(),
            config_version: 4,
            doppler_endpoint: String::new(),
            log_cache_endpoint: String::new(),
            network_policy_endpoint: String::new(),
            org: Place::default(),
            refresh_token: String::new(),
            routing_endpoint: String::new(),
            space: SpacePlace::default(),
            ssh_oauth_client: "ssh-proxy".to_owned(),
            skip_ssl_validation: false,
            target: String::new(),
            trace: String::new(),
            uaa_endpoint: String::new(),
            uaa_grant_type: String::new(),
            uaa_client: "cf".to_owned(),
            uaa_client_secret: String::new(),
            others: others.as_object().cloned().unwrap_or_default(),
        }
    }
}

impl Config {
    pub fn path(io: &Io) -> PathBuf {
        let home = ["CF_HOME", "HOME"]
            .iter()
            .find_map(|name| io.env.get(*name).filter(|value| !value.is_empty()));
        home.map_or_else(|| io.dir.clone(), PathBuf::from).join(".cf/config.json")
    }

    /// A missing or empty file is an untargeted configuration; a broken one is an error that names it.
    pub fn load(path: &Path) -> Result<Config> {
        match fs::read(path) {
            Ok(text) if text.iter().all(u8::is_ascii_whitespace) => Ok(Config::default()),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                Error::Failed(format!("Error read/writing config: {error} for {}", path.display()))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
            Err(error) => Err(Error::Failed(format!(
                "Error read/writing config: {error} for {}",
                path.display()
            ))),
        }
    }

    /// Replaces the file in one step, readable by its owner only.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let mut file = tempfile::Builder::new().prefix("temp-config").tempfile_in(dir)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.persist(path)?;
        Ok(())
    }

    /// Whether anything that is spoken to, or may be, wants TLS.
    pub fn speaks_tls(&self) -> bool {
        let endpoints = [
            &self.target,
            &self.authorization_endpoint,
            &self.uaa_endpoint,
            &self.log_cache_endpoint,
            &self.routing_endpoint,
        ];
        endpoints.iter().any(|url| !url.is_empty() && !url.starts_with("http:"))
    }

    pub fn is_logged_in(&self) -> bool {
        !self.access_token.is_empty() || !self.refresh_token.is_empty()
    }

    pub fn log_out(&mut self) {
        self.access_token.clear();
        self.refresh_token.clear();
        self.uaa_grant_type.clear();
        self.uaa_client = "cf".to_owned();
        self.uaa_client_secret.clear();
        self.untarget();
    }

    /// Forgets org and space.
    pub fn untarget(&mut self) {
        self.org = Place::default();
        self.space = SpacePlace::default();
    }

    pub fn user(&self) -> Option<User> {
        let claims = self.claims()?;
        let text =
            |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if claims.get("user_name").is_some() {
            let user = User {
                name: text("user_name"),
                guid: text("user_id"),
                origin: text("origin"),
                is_client: false,
            };
            return Some(user);
        }
        let client = text("client_id");
        Some(User { name: client.clone(), guid: client, origin: String::new(), is_client: true })
    }

    /// How long the access token lasts from `now`; nothing when there is none or it cannot be read.
    pub fn token_lasts(&self, now: Timestamp) -> Option<Duration> {
        let expires = self.claims()?.get("exp")?.as_i64()?;
        Some(Timestamp::from_secs(expires).since(now))
    }

    pub fn claims(&self) -> Option<Map<String, Value>> {
        claims(self.access_token.rsplit(' ').next()?)
    }
}

/// What a JWT says; its signature is for servers to check.
pub fn claims(token: &str) -> Option<Map<String, Value>> {
    let part = token.split('.').nth(1)?;
    let text = URL_SAFE_NO_PAD.decode(part).or_else(|_| URL_SAFE.decode(part)).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_others_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".cf/config.json");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, r#"{"Target":"https://api.example.com","SSLDisabled":true,"Locale":"de","SpaceFields":{"GUID":"s","Name":"dev","AllowSSH":true}}"#).unwrap();
        let mut config = Config::load(&path).unwrap();
        assert!(config.skip_ssl_validation);
        assert_eq!(config.space.name, "dev");
        config.api_version = "3.228.0".to_owned();
        config.save(&path).unwrap();
        let saved: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(saved["Locale"], "de");
        assert_eq!(saved["APIVersion"], "3.228.0");
        assert_eq!(saved["SpaceFields"]["AllowSSH"], true);
        assert_eq!(saved["UAAOAuthClient"], "cf");
    }

    #[test]
    fn a_token_names_its_user() {
        let payload = URL_SAFE_NO_PAD
            .encode(r#"{"user_name":"ada","user_id":"u-1","origin":"uaa","exp":100}"#);
        let config = Config { access_token: format!("bearer x.{payload}.y"), ..Config::default() };
        let user = User {
            name: "ada".to_owned(),
            guid: "u-1".to_owned(),
            origin: "uaa".to_owned(),
            is_client: false,
        };
        assert_eq!(config.user(), Some(user));
        assert_eq!(config.token_lasts(Timestamp::from_secs(40)), Some(Duration::from_secs(60)));
        assert_eq!(Config::default().user(), None);
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, "{").unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("config.json"));
    }
}
