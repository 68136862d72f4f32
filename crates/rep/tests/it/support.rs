//! A brain and its cells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base::http::Secret;
use base::{CancellationToken, Clock, TaskTracker};
use bbs::BbsServer;
use diego::action::{EnvVar, RunAction};
use diego::actual_lrp::State;
use diego::bbs::{ActualLrpFilter, ErrorKind, Evacuation, Keep, Result, TaskFilter};
use diego::desired_lrp::{Check, CheckDefinition, DesiredLrpUpdate, RunInfo};
use diego::routing::{Routers, TableUpdate};
use diego::{
    Action, ActualLrp, Bbs, BbsError, CellId, CellPresence, DesiredLrp, Domain, Event, InstanceKey,
    LrpKey, NetInfo, ProcessGuid, SchedulingInfo, Task, TaskDefinition, TaskGuid,
};
use envelope::Collect;
use executor::Executor;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use rep::{Config, Dialer, Rep};
use tokio::task::JoinHandle;

use crate::garden_on_host::HostGarden;

pub const SECRET: &str = "s3cret";
const PATIENCE: Duration = Duration::from_secs(15);

struct NoRouters;

#[async_trait]
impl Routers for NoRouters {
    async fn apply(&self, _: TableUpdate) {}
}

/// The brain.
pub struct Brain {
    pub bbs: BbsServer,
    stop: CancellationToken,
}

impl Brain {
    pub async fn new() -> Brain {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let bbs = BbsServer::open(
            sql::testing::sqlite().await,
            bbs::Config::new(Secret::new(SECRET)),
            Clock::system(),
            Arc::new(Dialer::new(&Secret::new(SECRET))),
            Arc::new(NoRouters),
            stop.clone(),
            &tasks,
        );
        Brain { bbs: bbs.await.unwrap(), stop }
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

pub struct Cell {
    pub id: CellId,
    pub url: String,
    pub rep: Arc<Rep>,
    pub garden: Arc<HostGarden>,
    pub executor: Arc<Executor>,
    pub log: Collect,
    pub link: Arc<Link>,
    dir: Arc<tempfile::TempDir>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Cell {
    pub async fn new(brain: &Brain, id: &str) -> Cell {
        Cell::with(brain, id, |_| {}).await
    }

    pub async fn with(brain: &Brain, id: &str, change: impl FnOnce(&mut Config)) -> Cell {
        Cell::over(brain, id, HostGarden::new(), Arc::new(tempfile::tempdir().unwrap()), change)
            .await
    }

    async fn over(
        brain: &Brain,
        id: &str,
        garden: Arc<HostGarden>,
        dir: Arc<tempfile::TempDir>,
        change: impl FnOnce(&mut Config),
    ) -> Cell {
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
            cell_id: id.into(),
            dir: path("executor"),
            timings,
            ..executor::Config::default()
        };
        let executor =
            Executor::new(garden.clone(), store, Arc::new(log.clone()), config, Clock::system())
                .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let link = Arc::new(Link { bbs: brain.bbs.clone(), cut: AtomicBool::new(false) });
        let mut config = Config::new(id.into(), &url, Secret::new(SECRET));
        config.stacks = vec!["test".to_owned()];
        config.timings.last_retry = Duration::from_millis(100);
        change(&mut config);
        let rep = Rep::new(config, link.clone(), executor.clone());
        let stop = CancellationToken::new();
        tokio::spawn(base::http::serve(listener, rep.router(), stop.clone()));
        let (run, stopping) = (rep.clone(), stop.clone());
        let running = tokio::spawn(async move { run.run(stopping).await.unwrap() });
        let cell =
            Cell { id: id.into(), url, rep, garden, executor, log, link, dir, stop, running };
        let known = async {
            while !brain.bbs.cells().await.unwrap().iter().any(|known| known.rep_url == cell.url) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.unwrap();
        cell
    }

    /// The platform goes and leaves its containers.
    pub async fn leave(self) -> (CellId, Arc<HostGarden>, Arc<tempfile::TempDir>) {
        self.stop.cancel();
        self.running.await.unwrap();
        (self.id, self.garden, self.dir)
    }

    pub async fn back(
        brain: &Brain,
        left: (CellId, Arc<HostGarden>, Arc<tempfile::TempDir>),
    ) -> Cell {
        Cell::over(brain, left.0.as_str(), left.1, left.2, |_| {}).await
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

/// The way to the brain, which can be cut.
pub struct Link {
    bbs: BbsServer,
    cut: AtomicBool,
}

impl Link {
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    fn way(&self) -> Result<&BbsServer> {
        match self.cut.load(Ordering::SeqCst) {
            true => Err(BbsError::new(ErrorKind::Unreachable, "the way is cut")),
            false => Ok(&self.bbs),
        }
    }
}

#[async_trait]
impl Bbs for Link {
    async fn upsert_domain(&self, domain: &Domain, ttl: Option<Duration>) -> Result<()> {
        self.way()?.upsert_domain(domain, ttl).await
    }
    async fn domains(&self) -> Result<Vec<Domain>> {
        self.way()?.domains().await
    }
    async fn desire_lrp(&self, lrp: DesiredLrp) -> Result<()> {
        self.way()?.desire_lrp(lrp).await
    }
    async fn update_lrp(&self, guid: &ProcessGuid, update: DesiredLrpUpdate) -> Result<()> {
        self.way()?.update_lrp(guid, update).await
    }
    async fn remove_lrp(&self, guid: &ProcessGuid) -> Result<()> {
        self.way()?.remove_lrp(guid).await
    }
    async fn desired_lrp(&self, guid: &ProcessGuid) -> Result<DesiredLrp> {
        self.way()?.desired_lrp(guid).await
    }
    async fn desired_lrps(&self, domain: Option<&Domain>) -> Result<Vec<DesiredLrp>> {
        self.way()?.desired_lrps(domain).await
    }
    async fn scheduling_infos(&self, domain: Option<&Domain>) -> Result<Vec<SchedulingInfo>> {
        self.way()?.scheduling_infos(domain).await
    }
    async fn actual_lrps(&self, filter: &ActualLrpFilter) -> Result<Vec<ActualLrp>> {
        self.way()?.actual_lrps(filter).await
    }
    async fn retire(&self, key: &LrpKey) -> Result<()> {
        self.way()?.retire(key).await
    }
    async fn claim(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()> {
        self.way()?.claim(key, instance).await
    }
    async fn start(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        net: &NetInfo,
        routable: bool,
    ) -> Result<()> {
        self.way()?.start(key, instance, net, routable).await
    }
    async fn crash(&self, key: &LrpKey, instance: &InstanceKey, reason: &str) -> Result<()> {
        self.way()?.crash(key, instance, reason).await
    }
    async fn remove(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()> {
        self.way()?.remove(key, instance).await
    }
    async fn evacuate(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        evacuation: Evacuation,
    ) -> Result<Keep> {
        self.way()?.evacuate(key, instance, evacuation).await
    }
    async fn desire_task(
        &self,
        guid: &TaskGuid,
        domain: &Domain,
        definition: TaskDefinition,
    ) -> Result<()> {
        self.way()?.desire_task(guid, domain, definition).await
    }
    async fn task(&self, guid: &TaskGuid) -> Result<Task> {
        self.way()?.task(guid).await
    }
    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>> {
        self.way()?.tasks(filter).await
    }
    async fn start_task(&self, guid: &TaskGuid, cell: &CellId) -> Result<bool> {
        self.way()?.start_task(guid, cell).await
    }
    async fn complete_task(
        &self,
        guid: &TaskGuid,
        cell: &CellId,
        failure: Option<&str>,
        result: &str,
    ) -> Result<()> {
        self.way()?.complete_task(guid, cell, failure, result).await
    }
    async fn reject_task(&self, guid: &TaskGuid, cell: &CellId, reason: &str) -> Result<()> {
        self.way()?.reject_task(guid, cell, reason).await
    }
    async fn cancel_task(&self, guid: &TaskGuid) -> Result<()> {
        self.way()?.cancel_task(guid).await
    }
    async fn resolve_task(&self, guid: &TaskGuid) -> Result<()> {
        self.way()?.resolve_task(guid).await
    }
    async fn delete_task(&self, guid: &TaskGuid) -> Result<()> {
        self.way()?.delete_task(guid).await
    }
    async fn announce(&self, presence: &CellPresence, ttl: Duration) -> Result<()> {
        self.way()?.announce(presence, ttl).await
    }
    async fn retract(&self, cell: &CellId) -> Result<()> {
        self.way()?.retract(cell).await
    }
    async fn cells(&self) -> Result<Vec<CellPresence>> {
        self.way()?.cells().await
    }
    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        self.way()?.events().await
    }
}
