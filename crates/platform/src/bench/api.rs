//! The public API as a benchmark asks it: without the time that a command line takes to start.

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::Value;

/// Logged in as the first user.
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Api {
    pub async fn log_in(base: &str, user: &str, password: &str) -> anyhow::Result<Api> {
        let http = base::http::client(None);
        let answer = http
            .post(format!("{base}/oauth/token"))
            .basic_auth("cf", Some(""))
            .form(&[("grant_type", "password"), ("username", user), ("password", password)])
            .send()
            .await?
            .error_for_status()?;
        let answer: Value = answer.json().await?;
        let token = answer["access_token"].as_str().context("the UAA's answer has no token")?;
        Ok(Api { http, base: base.to_owned(), token: token.to_owned() })
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let what = format!("{method} {path}");
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.bearer_auth(&self.token).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{what}: {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}
