//! Asking the platform that runs on a data directory, from the same machine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use diego::Bbs as _;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ABOUT, About, CLIENT, ENDPOINTS, Endpoint, LINES, Line};
use crate::cluster::{self, Member};
use crate::data_dir::{self, Running};
use crate::machine::FRONT;
use crate::roles::Role;

/// A component that takes longer is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);
/// Within this another brain has taken over from one that was lost.
const TAKEOVER: Duration = Duration::from_secs(4);

/// Why there is nobody to ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRunning {
    #[error(
        "nothing runs on {0}: there is no such data directory; start a platform with cupola up --data {0}"
    )]
    NoDirectory(String),
    #[error("nothing runs on {0}: start it with cupola up --data {0}")]
    Stopped(String),
    #[error("the platform on {0} (process {1}) is starting or stopping: ask again in a moment")]
    OnItsWay(String, u32),
    #[error(
        "nothing runs on {0}: process {1} ended without stopping in order. Containers may run on by themselves; \
         cupola up --data {0} takes them up again"
    )]
    Died(String, u32),
    #[error("the data directory {0} belongs to another user: run this as its owner or as root")]
    NotOurs(String),
}

/// Where everything that can be asked is.
pub struct Asking {
    pub running: Running,
    /// Whichever brain leads.
    pub bbs: bbs::Client,
    pub members: Vec<Member>,
    pub secret: base::http::Secret,
    inside: reqwest::Client,
    outside: reqwest::Client,
    operator_secret: String,
    token: tokio::sync::OnceCell<String>,
}

/// # Errors
/// When nothing that could be asked runs there.
pub async fn connect(data: &Path) -> Result<Asking, NotRunning> {
    let name = data.display().to_string();
    if !data.exists() {
        return Err(NotRunning::NoDirectory(name));
    }
    let Some(mut running) = data_dir::running(data) else {
        let hidden = std::fs::File::open(data.join(data_dir::RUNNING))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        return Err(match data_dir::holder(data) {
            _ if hidden => NotRunning::NotOurs(name),
            Some(pid) => NotRunning::OnItsWay(name, pid),
            None => NotRunning::Stopped(name),
        });
    };
    if !data_dir::is_cupola(running.pid) {
        return Err(NotRunning::Died(name, running.pid));
    }
    let Ok((secret, operator_secret)) = data_dir::secrets(data) else {
        return Err(NotRunning::NotOurs(name));
    };
    // Cells on other machines show certificates of the platform's own authority.
    if let Ok(authority) = std::fs::read_to_string(data.join(data_dir::AUTHORITY))
        && base::tls::trust(&authority).is_err()
    {
        return Err(NotRunning::NotOurs(name));
    }
    let inside = base::http::client(Some(&secret));
    let members = cluster::ask(&inside, std::slice::from_ref(&running.internal)).await;
    let members = members.unwrap_or_default();
    let others = members.iter().filter(|member| member.roles.has(Role::Brain));
    let mut brains: Vec<String> = others.map(|member| member.url.clone()).collect();
    // Alone it answers at its own address, or at none.
    let bbs = if brains.len() > 1 || running.database.is_some() {
        brains.sort_by_key(|url| *url != running.internal);
        bbs::Client::among(brains, &secret)
    } else {
        bbs::Client::new(&running.internal, &secret)
    };
    // Without a door here the API is asked from inside.
    if running.http.is_empty() {
        running.http = format!("{}{FRONT}", running.internal);
    }
    Ok(Asking {
        bbs,
        members,
        inside,
        outside: base::http::client(None),
        secret,
        operator_secret,
        token: tokio::sync::OnceCell::new(),
        running,
    })
}

impl Asking {
    pub async fn about(&self) -> anyhow::Result<About> {
        self.internal(ABOUT, &[]).await
    }

    /// What the router's table holds for `host` or `host/path`.
    pub async fn endpoints(&self, route: &str) -> anyhow::Result<Vec<Endpoint>> {
        self.internal(ENDPOINTS, &[("route", route)]).await
    }

    /// The newest lines of a source, oldest first.
    pub async fn lines(&self, source: &str, limit: usize) -> anyhow::Result<Vec<Line>> {
        self.internal(LINES, &[("source", source), ("limit", &limit.to_string())]).await
    }

    async fn internal<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.running.internal);
        let get = self.inside.get(&url).query(query).timeout(PATIENCE).send();
        let answer = get.await.with_context(|| format!("asking {url}"))?;
        let answer = answer.error_for_status()?;
        answer.json().await.with_context(|| format!("the answer of {url}"))
    }

    /// A resource of the public API, read with every right to read. `None` when there is no such thing.
    pub async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let url = format!("{}{path}", self.running.http);
        let token = self.token.get_or_try_init(|| self.log_in()).await?;
        let get = self.outside.get(&url).bearer_auth(token).timeout(PATIENCE).send();
        let answer = get.await.with_context(|| format!("asking {url}"))?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                answer.json().await.map(Some).with_context(|| format!("the answer of {url}"))
            }
            status => bail!("{url} answered {status}: {}", answer.text().await.unwrap_or_default()),
        }
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.find(path).await?.with_context(|| format!("{path} is not there"))
    }

    /// The `resources` of a list; the first page, of at most as many as the API gives at once.
    pub async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut page = self.get(path).await?;
        match page["resources"].take() {
            Value::Array(resources) => Ok(resources),
            _ => bail!("{path} is no list"),
        }
    }

    async fn log_in(&self) -> anyhow::Result<String> {
        let url = format!("{}/oauth/token", self.running.http);
        let post = self
            .outside
            .post(&url)
            .basic_auth(CLIENT, Some(&self.operator_secret))
            .form(&[("grant_type", "client_credentials")])
            .timeout(PATIENCE);
        let answer = post.send().await.with_context(|| format!("asking {url}"))?;
        let answer = answer.error_for_status().context("logging in as the operator")?;
        let body: Value = answer.json().await.context("the UAA's answer")?;
        body["access_token"].as_str().map(str::to_owned).context("the UAA gave no token")
    }

    /// Whether `path` of the public API answers, without any token.
    pub async fn answers(&self, path: &str) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.running.http);
        let get = self.outside.get(&url).header("accept", "application/json").timeout(PATIENCE);
        get.send().await.with_context(|| format!("asking {url}"))?.error_for_status()?;
        Ok(())
    }

    pub async fn brain_answers(&self) -> anyhow::Result<()> {
        let leading = tokio::time::timeout(TAKEOVER, self.bbs.leading()).await;
        leading.ok().flatten().context("no brain leads")?;
        tokio::time::timeout(PATIENCE, self.bbs.domains()).await.context("no answer in time")??;
        Ok(())
    }
}
