//! What the brain believes of the cells: what each has free, from what it said last and what was committed since.
//! It may be wrong for a while; a cell takes no more than it has room for, and is asked anew when it refuses.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auction::{Holding, Outcome, Weights};
use base::Timestamp;
use diego::cell::Resources;
use diego::{CellId, CellPresence, CellState, ProcessGuid, TaskGuid, Work};

use crate::state::Slot;

/// What a commit changed on a cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Move {
    /// An instance is with a cell from now on; it runs already or not.
    Entered {
        slot: Slot,
        cell: CellId,
        resources: Option<Resources>,
        runs: bool,
    },
    /// A claimed instance runs.
    Started(CellId),
    /// `None`: how much it took is not known.
    Left {
        process: ProcessGuid,
        cell: CellId,
        resources: Option<Resources>,
        ran: bool,
    },
    /// Nobody waits for it any more: whichever cell makes it will be refused.
    Dropped(Slot),
    TaskEntered {
        guid: TaskGuid,
        cell: CellId,
        resources: Resources,
    },
    TaskLeft {
        cell: CellId,
        resources: Resources,
    },
    TaskDropped(TaskGuid),
    CellGone(CellId),
}

pub(crate) struct Floor {
    index: auction::Floor,
    known: HashMap<CellId, Known>,
    /// Work that was given to a cell which has not claimed it yet.
    flying: HashMap<Slot, Flight>,
    flying_tasks: HashMap<TaskGuid, Flight>,
    /// Cells that did not answer, and until when nobody waits for them again.
    silent: HashMap<CellId, Instant>,
    /// What flew to a cell that is gone.
    stranded: (Vec<Slot>, Vec<TaskGuid>),
}

/// What a cell said of itself, and when.
struct Known {
    presence: Arc<CellPresence>,
    asked: Timestamp,
}

struct Flight {
    cell: CellId,
    resources: Resources,
}

impl Floor {
    pub fn new(weights: &Weights) -> Floor {
        Floor {
            index: auction::Floor::new(weights),
            known: HashMap::new(),
            flying: HashMap::new(),
            flying_tasks: HashMap::new(),
            silent: HashMap::new(),
            stranded: Default::default(),
        }
    }

    /// How many cells take part.
    pub fn cells(&self) -> usize {
        self.known.len()
    }

    /// Those of `present` of which nothing is known, or whose offer has changed. All others leave the floor.
    pub fn unknown(&mut self, present: &[Arc<CellPresence>]) -> Vec<Arc<CellPresence>> {
        let here: HashSet<_> = present.iter().map(|presence| &presence.cell_id).collect();
        let gone: Vec<_> = self.known.keys().filter(|id| !here.contains(id)).cloned().collect();
        gone.iter().for_each(|id| self.doubt(id));
        let known = |presence: &Arc<CellPresence>| {
            self.known.get(&presence.cell_id).is_some_and(|known| known.presence == *presence)
        };
        present.iter().filter(|presence| !known(presence)).cloned().collect()
    }

    /// Nobody waits for this cell for so long, as long as there are others.
    pub fn silent(&mut self, cell: CellId, span: Duration) {
        self.silent.insert(cell, Instant::now() + span);
    }

    pub fn not_silent(&self, mut cells: Vec<Arc<CellPresence>>) -> Vec<Arc<CellPresence>> {
        let now = Instant::now();
        cells.retain(|cell| self.silent.get(&cell.cell_id).is_none_or(|until| *until <= now));
        cells
    }

    /// The cells that were not asked since `before`, the longest ago first, at most so many.
    pub fn oldest(&self, before: Timestamp, most: usize) -> Vec<Arc<CellPresence>> {
        let mut old: Vec<_> = self.known.values().filter(|known| known.asked < before).collect();
        old.sort_by_key(|known| known.asked);
        old.into_iter().take(most).map(|known| known.presence.clone()).collect()
    }

    /// A cell's own word. What flies to it and has not arrived is taken off.
    pub fn set(&mut self, presence: Arc<CellPresence>, state: &CellState, now: Timestamp) {
        let id = presence.cell_id.clone();
        self.index.update_cell(state);
        let lrps: HashSet<_> =
            state.lrps.iter().map(|held| (&held.key.process_guid, held.key.index)).collect();
        for ((process, index), flight) in &self.flying {
            if flight.cell == id && !lrps.contains(&(process, *index)) {
                self.index.hold(&id, Holding::Lrp(process), &flight.resources, true);
            }
        }
        for (guid, flight) in &self.flying_tasks {
            if flight.cell == id && state.tasks.iter().all(|held| held.task_guid != *guid) {
                self.index.hold(&id, Holding::Task, &flight.resources, true);
            }
        }
        self.silent.remove(&id);
        self.known.insert(id, Known { presence, asked: now });
    }

    /// A cell of which nothing is known is asked for all it has before it gets work.
    pub fn set_layers(&mut self, cell: &CellId, layers: &[String]) {
        self.index.set_layers(cell, layers);
    }

    /// The cell must be asked before it gets more.
    pub fn doubt(&mut self, cell: &CellId) {
        self.known.remove(cell);
        self.index.remove_cell(cell);
    }

    /// Places work; what has a place is on its way from now on.
    pub fn place(&mut self, work: Work) -> Outcome {
        // Offered again: wherever it was sent before, it has not arrived.
        for start in &work.lrps {
            self.back(&(start.desired.process_guid.clone(), start.index));
        }
        for task in &work.tasks {
            self.task_back(&task.task_guid);
        }
        let outcome = self.index.place(work);
        for (cell, work) in &outcome.placed {
            for start in &work.lrps {
                let slot = (start.desired.process_guid.clone(), start.index);
                let resources = Resources::of(&start.desired.run);
                self.flying.insert(slot, Flight { cell: cell.clone(), resources });
            }
            for task in &work.tasks {
                let resources = Resources::of(&task.definition.run);
                let flight = Flight { cell: cell.clone(), resources };
                self.flying_tasks.insert(task.task_guid.clone(), flight);
            }
        }
        outcome
    }

    /// What must be offered again, for its cell went before it claimed it.
    pub fn stranded(&mut self) -> (Vec<Slot>, Vec<TaskGuid>) {
        std::mem::take(&mut self.stranded)
    }

    /// It flies no more and did not arrive.
    pub fn back(&mut self, slot: &Slot) {
        if let Some(flight) = self.flying.remove(slot) {
            self.index.release(&flight.cell, Holding::Lrp(&slot.0), &flight.resources, true);
        }
    }

    pub fn task_back(&mut self, guid: &TaskGuid) {
        if let Some(flight) = self.flying_tasks.remove(guid) {
            self.index.release(&flight.cell, Holding::Task, &flight.resources, true);
        }
    }

    pub fn apply(&mut self, change: Move) {
        match change {
            Move::Entered { slot, cell, resources, runs } => {
                self.entered(&slot, &cell, resources);
                if runs {
                    self.index.started(&cell);
                }
            }
            Move::Started(cell) => self.index.started(&cell),
            Move::Left { process, cell, resources: Some(resources), ran } => {
                self.index.release(&cell, Holding::Lrp(&process), &resources, !ran);
            }
            Move::Left { cell, resources: None, .. } => self.doubt(&cell),
            Move::CellGone(cell) => {
                self.doubt(&cell);
                self.silent.remove(&cell);
                let to_it = |flight: &Flight| flight.cell == cell;
                let lrps = self.flying.extract_if(|_, flight| to_it(flight));
                self.stranded.0.extend(lrps.map(|(slot, _)| slot));
                let tasks = self.flying_tasks.extract_if(|_, flight| to_it(flight));
                self.stranded.1.extend(tasks.map(|(guid, _)| guid));
            }
            Move::Dropped(slot) => self.back(&slot),
            Move::TaskEntered { guid, cell, resources } => {
                let flight = self.flying_tasks.remove(&guid);
                if flight.as_ref().is_none_or(|flight| flight.cell != cell) {
                    self.index.hold(&cell, Holding::Task, &resources, true);
                    if let Some(flight) = flight {
                        self.index.release(&flight.cell, Holding::Task, &flight.resources, true);
                    }
                }
                self.index.started(&cell);
            }
            Move::TaskLeft { cell, resources } => {
                self.index.release(&cell, Holding::Task, &resources, false);
            }
            Move::TaskDropped(guid) => self.task_back(&guid),
        }
    }

    /// Where it was expected, nothing changes.
    fn entered(&mut self, slot: &Slot, cell: &CellId, resources: Option<Resources>) {
        if self.flying.get(slot).is_some_and(|flight| flight.cell == *cell) {
            self.flying.remove(slot);
            return;
        }
        self.back(slot);
        match resources {
            Some(resources) => {
                self.index.hold(cell, Holding::Lrp(&slot.0), &resources, true);
            }
            None => self.doubt(cell),
        }
    }
}

#[cfg(test)]
mod tests;
