//! Auctions in batches: requests gather while a round runs. A round asks the cells of which nothing is known, places
//! all work at once by what is believed of the others, and gives each cell its part.

mod ask;
mod asking;
mod floor;
mod lot;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use base::{CancellationToken, Poke, TaskTracker, Timestamp};
use diego::bbs::ErrorKind;
use diego::cell::{LrpStart, Refused};
use diego::{BbsError, CellId, TaskGuid, Work};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};

use crate::cells::Cells;
use crate::config::Timings;
use crate::decide::Command;
use crate::lease::Lease;
use crate::state::{Slot, State};
use crate::writer::Job;

pub(crate) use asking::{Asking, MORE_TRIES};
pub(crate) use floor::{Floor, Move};
pub(crate) use lot::Lot;
pub(crate) use requests::{Requests, Unplaced};

/// Changes of cells that wait for the next round; with more than these one is run for them alone.
const MOVES: usize = 16_384;
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
    pub asking: Arc<Semaphore>,
    pub poke: Poke,
}

impl Auctioneer {
    pub fn request(&self, lrps: Vec<Slot>, tasks: Vec<TaskGuid>) {
        if lrps.is_empty() && tasks.is_empty() {
            return;
        }
        self.requests.lock().add(lrps, tasks);
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

    /// Whoever looks at the floor knows all that was committed.
    fn catch_up(&self, floor: &mut Floor) {
        self.take_in_layers(floor);
        for change in std::mem::take(&mut *self.moves.lock()) {
            floor.apply(change);
        }
        let (lrps, tasks) = floor.stranded();
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
        let began = Instant::now();
        self.catch_up(&mut self.floor.lock());
        let mut lot = Lot::of(&self.state.read(), &requests, now);
        if lot.count() == 0 {
            return;
        }
        if ask::the_unknown(self, &lot.present).await {
            self.catch_up(&mut self.floor.lock());
            lot = Lot::of(&self.state.read(), &requests, now);
        }
        let (count, newest_cell) = (lot.count(), lot.newest_cell);
        let outcome = if count > LONG {
            let me = self.clone();
            let place = move || me.floor.lock().place(lot.work);
            tokio::task::spawn_blocking(place).await.expect("an auction does not panic")
        } else {
            self.floor.lock().place(lot.work)
        };
        let cells = self.floor.lock().cells();
        info!(work = count, cells, placed_on = outcome.placed.len(), "auction");
        let unplaced = Unplaced { lrps: outcome.failed_lrps, tasks: outcome.failed_tasks };
        self.settle(&requests, unplaced, newest_cell, began).await;
        self.hand_out(outcome.placed, requests).await;
        ask::the_due(self);
    }

    /// What found no place is tried again when there may be more room than was believed: a cell has come, or one must be
    /// asked first.
    async fn settle(
        &self,
        tried: &Requests,
        unplaced: Unplaced,
        newest_cell: Timestamp,
        began: Instant,
    ) {
        if unplaced.lrps.is_empty() && unplaced.tasks.is_empty() {
            return;
        }
        let more_room =
            self.floor.lock().doubt_unsure(began) || self.state.read().newest_cell() > newest_cell;
        let record = self.requests.lock().settle(tried, unplaced, !more_room);
        self.tell(record).await;
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
        let refused = match done {
            Ok(Ok(refused)) => refused,
            Ok(Err(error)) => {
                warn!(cell.id = %id, %error, "a cell did not take its work");
                Refused { lrps, tasks }
            }
            Err(_) => {
                warn!(cell.id = %id, "a cell did not take its work in time");
                Refused { lrps, tasks }
            }
        };
        let record = {
            let mut floor = self.floor.lock();
            self.requests.lock().handed(&mut floor, &requests, &id, refused)
        };
        self.tell(record).await;
    }

    /// Records why work found no place, and looks for some again where that is worth a try.
    async fn tell(&self, record: Vec<Command>) {
        if !self.requests.lock().is_empty() {
            self.poke.poke();
        }
        for command in record {
            match &command {
                Command::FailLrp(key, why) => {
                    info!(process.guid = %key.process_guid, index = key.index, why, "no place for an instance");
                }
                Command::RejectTask { guid, reason, .. } => {
                    info!(task.guid = %guid, reason, "no place for a task");
                }
                _ => {}
            }
            // The writer is gone only when the brain stops; convergence finds the work again at the next start.
            let _ = self.jobs.send(Job { command, reply: None }).await;
        }
    }
}
