//! The brain's side of the route table's way: tells every router each step and waits until all of them use it.
//!
//! A router that does not answer within [`GONE`] counts as gone: nobody waits for it any more, until it has been told the
//! whole table again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base::http::Secret;
use base::{Backoff, CancellationToken, TaskTracker};
use bytes::Bytes;
use diego::InstanceGuid;
use diego::routing::{Endpoint, Routers, TableUpdate};
use futures::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

use super::gate::{self, Gate, Told, Took};
use super::members::{Member, Members};
use crate::roles::Role;

/// How long a change waits for a router that does not answer, once: then the router counts as gone.
pub const GONE: Duration = Duration::from_secs(2);
/// One request; a whole table may be large.
const TIMEOUT: Duration = Duration::from_secs(20);

/// All routers of the platform, for as long as one brain leads.
pub struct Feed {
    own: Option<Gate>,
    members: Members,
    http: reqwest::Client,
    book: Arc<Book>,
    lines: Mutex<HashMap<String, Line>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What routers are told.
#[derive(Default)]
struct Book {
    fence: AtomicI64,
    page: Mutex<Page>,
    /// The number of the page, for those who wait for the next one.
    number: watch::Sender<u64>,
}

#[derive(Default)]
struct Page {
    number: u64,
    table: BTreeMap<(String, InstanceGuid), Endpoint>,
    /// The last step, as it is sent.
    step: Bytes,
}

/// One router elsewhere.
struct Line {
    heard: watch::Sender<Heard>,
    stop: CancellationToken,
}

/// What is known of a router elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// It uses the table up to this step.
    number: u64,
    gone: bool,
}

impl Feed {
    pub fn start(
        own: Option<Gate>,
        members: Members,
        secret: &Secret,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Feed> {
        let feed = Arc::new(Feed {
            own,
            members,
            http: base::http::client(Some(secret)),
            book: Arc::default(),
            lines: Mutex::default(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        });
        let watching = feed.clone();
        tasks.spawn(async move {
            let mut members = watching.members.watch();
            loop {
                watching.connect();
                let changed = stop.run_until_cancelled(members.changed()).await;
                if !matches!(changed, Some(Ok(()))) {
                    return;
                }
            }
        });
        feed
    }

    /// A line to each router elsewhere. One that is not heard of among the machines any more keeps its line for as long
    /// as it answers.
    fn connect(&self) {
        let own = &self.members.own().name;
        let routers: Vec<Member> =
            self.members.with(Role::Router).into_iter().filter(|one| one.name != *own).collect();
        let mut lines = self.lines.lock();
        lines.retain(|url, line| {
            let is_known = routers.iter().any(|router| router.url == *url);
            let stays = is_known || !line.heard.borrow().gone;
            if !stays {
                line.stop.cancel();
            }
            stays
        });
        for router in routers {
            lines.entry(router.url.clone()).or_insert_with(|| self.line(router));
        }
    }

    fn line(&self, router: Member) -> Line {
        let (heard, stop) = (watch::Sender::new(Heard::default()), self.stop.child_token());
        let teller = Teller {
            url: format!("{}{}", router.url, gate::PATH),
            name: router.name,
            http: self.http.clone(),
            book: self.book.clone(),
            heard: heard.clone(),
        };
        let until = stop.clone();
        self.tasks.spawn(async move { until.run_until_cancelled(teller.run()).await });
        Line { heard, stop }
    }

    /// Until the router uses step `number`, or counts as gone.
    async fn wait(heard: watch::Sender<Heard>, number: u64) {
        let mut told = heard.subscribe();
        let done = told.wait_for(|heard| heard.gone || heard.number >= number);
        if tokio::time::timeout(GONE, done).await.is_err() {
            heard.send_modify(|heard| heard.gone = true);
        }
    }
}

#[async_trait]
impl Routers for Feed {
    fn led_by(&self, fence: i64) {
        self.book.fence.store(fence, Ordering::SeqCst);
    }

    async fn apply(&self, update: TableUpdate) {
        let number = self.book.turn(&update);
        self.connect();
        let lines: Vec<_> = self.lines.lock().values().map(|line| line.heard.clone()).collect();
        let own = async {
            if let Some(gate) = &self.own {
                let fence = self.book.fence.load(Ordering::SeqCst);
                gate.take(Told { fence, number, update }).await;
            }
        };
        let elsewhere = join_all(lines.into_iter().map(|heard| Feed::wait(heard, number)));
        tokio::join!(own, elsewhere);
    }
}

impl Book {
    fn turn(&self, update: &TableUpdate) -> u64 {
        let mut page = self.page.lock();
        page.number += 1;
        match update {
            TableUpdate::Snapshot(all) => {
                page.table = all.iter().map(entry).collect();
            }
            TableUpdate::Delta { add, remove } => {
                page.table.extend(add.iter().map(entry));
                for key in remove {
                    page.table.remove(key);
                }
            }
        }
        page.step = self.body(page.number, update);
        let number = page.number;
        drop(page);
        self.number.send_replace(number);
        number
    }

    fn body(&self, number: u64, update: impl Serialize) -> Bytes {
        let told = Told { fence: self.fence.load(Ordering::SeqCst), number, update };
        serde_json::to_vec(&told).expect("endpoints have text keys and no failing parts").into()
    }

    /// What a router needs that uses step `after`: the next step when it is the only one missing, else all.
    fn after(&self, after: Option<u64>) -> (u64, Bytes) {
        let page = self.page.lock();
        if after.is_some_and(|after| after + 1 == page.number) {
            return (page.number, page.step.clone());
        }
        let all = page.table.iter();
        let all = all.map(|((route, _), endpoint)| (route.clone(), endpoint.clone())).collect();
        (page.number, self.body(page.number, TableUpdate::Snapshot(all)))
    }
}

fn entry((route, endpoint): &(String, Endpoint)) -> ((String, InstanceGuid), Endpoint) {
    ((route.clone(), endpoint.instance_guid.clone()), endpoint.clone())
}

/// Keeps one router elsewhere in step.
struct Teller {
    url: String,
    name: String,
    http: reqwest::Client,
    book: Arc<Book>,
    heard: watch::Sender<Heard>,
}

impl Teller {
    async fn run(self) {
        let mut number = self.book.number.subscribe();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        // What the router uses, where that is known.
        let mut used = None;
        loop {
            if number
                .wait_for(|number| used.is_none_or(|used| *number > used) && *number > 0)
                .await
                .is_err()
            {
                return;
            }
            let (at, body) = self.book.after(used);
            match self.tell(body).await {
                Ok(Took::All) => {
                    used = Some(at);
                    backoff.reset();
                    self.hear(at);
                }
                Ok(Took::NotInOrder) => used = None,
                // Whoever leads now speaks for all; this brain learns of it from its store.
                Ok(Took::Superseded) => tokio::time::sleep(backoff.step()).await,
                Err(error) => {
                    used = None;
                    self.miss(&error);
                    tokio::time::sleep(backoff.step()).await;
                }
            }
        }
    }

    async fn tell(&self, body: Bytes) -> reqwest::Result<Took> {
        let post = self.http.post(&self.url).header("content-type", "application/json");
        let answer = post.body(body).timeout(TIMEOUT).send().await?.error_for_status()?;
        answer.json().await
    }

    fn hear(&self, number: u64) {
        self.heard.send_modify(|heard| {
            if std::mem::take(&mut heard.gone) {
                info!(router = self.name, "a router is back");
            }
            heard.number = number;
        });
    }

    /// Where nobody listens, nobody routes either.
    fn miss(&self, error: &reqwest::Error) {
        self.heard.send_if_modified(|heard| {
            let gone = error.is_connect() && !heard.gone;
            if gone {
                warn!(router = self.name, %error, "a router is gone; nobody waits for it");
                heard.gone = true;
            }
            gone
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use super::*;
    use crate::roles::Roles;

    #[derive(Default)]
    struct Table(Mutex<Vec<TableUpdate>>);

    #[async_trait]
    impl Routers for Table {
        async fn apply(&self, update: TableUpdate) {
            self.0.lock().push(update);
        }
    }

    fn endpoint(guid: &str) -> (String, Endpoint) {
        let endpoint = Endpoint {
            address: (Ipv4Addr::LOCALHOST, 1).into(),
            key: diego::LrpKey { process_guid: "p".into(), index: 0, domain: "d".into() },
            instance_guid: guid.into(),
            http2: false,
            route_service_url: String::new(),
            options: serde_json::Value::Null,
            log_guid: "l".into(),
            tags: Arc::default(),
        };
        ("a.test".to_owned(), endpoint)
    }

    fn member(name: &str, url: String, roles: &[Role]) -> Member {
        let roles = Roles::new(roles.iter().copied());
        Member {
            name: name.to_owned(),
            url,
            address: Ipv4Addr::LOCALHOST,
            roles,
            ports: Vec::new(),
        }
    }

    struct Rig {
        members: Members,
        secret: Secret,
        stop: CancellationToken,
        tasks: TaskTracker,
    }

    impl Rig {
        fn new() -> Rig {
            let members = Members::new(member("brain", String::new(), &[Role::Brain]));
            let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
            Rig { members, secret: Secret::new("s"), stop, tasks }
        }

        fn feed(&self, fence: i64) -> Arc<Feed> {
            let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
            let feed = Feed::start(None, self.members.clone(), &self.secret, stop, tasks);
            feed.led_by(fence);
            feed
        }

        async fn router(&self, address: &str) -> (Arc<Table>, Gate, String) {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let table = Arc::new(Table::default());
            let gate = Gate::new(table.clone());
            let server = base::http::serve(listener, gate.router(&self.secret), self.stop.clone());
            self.tasks.spawn(server);
            (table, gate, url)
        }

        async fn end(self) {
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        }
    }

    #[tokio::test]
    async fn a_change_returns_when_every_router_uses_it() {
        let rig = Rig::new();
        let (table, _, url) = rig.router("127.0.0.1:0").await;
        rig.members.learn(vec![member("router", url, &[Role::Router])]);
        let feed = rig.feed(1);
        feed.apply(TableUpdate::Snapshot(vec![endpoint("a")])).await;
        assert_eq!(table.0.lock().as_slice(), [TableUpdate::Snapshot(vec![endpoint("a")])]);
        let step = TableUpdate::Delta { add: vec![endpoint("b")], remove: vec![] };
        feed.apply(step.clone()).await;
        assert_eq!(table.0.lock().last(), Some(&step));
        // The brain that follows is believed, and this one is not any more.
        let next = rig.feed(2);
        next.apply(TableUpdate::Snapshot(Vec::new())).await;
        let known = table.0.lock().len();
        tokio::time::timeout(Duration::from_secs(30), feed.apply(step)).await.unwrap();
        assert_eq!(table.0.lock().len(), known);
        rig.end().await;
    }

    #[tokio::test]
    async fn a_router_that_is_gone_holds_nobody_up_and_is_told_all_when_it_is_back() {
        let rig = Rig::new();
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = gone.local_addr().unwrap().to_string();
        drop(gone);
        rig.members.learn(vec![
            member("silent", format!("http://{}", silent.local_addr().unwrap()), &[Role::Router]),
            member("gone", format!("http://{address}"), &[Role::Router]),
        ]);
        let feed = rig.feed(1);
        feed.apply(TableUpdate::Snapshot(vec![endpoint("a")])).await;
        let began = Instant::now();
        feed.apply(TableUpdate::Delta { add: vec![endpoint("b")], remove: vec![] }).await;
        assert!(began.elapsed() < GONE, "known to be gone");
        let (table, gate, _) = rig.router(&address).await;
        assert!(gate.primed(Duration::from_secs(30)).await);
        let all = TableUpdate::Snapshot(vec![endpoint("a"), endpoint("b")]);
        assert_eq!(table.0.lock().first(), Some(&all));
        rig.end().await;
    }
}
