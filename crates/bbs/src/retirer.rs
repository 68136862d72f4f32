//! Sees retired instances off: out of every router's table first, then stopped. The record goes when the cell reports
//! the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, CancellationToken, TaskTracker};
use diego::{Cell, CellId, InstanceGuid};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::cells::Cells;
use crate::config::Timings;
use crate::emitter::Emitter;
use crate::lease::Lease;
use crate::state::{Retirement, State};

/// Stops that one cell is asked for at once: a cell that does not answer holds up only its own.
const STOPS: usize = 16;
/// Tries in a row; after that convergence asks again.
const TRIES: usize = 5;

pub(crate) struct Retirer {
    state: Arc<RwLock<State>>,
    cells: Arc<Cells>,
    emitter: Arc<Emitter>,
    timings: Timings,
    lease: Arc<Lease>,
    stop: CancellationToken,
    tasks: TaskTracker,
    active: Mutex<BTreeSet<InstanceGuid>>,
    turns: Mutex<BTreeMap<CellId, Arc<Semaphore>>>,
}

impl Retirer {
    pub fn new(
        state: Arc<RwLock<State>>,
        cells: Arc<Cells>,
        emitter: Arc<Emitter>,
        timings: Timings,
        lease: Arc<Lease>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Retirer {
        let (active, turns) = (Mutex::default(), Mutex::default());
        Retirer { state, cells, emitter, timings, lease, stop, tasks, active, turns }
    }

    /// Begins, unless it is under way.
    pub fn retire(self: &Arc<Self>, guid: InstanceGuid) {
        if !self.active.lock().insert(guid.clone()) {
            return;
        }
        let me = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = me.see_off(&guid) => {}
                () = me.stop.cancelled() => {}
            }
            me.active.lock().remove(&guid);
        });
    }

    async fn see_off(&self, guid: &InstanceGuid) {
        self.emitter.settled().await;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        for _ in 0..TRIES {
            let Some((retirement, cell)) = self.pending(guid) else { return };
            let turns = self.turns(&retirement.instance.cell_id);
            self.lease.held(&self.stop).await;
            let turn = turns.acquire().await.expect("the semaphore is never closed");
            let stop = cell.stop_lrp(&retirement.key.process_guid, guid);
            match tokio::time::timeout(self.timings.cell_timeout, stop).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    warn!(instance.guid = %guid, %error, "the cell was not told to stop an instance")
                }
                Err(_) => {
                    warn!(instance.guid = %guid, "the cell did not take note of a stop in time")
                }
            }
            drop(turn);
            tokio::time::sleep(backoff.step()).await;
        }
    }

    fn turns(&self, cell: &CellId) -> Arc<Semaphore> {
        self.turns
            .lock()
            .entry(cell.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(STOPS)))
            .clone()
    }

    /// A cell that went: whoever still waits for a turn goes on with the old count.
    pub fn forget(&self, cell: &CellId) {
        self.turns.lock().remove(cell);
    }

    /// `None` when it is over, or its cell is gone and convergence deals with it.
    fn pending(&self, guid: &InstanceGuid) -> Option<(Arc<Retirement>, Arc<dyn Cell>)> {
        let retirement = self.state.read().retirement(guid)?.clone();
        let cell = self.cells.reach(&retirement.instance.cell_id)?;
        Some((retirement, cell))
    }
}
