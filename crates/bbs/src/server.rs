//! The brain as a whole: opened on a database, asked through [`Bbs`], stopped by its token.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::{CancellationToken, Clock, TaskTracker};
use diego::actual_lrp::State as LrpState;
use diego::bbs::{ActualLrpFilter, ErrorKind, Evacuation, Keep, Result, TaskFilter};
use diego::cell::Dial;
use diego::desired_lrp::DesiredLrpUpdate;
use diego::routing::{Endpoint, Routers};
use diego::task::{Attempt, State as TaskState};
use diego::{
    ActualLrp, Bbs, BbsError, CellId, CellPresence, DesiredLrp, Domain, Event, InstanceKey, LrpKey,
    NetInfo, ProcessGuid, SchedulingInfo, Task, TaskDefinition, TaskGuid,
};
use futures::stream::BoxStream;
use parking_lot::RwLock;
use sql::Db;
use tokio::sync::{mpsc, oneshot, watch};

use crate::aftermath::Aftermath;
use crate::alarm::Alarm;
use crate::auctioneer::{Auctioneer, Floor};
use crate::callbacks::Callbacks;
use crate::cells::Cells;
use crate::config::Config;
use crate::converger::Converger;
use crate::decide::{Answer, Command};
use crate::emitter::Emitter;
use crate::hub::Hub;
use crate::lease::Lease;
use crate::retagger::Retagger;
use crate::retirer::Retirer;
use crate::state::State;
use crate::store::Store;
use crate::wire::NOT_LEADING;
use crate::writer::{self, Job, Writer};

/// Cheap to clone; all clones are the same brain.
#[derive(Clone)]
pub struct BbsServer {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    clock: Clock,
    state: Arc<RwLock<State>>,
    jobs: mpsc::Sender<Job>,
    hub: Arc<Hub>,
    emitter: Arc<Emitter>,
    alarm: Arc<Alarm>,
    auctioneer: Arc<Auctioneer>,
    settled: watch::Receiver<u64>,
    lease: Arc<Lease>,
    fence: i64,
    stop: CancellationToken,
}

/// What the brain stands on.
pub struct Deps {
    pub db: Db,
    pub clock: Clock,
    pub dial: Arc<dyn Dial>,
    pub routers: Arc<dyn Routers>,
    /// Ends the brain.
    pub stop: CancellationToken,
    /// Where everything runs that the brain starts.
    pub tasks: TaskTracker,
}

impl BbsServer {
    /// Takes the store over, loads all of it and begins: everything spawned runs on `deps.tasks` until `deps.stop`, or
    /// until another brain takes the store ([`BbsServer::stopped`]).
    pub async fn open(config: Config, deps: Deps) -> anyhow::Result<BbsServer> {
        let store = Store::open(deps.db.clone()).await?;
        BbsServer::begin(store, config, deps).await
    }

    /// As [`BbsServer::open`], for brains that share a store: waits until no other one leads, and leads only as long as
    /// it is heard of in the store. What waits is dropped to end it.
    pub async fn stand_by(config: Config, deps: Deps) -> anyhow::Result<BbsServer> {
        let store = Store::stand_by(deps.db.clone(), &config.name, &config.timings).await;
        BbsServer::begin(store, config, deps).await
    }

    async fn begin(store: Store, config: Config, deps: Deps) -> anyhow::Result<BbsServer> {
        let Deps { db: _, clock, dial, routers, stop, tasks } = deps;
        routers.led_by(store.fence());
        let tasks = &tasks;
        let (stop, timings) = (stop.child_token(), config.timings.clone());
        let (lease, fence, store) = (store.lease().clone(), store.fence(), Arc::new(store));
        if lease.ttl().is_some() {
            // From the start: loading a large state takes longer than a lease.
            tasks.spawn(writer::keep_lease(store.clone(), timings.clone(), stop.clone()));
        }
        let loaded = store.load(clock.now() + timings.cell_grace).await?;
        let state = Arc::new(RwLock::new(loaded));
        let (jobs, queue) = mpsc::channel(writer::QUEUE);
        let hub = Arc::new(Hub::new(config.event_buffer));
        let emitter = Arc::new(Emitter::new(
            state.clone(),
            routers,
            config.prefer,
            lease.clone(),
            stop.clone(),
        ));
        let cells = Arc::new(Cells::new(dial, state.clone()));
        let alarm = Arc::new(Alarm::default());
        let auctioneer = Arc::new(Auctioneer {
            state: state.clone(),
            cells: cells.clone(),
            timings: timings.clone(),
            jobs: jobs.clone(),
            lease: lease.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            requests: Default::default(),
            moves: Default::default(),
            layers: Default::default(),
            floor: parking_lot::Mutex::new(Floor::new(&config.weights)),
            handing: Default::default(),
            asking: Arc::new(tokio::sync::Semaphore::new(1)),
            poke: Default::default(),
        });
        let retirer = Retirer::new(
            state.clone(),
            cells.clone(),
            emitter.clone(),
            timings.clone(),
            lease.clone(),
            stop.clone(),
            tasks.clone(),
        );
        let retirer = Arc::new(retirer);
        let callbacks = Callbacks::new(
            state.clone(),
            jobs.clone(),
            timings.clone(),
            stop.clone(),
            tasks.clone(),
        );
        let callbacks = Arc::new(callbacks);
        let retagger = Arc::new(Retagger {
            state: state.clone(),
            cells: cells.clone(),
            jobs: jobs.clone(),
            timings: timings.clone(),
            lease: lease.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            active: Default::default(),
        });
        let aftermath = Aftermath {
            hub: hub.clone(),
            emitter: emitter.clone(),
            auctioneer: auctioneer.clone(),
            retirer: retirer.clone(),
            retagger: retagger.clone(),
            callbacks: callbacks.clone(),
            alarm: alarm.clone(),
            cells,
            tasks: tasks.clone(),
        };
        let (settle, settled) = watch::channel(0);
        let writer = Writer {
            state: state.clone(),
            store,
            clock: clock.clone(),
            timings: Arc::new(timings.clone()),
            aftermath: Arc::new(aftermath),
            stop: stop.clone(),
            settled: settle,
            owed: BTreeSet::new(),
        };
        resume(&state, &auctioneer, &retirer, &retagger, &callbacks);
        let converger = Converger {
            state: state.clone(),
            clock: clock.clone(),
            timings,
            alarm: alarm.clone(),
            jobs: jobs.clone(),
            auctioneer: auctioneer.clone(),
            retirer,
            retagger,
            callbacks,
            stop: stop.clone(),
        };
        tasks.spawn(writer.run(queue));
        let emit = emitter.clone();
        tasks.spawn(async move { emit.run().await });
        tasks.spawn(auctioneer.clone().run(clock.clone()));
        tasks.spawn(converger.run());
        let (end, close) = (stop.clone(), hub.clone());
        tasks.spawn(async move {
            end.cancelled().await;
            close.close();
        });
        let inner = Inner {
            config,
            clock,
            state,
            jobs,
            hub,
            emitter,
            alarm,
            auctioneer,
            settled,
            lease,
            fence,
            stop,
        };
        Ok(BbsServer { inner: Arc::new(inner) })
    }

    /// Runs a round of convergence soon, as a lost cell does.
    pub fn converge(&self) {
        self.inner.alarm.now();
    }

    /// Tells all routers the whole table again: for one that came late.
    pub fn resync_routes(&self) {
        self.inner.emitter.resync();
    }

    /// The route table as it should be now.
    pub fn routes(&self) -> Vec<(String, Endpoint)> {
        self.inner.emitter.table()
    }

    /// Completes when the brain has stopped answering: told to, or because another took over its store.
    pub async fn stopped(&self) {
        self.inner.stop.cancelled().await;
    }

    /// Counts the brains that led this store; whoever has the highest number leads.
    pub fn fence(&self) -> i64 {
        self.inner.fence
    }

    /// How many instances run, evacuating and suspect ones aside.
    ///
    /// # Errors
    /// When the brain is stopping.
    pub async fn running(&self) -> Result<usize> {
        self.read(State::running).await
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Answers from memory, but only what is stored: whoever sees a change has it for good, and its events are out.
    pub(crate) async fn read<T>(&self, look: impl Fn(&State) -> T) -> Result<T> {
        loop {
            let (seen, progress) = {
                let state = self.inner.state.read();
                (look(&state), state.progress)
            };
            let mut settled = self.inner.settled.clone();
            if settled.wait_for(|settled| *settled >= progress.applied).await.is_err() {
                return Err(gone());
            }
            if self.inner.state.read().progress.undone == progress.undone {
                // Asked last: while the lease was held, nobody else had changed what was seen.
                return self.leads().map(|()| seen);
            }
        }
    }

    /// Whether this brain speaks for the store.
    pub(crate) fn leads(&self) -> Result<()> {
        if self.inner.lease.holds() && !self.inner.stop.is_cancelled() {
            Ok(())
        } else {
            Err(not_leading())
        }
    }

    async fn ask(&self, command: Command) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        self.inner
            .jobs
            .send(Job { command, reply: Some(reply) })
            .await
            .map_err(|_| not_leading())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn run(&self, command: Command) -> Result<()> {
        self.ask(command).await.map(drop)
    }

    /// Whoever is refused stops its container: by then no router leads to it.
    async fn run_or_unroute(&self, command: Command) -> Result<()> {
        let result = self.run(command).await;
        if result.is_err() {
            self.inner.emitter.settled().await;
        }
        result
    }
}

fn not_leading() -> BbsError {
    BbsError::new(ErrorKind::Unreachable, NOT_LEADING)
}

fn gone() -> BbsError {
    BbsError::new(ErrorKind::Unreachable, "the brain is stopping")
}

/// What was under way when the last brain ended.
fn resume(
    state: &RwLock<State>,
    auctioneer: &Auctioneer,
    retirer: &Arc<Retirer>,
    retagger: &Arc<Retagger>,
    callbacks: &Arc<Callbacks>,
) {
    let state = state.read();
    let waits = |(guid, index): &&(ProcessGuid, u32)| {
        let lrp = state.group(guid, *index).and_then(|group| group.ordinary.as_ref());
        lrp.is_some_and(|lrp| matches!(lrp.state, LrpState::Unclaimed { .. }))
    };
    let lrps = state.unsettled().filter(waits).cloned().collect();
    let pending = state.all_tasks().filter(|task| matches!(task.state, TaskState::Pending));
    auctioneer.request(lrps, pending.map(|task| task.task_guid.clone()).collect());
    for retirement in state.retirements() {
        retirer.retire(retirement.instance.instance_guid.clone());
    }
    for (process, _) in state.retags() {
        retagger.retag(process.clone());
    }
    for task in state.all_tasks().filter(|task| !task.definition.completion_callback_url.is_empty())
    {
        match &task.state {
            TaskState::Completed { .. } => callbacks.call(task.task_guid.clone()),
            TaskState::Resolving { .. } => callbacks.go_on(task.task_guid.clone()),
            TaskState::Pending | TaskState::Running { .. } => {}
        }
    }
}

#[async_trait]
impl Bbs for BbsServer {
    async fn upsert_domain(&self, domain: &Domain, ttl: Option<Duration>) -> Result<()> {
        self.run(Command::UpsertDomain { domain: domain.clone(), ttl }).await
    }

    async fn domains(&self) -> Result<Vec<Domain>> {
        let now = self.inner.clock.now();
        self.read(|state| {
            let fresh = state.domains().filter(|(domain, _)| state.is_fresh(domain, now));
            fresh.map(|(domain, _)| domain.clone()).collect()
        })
        .await
    }

    async fn desire_lrp(&self, lrp: DesiredLrp) -> Result<()> {
        self.run(Command::Desire(Box::new(lrp))).await
    }

    async fn update_lrp(&self, guid: &ProcessGuid, update: DesiredLrpUpdate) -> Result<()> {
        self.run(Command::Update(guid.clone(), update)).await
    }

    async fn remove_lrp(&self, guid: &ProcessGuid) -> Result<()> {
        self.run(Command::RemoveDesired(guid.clone())).await
    }

    async fn desired_lrp(&self, guid: &ProcessGuid) -> Result<DesiredLrp> {
        let found = self.read(|state| state.desired(guid).cloned()).await?;
        let missing = || {
            BbsError::new(
                ErrorKind::ResourceNotFound,
                format!("the desired LRP {guid} does not exist"),
            )
        };
        found.map(|lrp| DesiredLrp::clone(&lrp)).ok_or_else(missing)
    }

    async fn desired_lrps(&self, domain: Option<&Domain>) -> Result<Vec<DesiredLrp>> {
        self.read(|state| state.desired_lrps(domain).map(|lrp| DesiredLrp::clone(lrp)).collect())
            .await
    }

    async fn scheduling_infos(&self, domain: Option<&Domain>) -> Result<Vec<SchedulingInfo>> {
        self.read(|state| state.desired_lrps(domain).map(|lrp| lrp.scheduling_info()).collect())
            .await
    }

    async fn actual_lrps(&self, filter: &ActualLrpFilter) -> Result<Vec<ActualLrp>> {
        self.read(|state| state.actual_lrps(filter)).await
    }

    async fn retire(&self, key: &LrpKey) -> Result<()> {
        self.run(Command::Retire(key.clone())).await
    }

    async fn claim(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()> {
        self.run_or_unroute(Command::Claim(key.clone(), instance.clone())).await
    }

    async fn start(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        net: &NetInfo,
        routable: bool,
    ) -> Result<()> {
        let (key, by, net) = (key.clone(), instance.clone(), net.clone());
        self.run_or_unroute(Command::Start { key, by, net, routable }).await
    }

    async fn crash(&self, key: &LrpKey, instance: &InstanceKey, reason: &str) -> Result<()> {
        self.run(Command::Crash {
            key: key.clone(),
            by: instance.clone(),
            reason: reason.to_owned(),
        })
        .await
    }

    async fn remove(&self, key: &LrpKey, instance: &InstanceKey) -> Result<()> {
        self.run(Command::Remove(key.clone(), instance.clone())).await
    }

    async fn evacuate(
        &self,
        key: &LrpKey,
        instance: &InstanceKey,
        evacuation: Evacuation,
    ) -> Result<Keep> {
        match self.ask(Command::Evacuate(key.clone(), instance.clone(), evacuation)).await? {
            Answer::Keep(Keep::Keep) => Ok(Keep::Keep),
            _ => {
                self.inner.emitter.settled().await;
                Ok(Keep::Delete)
            }
        }
    }

    async fn desire_task(
        &self,
        guid: &TaskGuid,
        domain: &Domain,
        definition: TaskDefinition,
    ) -> Result<()> {
        let (guid, domain, definition) = (guid.clone(), domain.clone(), Box::new(definition));
        self.run(Command::DesireTask { guid, domain, definition }).await
    }

    async fn task(&self, guid: &TaskGuid) -> Result<Task> {
        let found = self.read(|state| state.task(guid).cloned()).await?;
        let missing = || {
            BbsError::new(ErrorKind::ResourceNotFound, format!("the task {guid} does not exist"))
        };
        found.map(|task| Task::clone(&task)).ok_or_else(missing)
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>> {
        self.read(|state| state.tasks(filter)).await
    }

    async fn start_task(&self, guid: &TaskGuid, by: &Attempt) -> Result<bool> {
        Ok(self.ask(Command::StartTask(guid.clone(), by.clone())).await? == Answer::Granted(true))
    }

    async fn complete_task(
        &self,
        guid: &TaskGuid,
        by: &Attempt,
        failure: Option<&str>,
        result: &str,
    ) -> Result<()> {
        let (guid, by) = (guid.clone(), by.clone());
        let (failure, result) = (failure.map(str::to_owned), result.to_owned());
        self.run(Command::CompleteTask { guid, by, failure, result }).await
    }

    async fn reject_task(&self, guid: &TaskGuid, by: &Attempt, reason: &str) -> Result<()> {
        self.run(Command::RejectTask {
            guid: guid.clone(),
            by: Some(by.clone()),
            reason: reason.to_owned(),
        })
        .await
    }

    async fn cancel_task(&self, guid: &TaskGuid) -> Result<()> {
        self.run(Command::CancelTask(guid.clone())).await
    }

    async fn resolve_task(&self, guid: &TaskGuid) -> Result<()> {
        self.run(Command::ResolveTask(guid.clone())).await
    }

    async fn delete_task(&self, guid: &TaskGuid) -> Result<()> {
        self.run(Command::DeleteTask(guid.clone())).await
    }

    async fn announce(&self, presence: &CellPresence, ttl: Duration) -> Result<()> {
        let now = self.inner.clock.now();
        self.leads()?;
        // The usual heartbeat changes nothing but a time, which is not stored.
        if self.inner.state.write().renew(presence, now, now + ttl) {
            return Ok(());
        }
        self.run(Command::Announce(presence.clone(), ttl)).await
    }

    async fn retract(&self, cell: &CellId) -> Result<()> {
        self.run(Command::Retract(cell.clone())).await
    }

    async fn cells(&self) -> Result<Vec<CellPresence>> {
        let now = self.inner.clock.now();
        self.read(|state| {
            state.present(now).map(|presence| CellPresence::clone(presence)).collect()
        })
        .await
    }

    async fn hold_layers(&self, cell: &CellId, layers: &[String]) -> Result<()> {
        self.leads()?;
        self.inner.auctioneer.hold_layers(cell, layers);
        Ok(())
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        self.leads()?;
        Ok(self.inner.hub.subscribe())
    }
}
