//! Tokens and users: the few things the command line asks a UAA.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, LONGEST_ANSWER};
use crate::config::claims;
use crate::error::{Error, Result, UaaError};

/// A way to get tokens.
#[derive(Clone, Debug)]
pub enum Grant {
    /// `password`, with whatever the login prompts asked for.
    Password {
        answers: Vec<(String, String)>,
        origin: Option<String>,
    },
    ClientCredentials {
        id: String,
        secret: String,
    },
}

/// What a login page asks: key, kind (`text`, `password`) and label.
#[derive(Debug, Default, Deserialize)]
pub struct Prompts {
    #[serde(default)]
    pub prompts: BTreeMap<String, (String, String)>,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    access_token: String,
    #[serde(default)]
    refresh_token: String,
    #[serde(default = "bearer")]
    token_type: String,
}

fn bearer() -> String {
    "bearer".to_owned()
}

/// A user as SCIM knows it.
#[derive(Clone, Debug, Deserialize)]
pub struct ScimUser {
    pub id: String,
    #[serde(default)]
    pub origin: String,
}

impl Client {
    pub async fn prompts(&self) -> Result<Prompts> {
        let url = self.endpoint(Endpoint::Login, "/login")?;
        let request =
            self.http.get(url).timeout(LONGEST_ANSWER).header("accept", "application/json");
        let (answer, body) = self.exchange(request, "").await?;
        if !answer.status().is_success() {
            return Err(Error::Uaa(UaaError::new(answer.status().as_u16(), &body)));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Error::Failed(format!("Invalid JSON content from server: {error}")))
    }

    /// Gets tokens and keeps them in the configuration.
    pub async fn authenticate(&self, grant: &Grant) -> Result<()> {
        let (mut form, client, origin) = match grant {
            Grant::Password { answers, origin } => {
                (answers.clone(), Some(("cf".to_owned(), String::new())), origin.clone())
            }
            Grant::ClientCredentials { id, secret } => (
                vec![
                    ("client_id".to_owned(), id.clone()),
                    ("client_secret".to_owned(), secret.clone()),
                ],
                None,
                None,
            ),
        };
        let kind = if client.is_some() { "password" } else { "client_credentials" };
        form.push(("grant_type".to_owned(), kind.to_owned()));
        let tokens = self.token(&form, client, origin.as_deref()).await?;
        let mut config = self.config();
        config.access_token = format!("{} {}", tokens.token_type, tokens.access_token);
        config.refresh_token = tokens.refresh_token;
        match grant {
            Grant::Password { .. } => config.uaa_grant_type.clear(),
            Grant::ClientCredentials { id, secret } => {
                "client_credentials".clone_into(&mut config.uaa_grant_type);
                config.uaa_client.clone_from(id);
                config.uaa_client_secret.clone_from(secret);
            }
        }
        Ok(())
    }

    /// Renews the access token when it lasts less than `margin`. Not logged in, there is nothing to renew.
    pub(super) async fn renew_when_due(&self, margin: Duration) -> Result<()> {
        if self.lasts_beyond(margin) {
            return Ok(());
        }
        let _one_at_a_time = self.renewing.lock().await;
        if self.lasts_beyond(margin) { Ok(()) } else { self.renew().await }
    }

    fn lasts_beyond(&self, margin: Duration) -> bool {
        let config = self.config();
        let renewable = !config.refresh_token.is_empty() || !config.uaa_client_secret.is_empty();
        let lasts = config.token_lasts(self.clock.now());
        !renewable || lasts.is_some_and(|lasts| lasts > margin)
    }

    /// A new access token from the refresh token, or from the client's own credentials.
    pub async fn renew(&self) -> Result<()> {
        let (form, client) = {
            let config = self.config();
            let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            if config.uaa_grant_type == "client_credentials" {
                let form = vec![
                    field("grant_type", "client_credentials"),
                    field("client_id", &config.uaa_client),
                    field("client_secret", &config.uaa_client_secret),
                ];
                (form, None)
            } else {
                let form = vec![
                    field("grant_type", "refresh_token"),
                    field("refresh_token", &config.refresh_token),
                ];
                (form, Some((config.uaa_client.clone(), config.uaa_client_secret.clone())))
            }
        };
        let tokens = self.token(&form, client, None).await?;
        let mut config = self.config();
        config.access_token = format!("{} {}", tokens.token_type, tokens.access_token);
        if !tokens.refresh_token.is_empty() {
            config.refresh_token = tokens.refresh_token;
        }
        Ok(())
    }

    async fn token(
        &self,
        form: &[(String, String)],
        client: Option<(String, String)>,
        origin: Option<&str>,
    ) -> Result<Tokens> {
        let mut url = self.endpoint(Endpoint::Login, "/oauth/token")?;
        if let Some(origin) = origin {
            url.query_pairs_mut()
                .append_pair("login_hint", &json!({ "origin": origin }).to_string());
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request =
            self.http.post(url).timeout(LONGEST_ANSWER).header("accept", "application/json");
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        if let Some((id, secret)) = client {
            request = request.basic_auth(id, Some(secret));
        }
        let (answer, body) = self.exchange(request, "token request").await?;
        if !answer.status().is_success() {
            return Err(Error::Uaa(UaaError::new(answer.status().as_u16(), &body)));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Error::Failed(format!("Invalid JSON content from server: {error}")))
    }

    /// Tells the UAA that the tokens are done with; only revocable ones are known there.
    pub async fn revoke(&self) -> Result<()> {
        let (access, refresh) = {
            let config = self.config();
            (config.claims(), claims(&config.refresh_token))
        };
        let Some(access) =
            access.filter(|claims| claims.get("revocable") == Some(&Value::Bool(true)))
        else {
            return Ok(());
        };
        for jti in [refresh.as_ref().and_then(|claims| claims.get("jti")), access.get("jti")]
            .into_iter()
            .flatten()
        {
            let path = format!("/oauth/token/revoke/{}", jti.as_str().unwrap_or_default());
            self.uaa(Endpoint::Login, Method::DELETE, &path, None).await?;
        }
        Ok(())
    }

    /// Users of that name; of one origin, when it is given.
    pub async fn users(&self, name: &str, origin: Option<&str>) -> Result<Vec<ScimUser>> {
        #[derive(Deserialize)]
        struct Found {
            resources: Vec<ScimUser>,
        }
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut filter = format!("userName eq \"{}\"", quoted(name));
        if let Some(origin) = origin {
            filter = format!("{filter} and origin eq \"{}\"", quoted(origin));
        }
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("filter", &filter)
            .finish();
        let body = self.uaa(Endpoint::Uaa, Method::GET, &format!("/Users?{query}"), None).await?;
        let found: Found = serde_json::from_slice(&body)
            .map_err(|error| Error::Failed(format!("Invalid JSON content from server: {error}")))?;
        Ok(found.resources)
    }

    pub async fn create_user(&self, name: &str, password: &str, origin: &str) -> Result<ScimUser> {
        let body = json!({
            "userName": name, "password": password, "origin": origin,
            "name": { "familyName": name, "givenName": name },
            "emails": [{ "value": name, "primary": true }],
        });
        let body = self.uaa(Endpoint::Uaa, Method::POST, "/Users", Some(body)).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::Failed(format!("Invalid JSON content from server: {error}")))
    }

    pub async fn delete_user(&self, id: &str) -> Result<()> {
        self.uaa(Endpoint::Uaa, Method::DELETE, &format!("/Users/{id}"), None).await.map(drop)
    }

    pub async fn change_password(&self, id: &str, old: &str, new: &str) -> Result<()> {
        let body = json!({ "oldPassword": old, "password": new });
        self.uaa(Endpoint::Uaa, Method::PUT, &format!("/Users/{id}/password"), Some(body))
            .await
            .map(drop)
    }

    async fn uaa(
        &self,
        endpoint: Endpoint,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Vec<u8>> {
        self.renew_when_due(super::RENEW_BEFORE).await?;
        let token = self.config().access_token.clone();
        let mut request = self
            .http
            .request(method, self.endpoint(endpoint, path)?)
            .timeout(LONGEST_ANSWER)
            .headers(self.headers(&token));
        let shown = body.as_ref().map(Value::to_string).unwrap_or_default();
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let (answer, body) = self.exchange(request, &shown).await?;
        if answer.status().is_success() {
            return Ok(body);
        }
        Err(Error::Uaa(UaaError::new(answer.status().as_u16(), &body)))
    }

    fn endpoint(&self, endpoint: Endpoint, path: &str) -> Result<reqwest::Url> {
        let config = self.config();
        let (base, what) = match endpoint {
            Endpoint::Login => (&config.authorization_endpoint, "Authorization"),
            Endpoint::Uaa => (&config.uaa_endpoint, "UAA"),
        };
        if base.is_empty() {
            return Err(Error::Failed(format!("No {what} Endpoint Found")));
        }
        let text = format!("{}{path}", base.trim_end_matches('/'));
        reqwest::Url::parse(&text).map_err(|error| Error::Request(format!("{text}: {error}")))
    }
}

#[derive(Clone, Copy)]
enum Endpoint {
    Login,
    Uaa,
}
