//! Auctions in batches: requests gather while a round runs. A round asks the cells of which nothing is known, places
//! all work at once by what is believed of the others, and gives each cell its part.

mod ask;
mod floor;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use auction::Outcome;
use base::{CancellationToken, Poke, TaskTracker, Timestamp};
use diego::actual_lrp::State as LrpState;
use diego::bbs::ErrorKind;
use diego::cell::{LrpStart, Refused};
use diego::task::State as TaskState;
use diego::{BbsError, CellId, CellPresence, LrpKey, TaskGuid, Work};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};

use crate::cells::Cells;
use crate::config::Timings;
use crate::decide::Command;
use crate::lease::Lease;
use crate::state::{Slot, State};
use crate::writer::Job;

pub(crate) use floor::{Floor, Move};

/// Work that a cell did not take is offered again at once so often; after that convergence takes care.
const ATTEMPTS: u32 = 3;
/// Changes of cells that wait for the next round; with more than these one is run for them alone.
const MOVES: usize = 16_384;
/// How often a cell that refuses nothing is asked all the same, and how many at a time: what a cell holds is taken in
/// piece by piece, which costs more than the placements of a round.
const ASK_AGAIN: Duration = Duration::from_secs(300);
const ASK_AT_ONCE: usize = 8;
/// A cell may tell of so many image layers; more are not taken in.
const MOST_LAYERS: usize = 256;
/// Placing so much is no longer done between other tasks.
const LONG: usize = 10_000;

pub(crate) struct Auctioneer {
    pub state: Arc<RwLock<State>>,
    pub cells: Arc<Cells>,
    pub timings: Timings,
    pub jobs: mpsc::Sender<Job>,
    pub lease: Arc<Lease>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub requests: Mutex<Requests>,
    pub moves: Mutex<Vec<Move>>,
    /// What cells said of their image layers while work was being placed; the last word of each.
    pub layers: Mutex<HashMap<CellId, Vec<String>>>,
    pub floor: Mutex<Floor>,
    /// Ends the hand-outs to a cell that is gone.
    pub handing: Mutex<HashMap<CellId, CancellationToken>>,
    /// Held while cells are asked again.
    pub asking: Semaphore,
    pub poke: Poke,
}

/// What waits for the next round, each with how often it was tried before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    lrps: BTreeMap<Slot, u32>,
    tasks: BTreeMap<TaskGuid, u32>,
}

/// What a round goes by.
struct Lot {
    work: Work,
    present: Vec<Arc<CellPresence>>,
    newest_cell: Timestamp,
}

impl Auctioneer {
    pub fn request(&self, lrps: Vec<Slot>, tasks: Vec<TaskGuid>) {
        if lrps.is_empty() && tasks.is_empty() {
            return;
        }
        let mut requests = self.requests.lock();
        for slot in lrps {
            requests.lrps.entry(slot).or_insert(0);
        }
        for guid in tasks {
            requests.tasks.entry(guid).or_insert(0);
        }
        drop(requests);
        self.poke.poke();
    }

    /// What commits changed on cells, in their order.
    pub fn moved(&self, changes: Vec<Move>) {
        let mut urgent = false;
        for change in &changes {
            if let Move::CellGone(cell) = change {
                urgent = true;
                if let Some(hands) = self.handing.lock().remove(cell) {
                    hands.cancel();
                }
            }
        }
        let mut moves = self.moves.lock();
        moves.extend(changes);
        urgent |= moves.len() > MOVES;
        drop(moves);
        if urgent {
            self.poke.poke();
        }
    }

    /// What a cell holds of image layers, taken in at once unless work is being placed.
    pub fn hold_layers(&self, cell: &CellId, layers: &[String]) {
        let layers = &layers[..layers.len().min(MOST_LAYERS)];
        self.layers.lock().insert(cell.clone(), layers.to_vec());
        if let Some(mut floor) = self.floor.try_lock() {
            self.take_in_layers(&mut floor);
        }
    }

    fn take_in_layers(&self, floor: &mut Floor) {
        for (cell, layers) in std::mem::take(&mut *self.layers.lock()) {
            floor.set_layers(&cell, &layers);
        }
    }

    fn catch_up(&self) {
        let mut floor = self.floor.lock();
        self.take_in_layers(&mut floor);
        for change in std::mem::take(&mut *self.moves.lock()) {
            floor.apply(change);
        }
        let (lrps, tasks) = floor.stranded();
        drop(floor);
        self.request(lrps, tasks);
    }

    pub async fn run(self: Arc<Self>, clock: base::Clock) {
        loop {
            tokio::select! {
                () = self.poke.poked() => {}
                () = self.stop.cancelled() => return,
            }
            self.lease.held(&self.stop).await;
            let requests = std::mem::take(&mut *self.requests.lock());
            tokio::select! {
                () = self.round(requests, clock.now()) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn round(self: &Arc<Self>, requests: Requests, now: Timestamp) {
        self.catch_up();
        let lot = self.lot(&requests, now);
        if lot.work.lrps.is_empty() && lot.work.tasks.is_empty() {
            return;
        }
        ask::the_unknown(self, &lot.present, now).await;
        self.catch_up();
        let count = lot.work.lrps.len() + lot.work.tasks.len();
        let outcome = if count > LONG {
            let me = self.clone();
            let place = move || me.floor.lock().place(lot.work);
            tokio::task::spawn_blocking(place).await.expect("an auction does not panic")
        } else {
            self.floor.lock().place(lot.work)
        };
        let cells = self.floor.lock().cells();
        info!(work = count, cells, placed_on = outcome.placed.len(), "auction");
        let new_cells = self.state.read().newest_cell() > lot.newest_cell;
        let placed = self.refuse(outcome, &requests, new_cells).await;
        self.hand_out(placed, requests).await;
        ask::again(self, now);
    }

    /// Only what still waits: the rest was settled while the request lay.
    fn lot(&self, requests: &Requests, now: Timestamp) -> Lot {
        let state = self.state.read();
        let start = |(guid, index): &Slot| {
            let process = state.process(guid)?;
            let desired = process.desired.as_ref().filter(|desired| *index < desired.instances)?;
            let lrp = process.groups.get(index)?.ordinary.as_ref()?;
            matches!(lrp.state, LrpState::Unclaimed { .. })
                .then(|| LrpStart { index: *index, desired: desired.clone() })
        };
        let task = |guid| {
            state.task(guid).filter(|task| matches!(task.state, TaskState::Pending)).cloned()
        };
        let lrps = requests.lrps.keys().filter_map(start).collect();
        let work = Work { lrps, tasks: requests.tasks.keys().filter_map(task).collect() };
        let present = state.present(now).filter(|cell| !cell.evacuating).cloned().collect();
        Lot { work, present, newest_cell: state.newest_cell() }
    }

    /// Records why there was no place, unless a cell has come meanwhile: then it is tried again.
    async fn refuse(
        &self,
        outcome: Outcome,
        requests: &Requests,
        new_cells: bool,
    ) -> BTreeMap<CellId, Work> {
        for (key, why) in outcome.failed_lrps {
            let again = new_cells && self.again_lrp(&key, requests);
            if !again {
                info!(process.guid = %key.process_guid, index = key.index, why, "no place for an instance");
                self.tell(Command::FailLrp(key, why)).await;
            }
        }
        for (guid, reason) in outcome.failed_tasks {
            let again = new_cells && self.again_task(&guid, requests);
            if !again {
                info!(task.guid = %guid, reason, "no place for a task");
                self.tell(Command::RejectTask { guid, by: None, reason }).await;
            }
        }
        outcome.placed
    }

    /// Gives all cells their work at the same time. A slow cell is waited for no longer than patience allows; its
    /// answer is heard all the same.
    async fn hand_out(self: &Arc<Self>, placed: BTreeMap<CellId, Work>, requests: Requests) {
        let requests = Arc::new(requests);
        let hand = |(cell, work)| self.tasks.spawn(self.clone().hand(cell, work, requests.clone()));
        let all = futures::future::join_all(placed.into_iter().map(hand).collect::<Vec<_>>());
        // Whoever is still at it after that goes on by itself.
        let _ = tokio::time::timeout(self.timings.cell_patience, all).await;
    }

    async fn hand(self: Arc<Self>, id: CellId, work: Work, requests: Arc<Requests>) {
        let Some(cell) = self.cells.reach(&id) else {
            return self.floor.lock().doubt(&id);
        };
        let lrps: Vec<_> = work.lrps.iter().map(LrpStart::key).collect();
        let tasks: Vec<_> = work.tasks.iter().map(|task| task.task_guid.clone()).collect();
        let gone = self.handing.lock().entry(id.clone()).or_default().clone();
        let done = tokio::select! {
            done = tokio::time::timeout(self.timings.cell_timeout, cell.perform(work)) => done,
            () = gone.cancelled() => {
                Ok(Err(BbsError::new(ErrorKind::Unreachable, "the cell is gone")))
            }
        };
        let took =
            matches!(&done, Ok(Ok(refused)) if refused.lrps.is_empty() && refused.tasks.is_empty());
        if !took {
            self.floor.lock().doubt(&id);
        }
        let refused = match done {
            Ok(Ok(refused)) => refused,
            Ok(Err(error)) => {
                // Whether it acted is not known. A second start is harmless: the record goes to one cell only.
                warn!(cell.id = %id, %error, "a cell did not take its work");
                Refused { lrps, tasks }
            }
            Err(_) => {
                warn!(cell.id = %id, "a cell did not take its work in time");
                Refused { lrps, tasks }
            }
        };
        for key in refused.lrps {
            self.floor.lock().back(&(key.process_guid.clone(), key.index));
            if !self.again_lrp(&key, &requests) {
                let why = format!("insufficient resources (cell {id} handed the instance back)");
                self.tell(Command::FailLrp(key, why)).await;
            }
        }
        for guid in refused.tasks {
            self.floor.lock().task_back(&guid);
            if !self.again_task(&guid, &requests) {
                let reason = format!("insufficient resources (cell {id} handed the task back)");
                self.tell(Command::RejectTask { guid, by: None, reason }).await;
            }
        }
    }

    fn again_lrp(&self, key: &LrpKey, requests: &Requests) -> bool {
        let slot = (key.process_guid.clone(), key.index);
        let attempts = requests.lrps.get(&slot).map_or(1, |before| before + 1);
        if attempts < ATTEMPTS {
            self.requests.lock().lrps.insert(slot, attempts);
            self.poke.poke();
        }
        attempts < ATTEMPTS
    }

    fn again_task(&self, guid: &TaskGuid, requests: &Requests) -> bool {
        let attempts = requests.tasks.get(guid).map_or(1, |before| before + 1);
        if attempts < ATTEMPTS {
            self.requests.lock().tasks.insert(guid.clone(), attempts);
            self.poke.poke();
        }
        attempts < ATTEMPTS
    }

    async fn tell(&self, command: Command) {
        // The writer is gone only when the brain stops; convergence finds the work again at the next start.
        let _ = self.jobs.send(Job { command, reply: None }).await;
    }
}
