//! The cell as a whole: its parts, its loops, its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, CancellationToken, Poke, TaskTracker};
use diego::cell::{LrpHeld, Resources, TaskHeld};
use diego::{Bbs, CellPresence, CellState, InstanceKey};
use executor::{Executor, State};
use garden::Handle;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::Config;
use crate::lanes::Lanes;
use crate::owner::Owner;
use crate::work::{Pending, Seen};

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
    pub(crate) seen: Mutex<HashMap<Handle, Seen>>,
    pub(crate) mode: watch::Sender<Mode>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    announce: Poke,
}

impl Rep {
    pub fn new(config: Config, bbs: Arc<dyn Bbs>, executor: Arc<Executor>) -> Arc<Rep> {
        Arc::new(Rep {
            config,
            bbs,
            executor,
            lanes: Lanes::default(),
            pending: Mutex::default(),
            seen: Mutex::default(),
            mode: watch::channel(Mode::Starting).0,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            announce: Poke::default(),
        })
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

    async fn keep_announced(self: Arc<Self>, stop: CancellationToken) {
        let timings = self.config.timings.clone();
        let mut backoff = Backoff::new(timings.first_retry, timings.announce);
        loop {
            let wait = match self.bbs.announce(&self.presence(), timings.presence_ttl).await {
                Ok(()) => {
                    backoff.reset();
                    timings.announce
                }
                Err(error) => {
                    warn!(cell.id = %self.config.cell_id, %error, "the brain did not hear that this cell lives");
                    backoff.step()
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.announce.poked() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn keep_compared(self: Arc<Self>, stop: CancellationToken) {
        let timings = self.config.timings.clone();
        let mut backoff = Backoff::new(timings.first_retry, timings.reconcile);
        loop {
            let wait = match self.compare().await {
                Ok(()) => {
                    backoff.reset();
                    timings.reconcile
                }
                Err(error) => {
                    warn!(cell.id = %self.config.cell_id, error = %format!("{error:#}"), "left for the next comparison");
                    backoff.step()
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
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
        self.until_empty().await;
        let retract = self.bbs.retract(&self.config.cell_id);
        if !matches!(tokio::time::timeout(GOODBYE, retract).await, Ok(Ok(()))) {
            warn!(cell.id = %self.config.cell_id, "the brain did not hear that this cell goes");
        }
    }

    pub(crate) async fn until_empty(&self) {
        let mut changes = self.executor.subscribe();
        while !self.executor.list().is_empty() {
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
            volume_drivers: Vec::new(),
            evacuating: self.mode() != Mode::Open,
        }
    }

    /// `None` while the cell cannot tell.
    pub(crate) fn state(&self) -> Option<CellState> {
        if self.mode() == Mode::Starting {
            return None;
        }
        let (mut lrps, mut tasks, mut starting) = (vec![], vec![], 0);
        for container in self.executor.list() {
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
        Some(CellState {
            presence: self.presence(),
            available,
            lrps,
            tasks,
            starting,
            layers: Vec::new(),
        })
    }
}

/// One container is kept back.
fn advertised(resources: Resources) -> Resources {
    Resources { containers: resources.containers.saturating_sub(1), ..resources }
}
