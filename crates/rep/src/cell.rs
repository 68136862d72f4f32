//! The cell as a whole: its parts, its loops, its end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, CancellationToken, Poke, TaskTracker};
use diego::cell::{LrpHeld, Resources, TaskHeld};
use diego::{Bbs, CellPresence, CellState, InstanceKey};
use executor::{Container, Executor, State};
use futures::future::join_all;
use garden::Handle;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use crate::book::Book;
use crate::config::Config;
use crate::crashed;
use crate::gate::Guard;
use crate::lanes::Lanes;
use crate::owner::Owner;
use crate::presence::Lease;
use crate::work::Pending;

/// How long a brain may take to hear that a cell goes.
const GOODBYE: Duration = Duration::from_secs(2);

/// Whether the cell takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What an earlier life left is being taken up.
    Starting,
    Open,
    /// Instances move elsewhere; none comes.
    Evacuating,
    /// Everything is being stopped, perhaps because evacuation took too long.
    Closing {
        evacuated: bool,
    },
}

/// A cell. It lives while [`Rep::run`] does.
pub struct Rep {
    pub(crate) config: Config,
    pub(crate) bbs: Arc<dyn Bbs>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) lanes: Lanes,
    /// Work that is reserved and not begun.
    pub(crate) pending: Mutex<HashMap<Handle, Pending>>,
    /// What the brain is known to know of a container.
    pub(crate) book: Book,
    pub(crate) mode: watch::Sender<Mode>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) announce: Poke,
    pub(crate) lease: Lease,
    /// In which term of the lease the run of a task was granted.
    pub(crate) grants: Mutex<HashMap<Handle, u64>>,
    /// Containers of tasks for which this life asked for the run.
    pub(crate) asked: Mutex<HashSet<Handle>>,
    /// The cell is there, again or for the first time.
    pub(crate) returned: Poke,
    /// Announcements end.
    pub(crate) farewell: CancellationToken,
    /// Turns of those who read files of crashed instances.
    pub(crate) readers: Arc<Semaphore>,
    /// The way to the brain that only announcements take.
    pub(crate) heart: Option<Arc<dyn Bbs>>,
}

impl Rep {
    /// Announcements go the same way as everything else.
    pub fn new(config: Config, bbs: Arc<dyn Bbs>, executor: Arc<Executor>) -> Arc<Rep> {
        Rep::build(config, bbs, None, executor)
    }

    /// Announcements are made by a thread of their own and go by `heart`, whose connections nobody else uses: nothing
    /// this program does keeps the brain from hearing that the cell lives.
    pub fn with_heart(
        config: Config,
        bbs: Arc<dyn Bbs>,
        heart: Arc<dyn Bbs>,
        executor: Arc<Executor>,
    ) -> Arc<Rep> {
        Rep::build(config, bbs, Some(heart), executor)
    }

    fn build(
        config: Config,
        bbs: Arc<dyn Bbs>,
        heart: Option<Arc<dyn Bbs>>,
        executor: Arc<Executor>,
    ) -> Arc<Rep> {
        let rep = Arc::new(Rep {
            config,
            bbs,
            heart,
            executor,
            lease: Lease::default(),
            grants: Mutex::default(),
            asked: Mutex::default(),
            returned: Poke::default(),
            farewell: CancellationToken::new(),
            readers: Arc::new(Semaphore::new(crashed::READERS)),
            lanes: Lanes::default(),
            pending: Mutex::default(),
            book: Book::default(),
            mode: watch::channel(Mode::Starting).0,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            announce: Poke::default(),
        });
        rep.executor.guard(Arc::new(Guard(Arc::downgrade(&rep))));
        rep
    }

    /// Takes up what an earlier life left, announces the cell and looks after it until `stop`. Containers run on: for
    /// them to go, [`Rep::evacuate`] or [`Rep::clear`] comes first.
    pub async fn run(self: &Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        // Before the first change, so that none is missed.
        let changes = self.executor.subscribe();
        self.recover(&stop).await;
        if !stop.is_cancelled() {
            self.mode.send_if_modified(|mode| {
                let starting = *mode == Mode::Starting;
                if starting {
                    *mode = Mode::Open;
                }
                starting
            });
            // What an earlier life left is told at once, whatever the brain knows of it.
            self.poke_all();
            let executor = self.executor.clone();
            tokio::join!(
                executor.serve(stop.clone()),
                self.clone().listen(changes, stop.clone()),
                self.clone().keep_announced(stop.clone()),
                self.clone().keep_layers_told(stop.clone()),
                self.clone().keep_compared(stop.clone()),
                self.clone().watch_evacuation(stop.clone()),
            );
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }

    async fn recover(&self, stop: &CancellationToken) {
        let mut backoff =
            Backoff::new(self.config.timings.first_retry, self.config.timings.last_retry);
        while let Err(error) = self.executor.recover().await {
            warn!(cell.id = %self.config.cell_id, error = %format!("{error:#}"), "the cell cannot begin yet");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(backoff.step()) => {}
            }
        }
    }

    /// Each change of a container is acted upon at once.
    async fn listen(
        self: Arc<Self>,
        mut changes: tokio::sync::broadcast::Receiver<Handle>,
        stop: CancellationToken,
    ) {
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
            };
            match change {
                Ok(guid) => self.poke(&guid),
                Err(RecvError::Lagged(_)) => self.poke_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn keep_compared(self: Arc<Self>, stop: CancellationToken) {
        let timings = self.config.timings.clone();
        let mut backoff = Backoff::new(timings.first_retry, timings.reconcile);
        // After a time without a lease the brain's records go on changing for a moment.
        let mut soon = Backoff::new(timings.first_retry.min(timings.reconcile), timings.reconcile);
        loop {
            let compared = tokio::select! {
                compared = self.compare() => compared,
                // Whatever was asked before is answered by nobody.
                () = self.lease.next_term() => continue,
                () = stop.cancelled() => return,
            };
            let wait = match compared {
                Ok(()) => {
                    backoff.reset();
                    soon.step()
                }
                Err(error) => {
                    warn!(cell.id = %self.config.cell_id, error = %format!("{error:#}"), "left for the next comparison");
                    backoff.step()
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.returned.poked() => soon.reset(),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    /// Work is refused from here on, and the brain hears of it at once.
    pub(crate) fn enter(&self, mode: Mode) {
        info!(cell.id = %self.config.cell_id, ?mode, "the cell takes no more work");
        self.mode.send_replace(mode);
        self.announce.poke();
    }

    /// Stops every container and removes it; instances are wanted elsewhere, or here at the next start. Returns when
    /// all are gone, or could not be made to go.
    pub async fn clear(self: &Arc<Self>) {
        self.enter(Mode::Closing { evacuated: matches!(self.mode(), Mode::Evacuating) });
        for container in self.executor.list() {
            self.executor.stop(&container.guid);
            self.poke(&container.guid);
        }
        self.executor.clear_crashed().await;
        tokio::select! {
            () = self.until_empty() => {}
            () = self.until_nobody_listens() => self.clear_by_force().await,
            () = tokio::time::sleep(self.config.timings.closing) => self.clear_by_force().await,
        }
        // Whoever has said goodbye says nothing more.
        self.farewell.cancel();
        let retract = self.bbs.retract(&self.config.cell_id);
        if !matches!(tokio::time::timeout(GOODBYE, retract).await, Ok(Ok(()))) {
            warn!(cell.id = %self.config.cell_id, "the brain did not hear that this cell goes");
        }
    }

    /// Without the brain, which does not answer, or against a container that resists.
    async fn clear_by_force(&self) {
        let left = self.executor.list();
        warn!(cell.id = %self.config.cell_id, left = left.len(), "removing containers without telling the brain");
        let gone = left.iter().map(|container| self.executor.delete(&container.guid));
        let _ = tokio::time::timeout(self.config.timings.closing, join_all(gone)).await;
    }

    pub(crate) async fn until_empty(&self) {
        self.until(|containers| containers.is_empty()).await;
    }

    /// All processes have ended, and the brain that would be told counts this cell as lost.
    async fn until_nobody_listens(&self) {
        let has_ended = |one: &Container| matches!(one.state, State::Completed(_));
        self.until(|containers| containers.iter().all(has_ended)).await;
        self.lease.lapsed().await;
    }

    async fn until(&self, reached: impl Fn(&[Container]) -> bool) {
        let mut changes = self.executor.subscribe();
        while !reached(&self.executor.list()) {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = changes.recv() => {}
            }
        }
    }

    pub(crate) fn instance(&self, owner: &Owner) -> Option<InstanceKey> {
        match owner {
            Owner::Lrp { instance_guid, .. } => Some(InstanceKey {
                instance_guid: instance_guid.clone(),
                cell_id: self.config.cell_id.clone(),
            }),
            Owner::Task { .. } => None,
        }
    }

    pub(crate) fn presence(&self) -> CellPresence {
        CellPresence {
            cell_id: self.config.cell_id.clone(),
            rep_url: self.config.rep_url.clone(),
            zone: self.config.zone.clone(),
            capacity: advertised(self.executor.total()),
            stacks: self.config.stacks.clone(),
            placement_tags: self.config.placement_tags.clone(),
            optional_placement_tags: self.config.optional_placement_tags.clone(),
            volume_drivers: self.executor.volume_drivers(),
            evacuating: self.mode() != Mode::Open,
        }
    }

    /// `None` while the cell cannot tell.
    pub(crate) fn state(&self) -> Option<CellState> {
        if self.mode() == Mode::Starting {
            return None;
        }
        let (mut lrps, mut tasks, mut starting) = (vec![], vec![], 0);
        // What is completed is about to go, and keeps nobody from coming.
        let here = self.executor.list().into_iter();
        for container in here.filter(|one| !matches!(one.state, State::Completed(_))) {
            starting += u32::from(matches!(
                container.state,
                State::Reserved | State::Initializing | State::Created
            ));
            let resources = container.resources;
            match Owner::of(&container.owner) {
                Some(Owner::Lrp { key, instance_guid, .. }) => {
                    lrps.push(LrpHeld { key, instance_guid, resources })
                }
                Some(Owner::Task { guid, .. }) => {
                    tasks.push(TaskHeld { task_guid: guid, resources })
                }
                None => {}
            }
        }
        let available = advertised(self.executor.remaining());
        let (presence, layers) = (self.presence(), self.executor.layers());
        Some(CellState { presence, available, lrps, tasks, starting, layers })
    }
}

/// One container is kept back.
fn advertised(resources: Resources) -> Resources {
    Resources { containers: resources.containers.saturating_sub(1), ..resources }
}
