//! The brain from afar: [`Bbs`] over the internal API. Connections are kept; a lost event stream is its reader's to
//! open again.

use std::time::Duration;

use async_trait::async_trait;
use base::http::Secret;
use bytes::{Buf as _, BytesMut};
use diego::bbs::{ActualLrpFilter, ErrorKind, Evacuation, Keep, Result, TaskFilter};
use diego::desired_lrp::DesiredLrpUpdate;
use diego::{
    ActualLrp, Bbs, BbsError, CellId, CellPresence, DesiredLrp, Domain, Event, InstanceKey, LrpKey,
    NetInfo, ProcessGuid, SchedulingInfo, Task, TaskDefinition, TaskGuid,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{self, *};

/// An answer takes longer only when the brain is in trouble.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A line of an event stream longer than this is no event.
const MAX_LINE: usize = 16 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Client {
    base_url: String,
    http: reqwest::Client,
}

impl Client {
    /// `base_url` is `http://HOST:PORT`.
    pub fn new(base_url: impl Into<String>, secret: &Secret) -> Client {
        let base_url = base_url.into().trim_end_matches('/').to_owned();
        Client { base_url, http: base::http::client(Some(secret)) }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        body: impl Serialize + Send,
    ) -> Result<T> {
        let post = self.http.post(format!("{}{path}", self.base_url)).json(&body).timeout(TIMEOUT);
        let answer = post.send().await.map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| unknown(format!("the answer to {path}: {error}")));
        }
        Err(error_of(status, &bytes))
    }
}

fn unreachable(error: reqwest::Error) -> BbsError {
    let source =
        std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    BbsError::new(ErrorKind::Unreachable, format!("{error}{source}"))
}

fn unknown(message: String) -> BbsError {
    BbsError::new(ErrorKind::Unknown, message)
}

fn error_of(status: http::StatusCode, body: &[u8]) -> BbsError {
    let text = || unknown(format!("{status}: {}", String::from_utf8_lossy(body)));
    serde_json::from_slice(body).unwrap_or_else(|_| text())
}

#[async_trait]
impl Bbs for Client {
    async fn upsert_domain(&self, domain: &Domain, ttl: Option<Duration>) -> Result<()> {
        self.call(UPSERT_DOMAIN, UpsertDomain { domain, ttl_ms: ttl.map(wire::millis) }).await
    }

    async fn domains(&self) -> Result<Vec<Domain>> {
        self.call(DOMAINS, Nothing {}).await
    }

    async fn desire_lrp(&self, lrp: DesiredLrp) -> Result<()> {
        self.call(DESIRE_LRP, lrp).await
    }

    async fn update_lrp(&self, guid: &ProcessGuid, update: DesiredLrpUpdate) -> Result<()> {
        self.call(UPDATE_LRP, UpdateLrp { guid, update }).await
    }

    async fn remove_lrp(&self, guid: &ProcessGuid) -> Result<()> {
        self.call(REMOVE_LRP, Guid { guid }).await
    }

    async fn desired_lrp(&self, guid: &ProcessGuid) -> Result<DesiredLrp> {
        self.call(DESIRED_LRP, Guid { guid }).await
    }

    async fn desired_lrps(&self, domain: Option<&Domain>) -> Result<Vec<DesiredLrp>> {
        self.call(DESIRED_LRPS, InDomain { domain }).await
    }

    async fn scheduling_infos(&self, domain: Option<&Domain>) -> Result<Vec<SchedulingInfo>> {
        self.call(SCHEDULING_INFOS, InDomain { domain }).await
    }

    async fn actual_lrps(&self, filter: &ActualLrpFilter) -> Result<Vec<ActualLrp>> {
        self.call(ACTUAL_LRPS, filter).await
    }

    async fn retire(&self, key: &LrpKey) -> Result<()> {
        self.call(RETIRE, OfKey { key }).await
    }

    async fn claim(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()> {
        self.call(CLAIM, OfInstance { key, instance }).await
    }

    async fn start(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        net: &NetInfo,
        routable: bool,
    ) -> Result<()> {
        self.call(START, Start { key, instance, net, routable }).await
    }

    async fn crash(&self, key: &LrpKey, instance: &InstanceKey, reason: &str) -> Result<()> {
        self.call(CRASH, Crash { key, instance, reason }).await
    }

    async fn remove(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()> {
        self.call(REMOVE, OfInstance { key, instance }).await
    }

    async fn evacuate(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        evacuation: Evacuation,
    ) -> Result<Keep> {
        self.call(EVACUATE, Evacuate { key, instance, evacuation }).await
    }

    async fn desire_task(
        &self,
        guid: &TaskGuid,
        domain: &Domain,
        definition: TaskDefinition,
    ) -> Result<()> {
        self.call(DESIRE_TASK, DesireTask { guid, domain, definition }).await
    }

    async fn task(&self, guid: &TaskGuid) -> Result<Task> {
        self.call(TASK, Guid { guid }).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>> {
        self.call(TASKS, filter).await
    }

    async fn start_task(&self, guid: &TaskGuid, cell: &CellId) -> Result<bool> {
        self.call(START_TASK, OnCell { guid, cell_id: cell }).await
    }

    async fn complete_task(
        &self,
        guid: &TaskGuid,
        cell: &CellId,
        failure: Option<&str>,
        result: &str,
    ) -> Result<()> {
        self.call(COMPLETE_TASK, CompleteTask { guid, cell_id: cell, failure, result }).await
    }

    async fn reject_task(&self, guid: &TaskGuid, cell: &CellId, reason: &str) -> Result<()> {
        self.call(REJECT_TASK, RejectTask { guid, cell_id: cell, reason }).await
    }

    async fn cancel_task(&self, guid: &TaskGuid) -> Result<()> {
        self.call(CANCEL_TASK, Guid { guid }).await
    }

    async fn resolve_task(&self, guid: &TaskGuid) -> Result<()> {
        self.call(RESOLVE_TASK, Guid { guid }).await
    }

    async fn delete_task(&self, guid: &TaskGuid) -> Result<()> {
        self.call(DELETE_TASK, Guid { guid }).await
    }

    async fn announce(&self, presence: &CellPresence, ttl: Duration) -> Result<()> {
        self.call(ANNOUNCE, Announce { presence, ttl_ms: wire::millis(ttl) }).await
    }

    async fn retract(&self, cell: &CellId) -> Result<()> {
        self.call(RETRACT, Guid { guid: cell }).await
    }

    async fn cells(&self) -> Result<Vec<CellPresence>> {
        self.call(CELLS, Nothing {}).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        let get = self.http.get(format!("{}{EVENTS}", self.base_url)).send();
        let answer = tokio::time::timeout(TIMEOUT, get).await;
        let answer =
            answer.map_err(|_| unknown("no answer in time".to_owned()))?.map_err(unreachable)?;
        if !answer.status().is_success() {
            let status = answer.status();
            return Err(error_of(status, &answer.bytes().await.map_err(unreachable)?));
        }
        let body = answer.bytes_stream().boxed();
        Ok(futures::stream::unfold((body, BytesMut::new()), next_event).boxed())
    }
}

type Body = BoxStream<'static, reqwest::Result<bytes::Bytes>>;

/// Ends at silence, at a broken connection and at anything that is no event: the reader begins anew.
async fn next_event((mut body, mut buffer): (Body, BytesMut)) -> Option<(Event, (Body, BytesMut))> {
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end);
            buffer.advance(1);
            if !line.is_empty() {
                let event = serde_json::from_slice(&line).ok()?;
                return Some((event, (body, buffer)));
            }
        }
        if buffer.len() > MAX_LINE {
            return None;
        }
        let chunk = tokio::time::timeout(HEARTBEAT * 3, body.next()).await.ok()??;
        buffer.extend_from_slice(&chunk.ok()?);
    }
}
