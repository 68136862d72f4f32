//! The brain from afar: [`Bbs`] over the internal API. Connections are kept; a lost event stream is its reader's to
//! open again. Of several brains the one that leads is found, and found again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::http::Secret;
use bytes::{Buf as _, BytesMut};
use diego::bbs::{ActualLrpFilter, ErrorKind, Evacuation, Keep, Result, TaskFilter};
use diego::desired_lrp::DesiredLrpUpdate;
use diego::task::Attempt;
use diego::{
    ActualLrp, Bbs, BbsError, CellId, CellPresence, DesiredLrp, Domain, Event, InstanceKey, LrpKey,
    NetInfo, ProcessGuid, SchedulingInfo, Task, TaskDefinition, TaskGuid,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::wire::{self, *};

/// An answer takes longer only when the brain is in trouble.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A line of an event stream longer than this is no event.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// How long the brain that leads is looked for.
const LOOK_FOR: Duration = Duration::from_secs(20);
/// How long an answer may take before the others are asked whether one of them leads by now, and how often again.
const DOUBT: Duration = Duration::from_millis(300);
/// Between two rounds of all brains.
const PAUSE: Duration = Duration::from_millis(50);
const NONE_KNOWN: &str = "no brain is known yet";

/// Cheap to clone; all clones know the same brains.
#[derive(Clone, Debug)]
pub struct Client {
    brains: Arc<Brains>,
    http: reqwest::Client,
}

#[derive(Debug)]
struct Brains {
    urls: RwLock<Vec<String>>,
    /// The address of the brain that led last; empty while none is known.
    leader: watch::Sender<String>,
    /// Whether a brain that leads is waited for.
    patient: bool,
}

/// How a brain sees itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts the brains that led so far.
    Leads {
        fence: i64,
    },
    StandsBy,
    /// It does not answer, for this reason.
    Silent(String),
}

/// Whether the same request may be sent again when nobody knows what became of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Yes,
    No,
}

/// How one try at one brain went.
enum Tried {
    Answered(reqwest::StatusCode, bytes::Bytes),
    /// Surely nothing happened.
    NotDone(BbsError),
    /// Perhaps it acted.
    Unknown(BbsError),
}

impl Client {
    /// The only brain there is; `base_url` is `http://HOST:PORT`. A call that gets no answer fails at once.
    pub fn new(base_url: impl Into<String>, secret: &Secret) -> Client {
        Client::make([base_url.into()], false, secret)
    }

    /// Brains that share a store; more may be told later ([`Client::know`]). A call waits for one that leads, at most
    /// 20 s; what may be asked twice is asked again when a brain is lost over it, all else then fails with
    /// [`ErrorKind::Unreachable`].
    pub fn among<U: Into<String>>(urls: impl IntoIterator<Item = U>, secret: &Secret) -> Client {
        Client::make(urls.into_iter().map(U::into), true, secret)
    }

    fn make(urls: impl IntoIterator<Item = String>, patient: bool, secret: &Secret) -> Client {
        let leader = watch::Sender::new(String::new());
        let brains = Arc::new(Brains { urls: RwLock::default(), leader, patient });
        let client = Client { brains, http: base::http::client(Some(secret)) };
        client.know(urls);
        client
    }

    /// From now on these are the brains, in the order in which they are tried.
    pub fn know<U: Into<String>>(&self, urls: impl IntoIterator<Item = U>) {
        let trim = |url: U| url.into().trim_end_matches('/').to_owned();
        let urls: Vec<String> = urls.into_iter().map(trim).collect();
        *self.brains.urls.write() = urls.clone();
        // An address that is no brain's may answer, but never that another one is to be asked.
        self.brains.leader.send_if_modified(|leader| match urls.first() {
            Some(first) if !urls.contains(leader) => {
                leader.clone_from(first);
                true
            }
            _ => false,
        });
    }

    /// How each known brain sees itself.
    pub async fn standings(&self) -> Vec<(String, Standing)> {
        let urls = self.brains.urls.read().clone();
        let asked = urls.into_iter().map(|url| async move {
            let standing = self.standing(&url).await;
            (url, standing)
        });
        futures::future::join_all(asked).await
    }

    /// The address of the brain that leads, looked for as long as a call waits; `None` when there is none.
    pub async fn leading(&self) -> Option<String> {
        let end = Instant::now() + LOOK_FOR;
        loop {
            let last = self.leader();
            let sure = !last.is_empty()
                && tokio::time::timeout(DOUBT, self.standing(&last))
                    .await
                    .is_ok_and(|standing| matches!(standing, Standing::Leads { .. }));
            if sure {
                return Some(last);
            }
            let mut standings = self.standings().await.into_iter();
            let leads =
                |(_, standing): &(String, Standing)| matches!(standing, Standing::Leads { .. });
            if let Some((url, _)) = standings.find(leads) {
                self.brains.leader.send_replace(url.clone());
                return Some(url);
            }
            if !self.brains.patient || Instant::now() > end {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn standing(&self, url: &str) -> Standing {
        let get = self.http.get(format!("{url}{LEADING}")).timeout(HEARTBEAT * 3).send();
        let answer = async {
            let answer = get.await?;
            Ok((answer.status(), answer.bytes().await?))
        };
        match answer.await.map_err(unreachable) {
            Err(error) => Standing::Silent(error.message),
            Ok((status, bytes)) if is_elsewhere(status, &bytes) => Standing::StandsBy,
            Ok((status, bytes)) => match serde_json::from_slice::<Leading>(&bytes) {
                Ok(leading) => Standing::Leads { fence: leading.fence },
                Err(_) => Standing::Silent(error_of(status, &bytes).message),
            },
        }
    }

    /// Something that may be asked twice.
    async fn ask<T: DeserializeOwned>(&self, path: &str, body: impl Serialize + Send) -> Result<T> {
        self.send(path, body, Repeat::Yes).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        body: impl Serialize + Send,
    ) -> Result<T> {
        self.send(path, body, Repeat::No).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        body: impl Serialize + Send,
        repeat: Repeat,
    ) -> Result<T> {
        let body = serde_json::to_vec(&body).map_err(|error| unknown(error.to_string()))?;
        let body = bytes::Bytes::from(body);
        let end = Instant::now() + LOOK_FOR;
        for attempt in 1.. {
            let at = self.leader();
            let error = match self.try_at(&at, path, body.clone()).await {
                Tried::Answered(status, bytes) if status.is_success() => {
                    return serde_json::from_slice(&bytes)
                        .map_err(|error| unknown(format!("the answer to {path}: {error}")));
                }
                Tried::Answered(status, bytes) => return Err(error_of(status, &bytes)),
                Tried::Unknown(error) if repeat == Repeat::No => {
                    self.give_up(&at);
                    return Err(error);
                }
                Tried::NotDone(error) | Tried::Unknown(error) => error,
            };
            if !self.brains.patient || Instant::now() > end {
                return Err(error);
            }
            self.look_further(&at, attempt).await;
        }
        unreachable!("the loop ends by itself")
    }

    /// After this many attempts, of which the last went to `at`; pauses when all brains were asked.
    async fn look_further(&self, at: &str, attempt: usize) {
        self.give_up(at);
        if attempt.is_multiple_of(self.brains.urls.read().len().max(1)) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn leader(&self) -> String {
        self.brains.leader.borrow().clone()
    }

    /// The next brain is tried next, unless somebody found a better one.
    fn give_up(&self, at: &str) {
        let next = {
            let urls = self.brains.urls.read();
            let after = urls.iter().position(|url| url == at).map_or(0, |place| place + 1);
            let Some(next) = urls.get(after).or(urls.first()) else { return };
            next.clone()
        };
        self.brains.leader.send_if_modified(|leader| {
            // Else somebody knows more.
            let moves = leader == at && *leader != next;
            if moves {
                *leader = next;
            }
            moves
        });
    }

    async fn try_at(&self, at: &str, path: &str, body: bytes::Bytes) -> Tried {
        if at.is_empty() {
            return Tried::NotDone(BbsError::new(ErrorKind::Unreachable, NONE_KNOWN));
        }
        let post = self
            .http
            .post(format!("{at}{path}"))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body)
            .timeout(TIMEOUT);
        let answer = async {
            let answer = post.send().await?;
            Ok((answer.status(), answer.bytes().await?))
        };
        let answer: reqwest::Result<_> = tokio::select! {
            answer = answer => answer,
            () = self.another_leads(at) => {
                return Tried::Unknown(BbsError::new(ErrorKind::Unreachable, "another brain took over meanwhile"));
            }
        };
        match answer {
            Ok((status, bytes)) if is_elsewhere(status, &bytes) => {
                Tried::NotDone(error_of(status, &bytes))
            }
            Ok((status, bytes)) => Tried::Answered(status, bytes),
            Err(error) if error.is_connect() => Tried::NotDone(unreachable(error)),
            Err(error) => Tried::Unknown(unreachable(error)),
        }
    }

    /// Completes when a brain other than this one leads; never while there is none.
    async fn another_leads(&self, at: &str) {
        if !self.brains.patient {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(DOUBT).await;
            let others = self.brains.urls.read().clone();
            let others = others.into_iter().filter(|url| url != at);
            let asked = others.map(|url| async {
                let get = self.http.get(format!("{url}{LEADING}")).timeout(DOUBT).send();
                get.await.is_ok_and(|answer| answer.status().is_success()).then_some(url)
            });
            let found = futures::future::join_all(asked).await.into_iter().flatten().next();
            if let Some(other) = found {
                self.brains.leader.send_replace(other);
                return;
            }
        }
    }

    /// Ends when another brain than the one at `at` leads.
    fn read(&self, answer: reqwest::Response, at: String) -> BoxStream<'static, Event> {
        let body = answer.bytes_stream().boxed();
        let events = futures::stream::unfold((body, BytesMut::new()), next_event);
        let mut leader = self.brains.leader.subscribe();
        let another_leads = async move {
            if leader.wait_for(|leader| *leader != at).await.is_err() {
                // Nobody asks this client anything any more; the stream tells by itself when it ends.
                std::future::pending::<()>().await;
            }
        };
        events.take_until(Box::pin(another_leads)).boxed()
    }

    async fn events_at(&self, at: &str) -> Result<reqwest::Response> {
        if at.is_empty() {
            return Err(BbsError::new(ErrorKind::Unreachable, NONE_KNOWN));
        }
        let get = self.http.get(format!("{at}{EVENTS}")).send();
        let answer = tokio::time::timeout(HEARTBEAT * 3, get).await;
        let answer =
            answer.map_err(|_| unknown("no answer in time".to_owned()))?.map_err(unreachable)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        Err(error_of(status, &answer.bytes().await.map_err(unreachable)?))
    }
}

/// Whether a brain says that it does not lead.
fn is_elsewhere(status: http::StatusCode, body: &[u8]) -> bool {
    status == http::StatusCode::SERVICE_UNAVAILABLE
        && error_of(status, body) == BbsError::new(ErrorKind::Unreachable, NOT_LEADING)
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
        self.ask(UPSERT_DOMAIN, UpsertDomain { domain, ttl_ms: ttl.map(wire::millis) }).await
    }

    async fn domains(&self) -> Result<Vec<Domain>> {
        self.ask(DOMAINS, Nothing {}).await
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
        self.ask(DESIRED_LRP, Guid { guid }).await
    }

    async fn desired_lrps(&self, domain: Option<&Domain>) -> Result<Vec<DesiredLrp>> {
        self.ask(DESIRED_LRPS, InDomain { domain }).await
    }

    async fn scheduling_infos(&self, domain: Option<&Domain>) -> Result<Vec<SchedulingInfo>> {
        self.ask(SCHEDULING_INFOS, InDomain { domain }).await
    }

    async fn actual_lrps(&self, filter: &ActualLrpFilter) -> Result<Vec<ActualLrp>> {
        self.ask(ACTUAL_LRPS, filter).await
    }

    async fn retire(&self, key: &LrpKey) -> Result<()> {
        self.call(RETIRE, OfKey { key }).await
    }

    async fn claim(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()> {
        self.ask(CLAIM, OfInstance { key, instance }).await
    }

    async fn start(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        net: &NetInfo,
        routable: bool,
    ) -> Result<()> {
        self.ask(START, Start { key, instance, net, routable }).await
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
        self.ask(EVACUATE, Evacuate { key, instance, evacuation }).await
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
        self.ask(TASK, Guid { guid }).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>> {
        self.ask(TASKS, filter).await
    }

    async fn start_task(&self, guid: &TaskGuid, by: &Attempt) -> Result<bool> {
        self.call(START_TASK, StartTask { guid, by }).await
    }

    async fn complete_task(
        &self,
        guid: &TaskGuid,
        by: &Attempt,
        failure: Option<&str>,
        result: &str,
    ) -> Result<()> {
        self.call(COMPLETE_TASK, CompleteTask { guid, by, failure, result }).await
    }

    async fn reject_task(&self, guid: &TaskGuid, by: &Attempt, reason: &str) -> Result<()> {
        self.call(REJECT_TASK, RejectTask { guid, by, reason }).await
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
        self.ask(ANNOUNCE, Announce { presence, ttl_ms: wire::millis(ttl) }).await
    }

    async fn retract(&self, cell: &CellId) -> Result<()> {
        self.ask(RETRACT, Guid { guid: cell }).await
    }

    async fn cells(&self) -> Result<Vec<CellPresence>> {
        self.ask(CELLS, Nothing {}).await
    }

    async fn hold_layers(&self, cell: &CellId, layers: &[String]) -> Result<()> {
        self.ask(LAYERS, Layers { cell_id: cell, layers }).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        let end = Instant::now() + LOOK_FOR;
        for attempt in 1.. {
            let at = self.leader();
            match self.events_at(&at).await {
                Ok(answer) => return Ok(self.read(answer, at)),
                Err(error) if !self.brains.patient || Instant::now() > end => return Err(error),
                Err(_) => self.look_further(&at, attempt).await,
            }
        }
        unreachable!("the loop ends by itself")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_no_brain_any_more_is_not_asked_again() {
        let client = Client::among(["http://first/"], &Secret::new("s"));
        assert_eq!(client.leader(), "http://first");
        client.know(["http://a", "http://b"]);
        assert_eq!(client.leader(), "http://a");
        client.give_up("http://a");
        client.know(["http://a", "http://b", "http://c"]);
        assert_eq!(client.leader(), "http://b", "who leads is known, and stays");
        client.know(Vec::<String>::new());
        assert_eq!(client.leader(), "http://b", "nobody better is known");
    }
}
