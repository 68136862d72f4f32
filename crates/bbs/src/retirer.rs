//! Sees retired instances off: out of every router's table first, then stopped. The record goes when the cell reports
//! the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, CancellationToken, TaskTracker};
use diego::{Cell, InstanceGuid};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::cells::Cells;
use crate::config::Timings;
use crate::emitter::Emitter;
use crate::state::{Retirement, State};

/// Stops under way at once.
const STOPS: usize = 64;
/// Tries in a row; after that convergence asks again.
const TRIES: usize = 5;

pub(crate) struct Retirer {
    state: Arc<RwLock<State>>,
    cells: Arc<Cells>,
    emitter: Arc<Emitter>,
    timings: Timings,
    stop: CancellationToken,
    tasks: TaskTracker,
    active: Mutex<BTreeSet<InstanceGuid>>,
    stops: Semaphore,
}

impl Retirer {
    pub fn new(
        state: Arc<RwLock<State>>,
        cells: Arc<Cells>,
        emitter: Arc<Emitter>,
        timings: Timings,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Retirer {
        let (active, stops) = (Mutex::default(), Semaphore::new(STOPS));
        Retirer { state, cells, emitter, timings, stop, tasks, active, stops }
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
        let _turn = self.stops.acquire().await.expect("the semaphore is never closed");
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        for _ in 0..TRIES {
            let Some((retirement, cell)) = self.pending(guid) else { return };
            let stop = cell.stop_lrp(&retirement.key.process_guid, guid);
            match tokio::time::timeout(self.timings.cell_timeout, stop).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => warn!(instance.guid = %guid, %error, "the cell was not told to stop an instance"),
                Err(_) => warn!(instance.guid = %guid, "the cell did not take note of a stop in time"),
            }
            tokio::time::sleep(backoff.step()).await;
        }
    }

    /// `None` when it is over, or its cell is gone and convergence deals with it.
    fn pending(&self, guid: &InstanceGuid) -> Option<(Arc<Retirement>, Arc<dyn Cell>)> {
        let retirement = self.state.read().retirement(guid)?.clone();
        let cell = self.cells.reach(&retirement.instance.cell_id)?;
        Some((retirement, cell))
    }
}
