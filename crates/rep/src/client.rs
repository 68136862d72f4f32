//! A cell from afar: [`diego::Cell`] over its HTTP API.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::http::Secret;
use bytes::Bytes;
use diego::bbs::ErrorKind;
use diego::cell::{Dial, LrpUpdate, Refused};
use diego::{BbsError, Cell, CellPresence, CellState, InstanceGuid, ProcessGuid, TaskGuid, Work};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::RequestBuilder;

use crate::crashed::{CrashedInstance, Listing};

/// A cell answers at once or is in trouble.
const TIMEOUT: Duration = Duration::from_secs(10);
/// To list a folder, all below it may have to be read.
const LISTING: Duration = Duration::from_secs(70);
/// The longest that files of a crashed instance are read.
const READING: Duration = Duration::from_secs(3600);

/// What comes of a file or an archive; an error ends it.
pub type Pieces = BoxStream<'static, Result<Bytes, BbsError>>;

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
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(unreachable)?;
        let text = || format!("the cell answered {status}: {}", String::from_utf8_lossy(&body));
        Err(serde_json::from_slice(&body)
            .unwrap_or_else(|_| BbsError::new(ErrorKind::Unknown, text())))
    }

    /// Crashed instances whose files this cell keeps, the latest first.
    pub async fn crashed(&self) -> Result<Vec<CrashedInstance>, BbsError> {
        let get = self.http.get(format!("{}/v2/crashed", self.url)).timeout(TIMEOUT);
        self.send(get).await?.json().await.map_err(unreachable)
    }

    /// What lies at `path` of a crashed instance.
    pub async fn crashed_list(
        &self,
        instance: &InstanceGuid,
        path: &str,
    ) -> Result<Listing, BbsError> {
        let get = self.files(instance, path, "list").timeout(LISTING);
        self.send(get).await?.json().await.map_err(unreachable)
    }

    /// The content of one file of a crashed instance, piece by piece.
    pub async fn crashed_file(
        &self,
        instance: &InstanceGuid,
        path: &str,
    ) -> Result<Pieces, BbsError> {
        self.pieces(instance, path, "file").await
    }

    /// A tar archive of `path` (a file, or a folder with all below it) of a crashed instance, piece by piece.
    pub async fn crashed_tar(
        &self,
        instance: &InstanceGuid,
        path: &str,
    ) -> Result<Pieces, BbsError> {
        self.pieces(instance, path, "tar").await
    }

    /// Removes what is kept of a crashed instance. Unknown ones are no error.
    pub async fn crashed_remove(&self, instance: &InstanceGuid) -> Result<(), BbsError> {
        let url = format!("{}/v2/crashed/{instance}", self.url);
        let delete = self.http.delete(url).timeout(TIMEOUT);
        self.send(delete).await.map(drop)
    }

    fn files(&self, instance: &InstanceGuid, path: &str, form: &str) -> RequestBuilder {
        let url = format!("{}/v2/crashed/{instance}/files", self.url);
        self.http.get(url).query(&[("path", path), ("as", form)])
    }

    async fn pieces(
        &self,
        instance: &InstanceGuid,
        path: &str,
        form: &str,
    ) -> Result<Pieces, BbsError> {
        let answer = self.send(self.files(instance, path, form).timeout(READING)).await?;
        Ok(answer.bytes_stream().map_err(unreachable).boxed())
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).timeout(TIMEOUT)
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
        self.send(self.http.get(format!("{}/state", self.url)).timeout(TIMEOUT))
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
        let put = self.http.put(format!("{}{path}", self.url)).timeout(TIMEOUT);
        self.send(put.json(update)).await.map(drop)
    }

    async fn cancel_task(&self, task_guid: &TaskGuid) -> Result<(), BbsError> {
        self.send(self.post(&format!("/v1/tasks/{task_guid}/cancel"))).await.map(drop)
    }
}
