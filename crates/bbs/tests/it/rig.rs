//! A brain with its HTTP face, simulated cells, and routers that remember what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::http::Secret;
use base::{CancellationToken, Clock, TaskTracker, Timestamp};
use bbs::{BbsServer, Client, Config};
use diego::action::{Action, RunAction};
use diego::actual_lrp::State;
use diego::bbs::ActualLrpFilter;
use diego::cell::{Dial, LrpUpdate, Refused, Resources};
use diego::desired_lrp::RunInfo;
use diego::routing::{CF_ROUTER, Endpoint, Routers, TableUpdate};
use diego::sim::{SimCell, SimDial};
use diego::{
    ActualLrp, Bbs, BbsError, Cell, CellId, CellPresence, CellState, DesiredLrp, InstanceGuid,
    Presence, ProcessGuid, TaskGuid, Work,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;

pub const TTL: Duration = Duration::from_secs(15);
pub const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// One brain's life. The database, the clock, the cells and the routers outlive it: see [`Rig::reopen`].
pub struct Rig {
    pub db: sql::Db,
    pub clock: Clock,
    pub dial: SimDial,
    pub routers: Arc<Table>,
    pub config: Config,
    pub server: BbsServer,
    pub bbs: Arc<Client>,
    pub cells: Vec<Arc<SimCell>>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The routers of a test: one table, and everything it was told.
#[derive(Default)]
pub struct Table {
    pub entries: Mutex<BTreeMap<(String, InstanceGuid), Endpoint>>,
    pub updates: Mutex<Vec<TableUpdate>>,
    /// Routes that at some moment after their first endpoint had none.
    pub gaps: Mutex<BTreeSet<String>>,
    /// Cells that take what is sent to them and never answer.
    pub cut_off: Mutex<BTreeSet<CellId>>,
    /// How long a router takes.
    pub delay: Mutex<Duration>,
}

impl Table {
    pub fn hosts(&self) -> Vec<String> {
        let entries = self.entries.lock();
        let mut hosts: Vec<_> = entries
            .iter()
            .map(|((host, _), endpoint)| format!("{host} {}", endpoint.key.index))
            .collect();
        hosts.sort();
        hosts
    }

    pub fn has(&self, guid: &InstanceGuid) -> bool {
        self.entries.lock().keys().any(|(_, held)| held == guid)
    }
}

#[async_trait]
impl Routers for Table {
    async fn apply(&self, update: TableUpdate) {
        let delay = *self.delay.lock();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.updates.lock().push(update.clone());
        let mut entries = self.entries.lock();
        let hosts: BTreeSet<String> = entries.keys().map(|(host, _)| host.clone()).collect();
        let put = |(host, endpoint): (String, Endpoint)| {
            ((host, endpoint.instance_guid.clone()), endpoint)
        };
        match update {
            TableUpdate::Snapshot(all) => *entries = all.into_iter().map(put).collect(),
            TableUpdate::Delta { add, remove } => {
                entries.extend(add.into_iter().map(put));
                for key in remove {
                    entries.remove(&key).expect("only what is there is removed");
                }
            }
        }
        let left: BTreeSet<String> = entries.keys().map(|(host, _)| host.clone()).collect();
        self.gaps.lock().extend(hosts.difference(&left).cloned());
    }
}

/// Reaches simulated cells, and fails the test when one is told to stop what a router still leads to.
struct Watched {
    dial: SimDial,
    routers: Arc<Table>,
}

impl Dial for Watched {
    fn dial(&self, presence: &CellPresence) -> Arc<dyn Cell> {
        Arc::new(WatchedCell {
            id: presence.cell_id.clone(),
            cell: self.dial.dial(presence),
            routers: self.routers.clone(),
        })
    }
}

struct WatchedCell {
    id: CellId,
    cell: Arc<dyn Cell>,
    routers: Arc<Table>,
}

impl WatchedCell {
    async fn unless_cut_off(&self) {
        if self.routers.cut_off.lock().contains(&self.id) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Cell for WatchedCell {
    async fn state(&self) -> Result<CellState, BbsError> {
        self.unless_cut_off().await;
        self.cell.state().await
    }

    async fn perform(&self, work: Work) -> Result<Refused, BbsError> {
        self.unless_cut_off().await;
        self.cell.perform(work).await
    }

    async fn stop_lrp(&self, process: &ProcessGuid, guid: &InstanceGuid) -> Result<(), BbsError> {
        assert!(!self.routers.has(guid), "{guid} is told to stop while a router leads to it");
        self.cell.stop_lrp(process, guid).await
    }

    async fn update_lrp(
        &self,
        process: &ProcessGuid,
        guid: &InstanceGuid,
        update: &LrpUpdate,
    ) -> Result<(), BbsError> {
        self.cell.update_lrp(process, guid, update).await
    }

    async fn cancel_task(&self, guid: &TaskGuid) -> Result<(), BbsError> {
        self.cell.cancel_task(guid).await
    }
}

impl Rig {
    /// A brain with so many cells of 1000 MB, two zones in turn.
    pub async fn new(db: sql::Db, cells: usize) -> Rig {
        let clock = Clock::manual(START);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new(Secret::new("s3cret"));
        // Time passes in steps here: a cell is lost for its silence, not for the first step after a restart.
        config.timings.cell_grace = TTL;
        let mut rig =
            Rig::open(db, clock, SimDial::default(), Arc::default(), config, listener).await;
        for number in 0..cells {
            rig.add_cell(&format!("cell-{number}"), &format!("z{}", number % 2)).await;
        }
        rig
    }

    pub async fn open(
        db: sql::Db,
        clock: Clock,
        dial: SimDial,
        routers: Arc<Table>,
        config: Config,
        listener: TcpListener,
    ) -> Rig {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let watched = Arc::new(Watched { dial: dial.clone(), routers: routers.clone() });
        let deps = bbs::Deps {
            db: db.clone(),
            clock: clock.clone(),
            dial: watched,
            routers: routers.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let server = BbsServer::open(config.clone(), deps).await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{}", address);
        tasks.spawn(base::http::serve(listener, server.router(), stop.clone()));
        let bbs = Arc::new(Client::new(url, &config.secret));
        Rig {
            db,
            clock,
            dial,
            routers,
            config,
            server,
            bbs,
            cells: Vec::new(),
            address,
            stop,
            tasks,
        }
    }

    /// The brain ends and another begins at the same address on the same database, among the same cells and routers.
    pub async fn reopen(self) -> Rig {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let mut rig = Rig::open(
            self.db.clone(),
            self.clock.clone(),
            self.dial.clone(),
            self.routers.clone(),
            self.config.clone(),
            TcpListener::bind(self.address).await.unwrap(),
        )
        .await;
        rig.cells = self.cells.clone();
        rig
    }

    pub async fn add_cell(&mut self, id: &str, zone: &str) -> Arc<SimCell> {
        let capacity = Resources { memory_mb: 1000, disk_mb: 10_000, containers: 50 };
        let cell = SimCell::new(SimCell::presence(id, zone, capacity));
        self.dial.add(&cell);
        cell.attach(self.bbs.clone());
        cell.announce(TTL).await.unwrap();
        self.cells.push(cell.clone());
        cell
    }

    /// Time passes; all cells but these live on.
    pub async fn advance(&self, span: Duration, silent: &[usize]) {
        let mut left = span;
        while !left.is_zero() {
            let step = left.min(TTL / 3);
            self.clock.advance(step);
            left -= step;
            for (place, cell) in self.cells.iter().enumerate() {
                if !silent.contains(&place) {
                    cell.announce(TTL).await.unwrap();
                }
            }
        }
        self.server.converge();
    }

    pub async fn records(&self, process: &str) -> Vec<ActualLrp> {
        let filter = ActualLrpFilter {
            process_guids: Some(vec![process.into()]),
            ..ActualLrpFilter::default()
        };
        self.bbs.actual_lrps(&filter).await.unwrap()
    }

    /// `0 RUNNING cell-1, 1 UNCLAIMED`
    pub async fn show(&self, process: &str) -> String {
        let lines = self.records(process).await.into_iter().map(|lrp| {
            let cell = lrp.instance().map(|by| format!(" {}", by.cell_id)).unwrap_or_default();
            let presence = match lrp.presence {
                Presence::Ordinary => "",
                Presence::Evacuating => " evacuating",
                Presence::Suspect => " suspect",
            };
            format!("{} {}{cell}{presence}", lrp.key.index, lrp.state.name())
        });
        lines.collect::<Vec<_>>().join(", ")
    }

    /// Waits until the process looks like this.
    #[track_caller]
    pub fn shows<'a>(&'a self, process: &'a str, want: &'a str) -> impl Future<Output = ()> + 'a {
        eventually(want, move || self.show(process), move |shown| shown == want)
    }

    /// Waits until so many instances run, and nothing else is there.
    #[track_caller]
    pub fn running<'a>(&'a self, process: &'a str, count: usize) -> impl Future<Output = ()> + 'a {
        let runs = move |records: &Vec<ActualLrp>| {
            records.len() == count
                && records.iter().all(|lrp| matches!(lrp.state, State::Running { .. }))
        };
        eventually("instances run", move || self.records(process), runs)
    }

    /// Waits until the routers' table is this.
    #[track_caller]
    pub fn routed<'a>(&'a self, want: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        eventually(want, move || async move { self.routers.hosts() }, move |hosts| hosts == want)
    }

    pub fn instance(&self, records: &[ActualLrp], index: u32) -> (Arc<SimCell>, InstanceGuid) {
        let lrp = records
            .iter()
            .find(|lrp| lrp.key.index == index && lrp.instance().is_some())
            .expect("an instance");
        let by = lrp.instance().unwrap();
        let holds = |cell: &&Arc<SimCell>| {
            cell.instances().iter().any(|(_, guid)| *guid == by.instance_guid)
        };
        (self.cells.iter().find(holds).expect("a cell holds it").clone(), by.instance_guid.clone())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Asks again and again until the answer is right, for at most half a minute.
#[track_caller]
pub fn eventually<T, F>(
    what: impl std::fmt::Debug,
    ask: impl Fn() -> F,
    right: impl Fn(&T) -> bool,
) -> impl Future<Output = ()>
where
    T: std::fmt::Debug,
    F: Future<Output = T>,
{
    let caller = std::panic::Location::caller();
    async move {
        let end = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let answer = ask().await;
            if right(&answer) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{caller}: wanted {what:?}, have {answer:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn run_info(memory_mb: u64) -> RunInfo {
    let action = RunAction {
        path: "/bin/server".to_owned(),
        user: "vcap".to_owned(),
        ..RunAction::default()
    };
    RunInfo {
        rootfs: "preloaded:base".to_owned(),
        action: Some(Action::Run(action)),
        memory_mb,
        disk_mb: 10,
        ports: vec![8080],
        log_guid: "log".to_owned(),
        ..RunInfo::default()
    }
}

/// A process of 100 MB with a route of its own name.
pub fn lrp(process: &str, instances: u32) -> DesiredLrp {
    let routes = json!([{"hostnames": [format!("{process}.example.com")], "port": 8080}]);
    DesiredLrp {
        process_guid: process.into(),
        domain: "apps".into(),
        instances,
        run: run_info(100),
        routes: BTreeMap::from([(CF_ROUTER.to_owned(), routes)]),
        annotation: String::new(),
        metric_tags: BTreeMap::from([("app_name".to_owned(), process.to_owned())]),
        modification_tag: Default::default(),
    }
}
