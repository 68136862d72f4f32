//! A cell from afar: [`diego::Cell`] over its HTTP API.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::http::Secret;
use diego::bbs::ErrorKind;
use diego::cell::{Dial, LrpUpdate, Refused};
use diego::{BbsError, Cell, CellPresence, CellState, InstanceGuid, ProcessGuid, TaskGuid, Work};
use reqwest::RequestBuilder;

/// A cell answers at once or is in trouble.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Makes clients that share their connections.
#[derive(Clone, Debug)]
pub struct Dialer {
    http: reqwest::Client,
}

impl Dialer {
    pub fn new(secret: &Secret) -> Dialer {
        Dialer { http: base::http::client(Some(secret)) }
    }
}

impl Dial for Dialer {
    fn dial(&self, presence: &CellPresence) -> Arc<dyn Cell> {
        Arc::new(Client::new(self.http.clone(), &presence.rep_url))
    }
}

#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    /// `http` shows the platform's secret; `url` is the `rep_url` of a presence.
    pub fn new(http: reqwest::Client, url: &str) -> Client {
        Client { http, url: url.trim_end_matches('/').to_owned() }
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response, BbsError> {
        let response = request.timeout(TIMEOUT).send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(unreachable)?;
        let text = || format!("the cell answered {status}: {}", String::from_utf8_lossy(&body));
        Err(serde_json::from_slice(&body)
            .unwrap_or_else(|_| BbsError::new(ErrorKind::Unknown, text())))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }
}

fn unreachable(error: reqwest::Error) -> BbsError {
    let source =
        std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    BbsError::new(ErrorKind::Unreachable, format!("{error}{source}"))
}

#[async_trait]
impl Cell for Client {
    async fn state(&self) -> Result<CellState, BbsError> {
        self.send(self.http.get(format!("{}/state", self.url)))
            .await?
            .json()
            .await
            .map_err(unreachable)
    }

    async fn perform(&self, work: Work) -> Result<Refused, BbsError> {
        self.send(self.post("/work").json(&work)).await?.json().await.map_err(unreachable)
    }

    async fn stop_lrp(
        &self,
        process_guid: &ProcessGuid,
        instance_guid: &InstanceGuid,
    ) -> Result<(), BbsError> {
        let path = format!("/v1/lrps/{process_guid}/instances/{instance_guid}/stop");
        self.send(self.post(&path)).await.map(drop)
    }

    async fn update_lrp(
        &self,
        process_guid: &ProcessGuid,
        instance_guid: &InstanceGuid,
        update: &LrpUpdate,
    ) -> Result<(), BbsError> {
        let path = format!("/v2/lrps/{process_guid}/instances/{instance_guid}");
        self.send(self.http.put(format!("{}{path}", self.url)).json(update)).await.map(drop)
    }

    async fn cancel_task(&self, task_guid: &TaskGuid) -> Result<(), BbsError> {
        self.send(self.post(&format!("/v1/tasks/{task_guid}/cancel"))).await.map(drop)
    }
}
