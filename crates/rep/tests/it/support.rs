//! A brain and its cells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base::http::Secret;
use base::{CancellationToken, Clock, TaskTracker};
use bbs::BbsServer;
use diego::action::{EnvVar, RunAction};
use diego::actual_lrp::State;
use diego::bbs::{ActualLrpFilter, ErrorKind, Result};
use diego::cell::Dial;
use diego::desired_lrp::{Check, CheckDefinition, RunInfo};
use diego::routing::{Endpoint, Routers, TableUpdate};
use diego::{
    Action, ActualLrp, Bbs, BbsError, CellId, CellPresence, DesiredLrp, InstanceGuid, ProcessGuid,
    TaskGuid,
};
use envelope::Collect;
use executor::Executor;
use futures::StreamExt as _;
use garden::Garden;
use parking_lot::Mutex;
use rep::{Config, Dialer, Rep};
use tokio::task::JoinHandle;

use crate::garden_on_host::HostGarden;
use crate::link::Link;

pub const SECRET: &str = "s3cret";
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What routers were told. With `armed`, a route that led somewhere and then nowhere is an offence.
#[derive(Default)]
pub struct Table {
    entries: Mutex<BTreeMap<String, BTreeMap<InstanceGuid, SocketAddr>>>,
    armed: AtomicBool,
    offences: Mutex<Vec<String>>,
}

impl Table {
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    pub fn offences(&self) -> Vec<String> {
        self.offences.lock().clone()
    }

    pub fn offend(&self, what: String) {
        self.offences.lock().push(what);
    }

    pub fn endpoints(&self, route: &str) -> BTreeMap<InstanceGuid, SocketAddr> {
        self.entries.lock().get(route).cloned().unwrap_or_default()
    }

    fn put(&self, all: Vec<(String, Endpoint)>) {
        let mut entries = self.entries.lock();
        for (route, endpoint) in all {
            entries
                .entry(route)
                .or_default()
                .insert(endpoint.instance_guid.clone(), endpoint.address);
        }
    }
}

#[async_trait]
impl Routers for Table {
    async fn apply(&self, update: TableUpdate) {
        match update {
            TableUpdate::Snapshot(all) => {
                self.entries.lock().clear();
                self.put(all);
            }
            TableUpdate::Delta { add, remove } => {
                self.put(add);
                for (route, guid) in remove {
                    let mut entries = self.entries.lock();
                    let left = entries.entry(route.clone()).or_default();
                    left.remove(&guid);
                    if left.is_empty() && self.armed.load(Ordering::SeqCst) {
                        self.offend(format!("{route} lost its last endpoint, {guid}"));
                    }
                }
            }
        }
    }
}

/// Cells that the brain cannot reach at the moment.
type Unreached = Arc<Mutex<BTreeSet<CellId>>>;

/// The way from the brain to its cells, which can be cut.
struct Wires(Dialer, Unreached);

struct Wire(Arc<dyn diego::Cell>, CellId, Unreached);

impl Dial for Wires {
    fn dial(&self, presence: &CellPresence) -> Arc<dyn diego::Cell> {
        let cell = self.0.dial(presence);
        Arc::new(Wire(cell, presence.cell_id.clone(), self.1.clone()))
    }
}

impl Wire {
    fn way(&self) -> Result<&dyn diego::Cell> {
        if self.2.lock().contains(&self.1) { Err(unreachable()) } else { Ok(&*self.0) }
    }
}

#[async_trait]
impl diego::Cell for Wire {
    async fn state(&self) -> Result<diego::CellState> {
        self.way()?.state().await
    }
    async fn perform(&self, work: diego::Work) -> Result<diego::cell::Refused> {
        self.way()?.perform(work).await
    }
    async fn stop_lrp(&self, process: &ProcessGuid, instance: &InstanceGuid) -> Result<()> {
        self.way()?.stop_lrp(process, instance).await
    }
    async fn update_lrp(
        &self,
        process: &ProcessGuid,
        instance: &InstanceGuid,
        update: &diego::cell::LrpUpdate,
    ) -> Result<()> {
        self.way()?.update_lrp(process, instance, update).await
    }
    async fn cancel_task(&self, task: &TaskGuid) -> Result<()> {
        self.way()?.cancel_task(task).await
    }
}

fn unreachable() -> BbsError {
    BbsError::new(ErrorKind::Unreachable, "the way is cut")
}

/// The brain.
pub struct Brain {
    pub bbs: BbsServer,
    pub table: Arc<Table>,
    unreached: Unreached,
    stop: CancellationToken,
}

impl Brain {
    pub async fn new() -> Brain {
        Brain::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut bbs::Config)) -> Brain {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (table, unreached) = (Arc::new(Table::default()), Unreached::default());
        let dialer = Dialer::new(&Secret::new(SECRET));
        let mut config = bbs::Config::new(Secret::new(SECRET));
        change(&mut config);
        let deps = bbs::Deps {
            db: sql::testing::sqlite().await,
            clock: Clock::system(),
            dial: Arc::new(Wires(dialer, unreached.clone())),
            routers: table.clone(),
            stop: stop.clone(),
            tasks,
        };
        Brain { bbs: BbsServer::open(config, deps).await.unwrap(), table, unreached, stop }
    }

    /// Cuts a cell off, or connects it again, in both directions.
    pub fn cut<G>(&self, cell: &Cell<G>, cut: bool) {
        cell.link.cut(cut);
        if cut {
            self.unreached.lock().insert(cell.id.clone());
        } else {
            self.unreached.lock().remove(&cell.id);
        }
    }

    pub async fn desire(&self, guid: &str, instances: u32, script: &str) -> ProcessGuid {
        self.bbs.desire_lrp(lrp(guid, instances, script)).await.unwrap();
        guid.into()
    }

    pub async fn lrps(&self, guid: &ProcessGuid) -> Vec<ActualLrp> {
        let filter = ActualLrpFilter {
            process_guids: Some(vec![guid.clone()]),
            ..ActualLrpFilter::default()
        };
        self.bbs.actual_lrps(&filter).await.unwrap()
    }

    /// Waits until the records of a process are as wanted.
    pub async fn until(
        &self,
        guid: &ProcessGuid,
        is: impl Fn(&[ActualLrp]) -> bool,
    ) -> Vec<ActualLrp> {
        let mut events = self.bbs.events().await.unwrap();
        let wait = async {
            loop {
                let lrps = self.lrps(guid).await;
                if is(&lrps) {
                    return lrps;
                }
                events.next().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(lrps) => lrps,
            Err(_) => panic!("{guid} is {:#?}", self.lrps(guid).await),
        }
    }

    pub async fn until_running(&self, guid: &ProcessGuid, count: usize) -> Vec<ActualLrp> {
        self.until(guid, |lrps| lrps.len() == count && lrps.iter().all(is_running)).await
    }

    pub async fn until_completed(&self, guid: &TaskGuid) -> diego::task::Outcome {
        let mut events = self.bbs.events().await.unwrap();
        let wait = async {
            loop {
                if let diego::task::State::Completed { outcome } =
                    self.bbs.task(guid).await.unwrap().state
                {
                    return outcome;
                }
                events.next().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(outcome) => outcome,
            Err(_) => panic!("{:#?}", self.bbs.task(guid).await),
        }
    }
}

impl Drop for Brain {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn is_running(lrp: &ActualLrp) -> bool {
    matches!(lrp.state, State::Running { .. })
}

pub struct Cell<G = HostGarden> {
    pub id: CellId,
    pub url: String,
    pub rep: Arc<Rep>,
    pub garden: Arc<G>,
    pub executor: Arc<Executor>,
    pub log: Collect,
    pub link: Arc<Link>,
    dir: Arc<tempfile::TempDir>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// What stays of a cell whose platform goes.
pub type Left<G = HostGarden> = (CellId, Arc<G>, Arc<tempfile::TempDir>);

impl Cell {
    pub async fn new(brain: &Brain, id: &str) -> Cell {
        Cell::with(brain, id, |_| {}).await
    }

    pub async fn with(brain: &Brain, id: &str, change: impl FnOnce(&mut Config)) -> Cell {
        Cell::over(brain, left(id, HostGarden::new()), change).await
    }

    /// Announces itself by a thread and a way of its own.
    pub async fn with_heart(
        brain: &Brain,
        id: &str,
        heart: Arc<Link>,
        change: impl FnOnce(&mut Config),
    ) -> Cell {
        Cell::build(brain, left(id, HostGarden::new()), Some(heart), change).await
    }
}

pub fn left<G>(id: &str, garden: Arc<G>) -> Left<G> {
    (id.into(), garden, Arc::new(tempfile::tempdir().unwrap()))
}

impl<G: Garden + 'static> Cell<G> {
    pub async fn over(brain: &Brain, left: Left<G>, change: impl FnOnce(&mut Config)) -> Cell<G> {
        Cell::build(brain, left, None, change).await
    }

    async fn build(
        brain: &Brain,
        (id, garden, dir): Left<G>,
        heart: Option<Arc<Link>>,
        change: impl FnOnce(&mut Config),
    ) -> Cell<G> {
        let path = |name| dir.path().join(name);
        let images = image::Config {
            dir: path("images"),
            stacks: ["test".to_owned()].into(),
            limits: image::Limits::default(),
        };
        let store = Arc::new(image::Store::open(images).unwrap());
        let log = Collect::default();
        let timings =
            executor::Timings { grace: Duration::from_millis(300), ..executor::Timings::default() };
        let config = executor::Config {
            cell_id: id.to_string(),
            dir: path("executor"),
            timings,
            ..executor::Config::default()
        };
        let executor =
            Executor::new(garden.clone(), store, Arc::new(log.clone()), config, Clock::system())
                .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let link = Link::new(brain.bbs.clone());
        let mut config = Config::new(id.clone(), &url, Secret::new(SECRET));
        config.stacks = vec!["test".to_owned()];
        config.timings.last_retry = Duration::from_millis(100);
        // Where nobody cuts anything, a busy host must not look like it.
        config.timings.presence_ttl = Duration::from_secs(20);
        change(&mut config);
        let rep = match heart {
            Some(heart) => Rep::with_heart(config, link.clone(), heart, executor.clone()),
            None => Rep::new(config, link.clone(), executor.clone()),
        };
        let stop = CancellationToken::new();
        tokio::spawn(base::http::serve(listener, rep.router(), stop.clone()));
        let (run, stopping) = (rep.clone(), stop.clone());
        let running = tokio::spawn(async move { run.run(stopping).await.unwrap() });
        let cell = Cell { id, url, rep, garden, executor, log, link, dir, stop, running };
        let known = async {
            while !brain.bbs.cells().await.unwrap().iter().any(|known| known.rep_url == cell.url) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.unwrap();
        cell
    }

    /// The platform goes and leaves its containers.
    pub async fn leave(self) -> Left<G> {
        self.stop.cancel();
        self.running.await.unwrap();
        (self.id, self.garden, self.dir)
    }

    pub async fn back(brain: &Brain, left: Left<G>) -> Cell<G> {
        Cell::over(brain, left, |_| {}).await
    }

    pub fn count(&self) -> usize {
        self.executor.list().len()
    }

    pub async fn until_empty(&self) {
        let mut changes = self.executor.subscribe();
        let wait = async {
            while self.count() > 0 {
                drop(changes.recv().await);
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{:#?}", self.executor.list()));
    }

    pub async fn until_logged(&self, text: &str) {
        let wait = async {
            while !self.lines().iter().any(|line| line.contains(text)) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| panic!("{text:?} was not logged: {:?}", self.lines()));
    }

    pub fn lines(&self) -> Vec<String> {
        let envelopes = self.log.0.lock().unwrap();
        let text = |one: &envelope::Envelope| match &one.message {
            envelope::Message::Log { payload, .. } => {
                Some(String::from_utf8_lossy(payload).into_owned())
            }
            _ => None,
        };
        envelopes.iter().filter_map(text).collect()
    }
}

pub fn sh(script: &str) -> Action {
    let args = vec!["-c".to_owned(), script.to_owned()];
    Action::Run(RunAction {
        path: "/bin/sh".into(),
        args,
        user: "vcap".into(),
        log_source: "APP/PROC/WEB".into(),
        ..RunAction::default()
    })
}

pub const SERVER: &str = "exec python3 -u -m http.server --bind 127.0.0.1 $PORT 2>/dev/null >&2";

pub fn run(script: &str) -> RunInfo {
    RunInfo {
        rootfs: "preloaded:test".into(),
        action: Some(sh(script)),
        env: vec![EnvVar::new("PORT", "8080")],
        memory_mb: 100,
        disk_mb: 100,
        log_guid: "app".into(),
        log_source: "CELL".into(),
        metrics_guid: "app".into(),
        log_rate_limit: -1,
        start_timeout_ms: 20_000,
        ..RunInfo::default()
    }
}

pub fn lrp(guid: &str, instances: u32, script: &str) -> DesiredLrp {
    let check = Check::Tcp { port: 8080, connect_timeout_ms: 0, interval_ms: 0 };
    let checks = CheckDefinition { checks: vec![check], ..CheckDefinition::default() };
    let served = script == SERVER;
    DesiredLrp {
        process_guid: guid.into(),
        domain: "test".into(),
        instances,
        run: RunInfo {
            ports: vec![8080],
            check_definition: served.then_some(checks),
            ..run(script)
        },
        routes: Default::default(),
        annotation: String::new(),
        metric_tags: Default::default(),
        modification_tag: Default::default(),
    }
}
