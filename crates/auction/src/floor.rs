//! The cells as an auction sees them, kept from one batch to the next: what is free on each, what it holds, and an
//! index that finds the best place without asking them all.

mod choose;
mod seats;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use diego::cell::Resources;
use diego::{CellId, CellPresence, CellState, ProcessGuid, Work};

use crate::crowd::{Crowd, Spot};
use crate::kind::Needs;
use crate::score;
use crate::shelves::Shelves;
use crate::{Item, Outcome, Weights, in_order};
use seats::{Group, GroupKey};

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding<'a> {
    Lrp(&'a ProcessGuid),
    Task,
}

/// Lives as long as the auctioneer: cells announce themselves and go, work is placed, held and released. The cost of a
/// placement does not grow with the number of cells.
///
/// It believes what it is told: whoever keeps it calls [`Floor::release`] once for whatever was placed or held, or
/// sets a cell straight with [`Floor::update_cell`].
#[derive(Clone, Debug)]
pub struct Floor {
    weights: Points,
    cells: Vec<Cell>,
    by_id: HashMap<CellId, u32>,
    unused: Vec<u32>,
    groups: Vec<Group>,
    by_key: HashMap<GroupKey, u32>,
    zones: HashMap<String, u32>,
    in_zone: Vec<BTreeSet<CellId>>,
    crowd: Crowd,
    shelves: Shelves,
    starting: u64,
    fit: HashMap<Needs, Arc<[u32]>>,
    looked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Points {
    starting: i64,
    sibling: i64,
    bin_pack: i64,
    layers: i64,
    most_starting: u64,
}

#[derive(Clone, Debug)]
struct Cell {
    id: CellId,
    spot: Spot,
    seat: u32,
    total: Resources,
    free: Resources,
    starting: u32,
    tasks: u32,
    rank_in_zone: u32,
    /// Processes by number, and their instances.
    held: Vec<(u32, u32)>,
    layers: Vec<Arc<str>>,
}

impl Floor {
    pub fn new(weights: &Weights) -> Floor {
        let weights = Points {
            starting: score::points(weights.starting),
            sibling: score::points(weights.sibling),
            bin_pack: score::points(weights.bin_pack),
            layers: score::points(weights.layers),
            most_starting: weights.most_starting,
        };
        Floor {
            weights,
            cells: Vec::new(),
            by_id: HashMap::new(),
            unused: Vec::new(),
            groups: Vec::new(),
            by_key: HashMap::new(),
            zones: HashMap::new(),
            in_zone: Vec::new(),
            crowd: Crowd::default(),
            shelves: Shelves::default(),
            starting: 0,
            fit: HashMap::new(),
            looked: 0,
        }
    }

    /// Sets a cell straight: all that was known of it is replaced. One that evacuates goes.
    pub fn update_cell(&mut self, state: &CellState) {
        self.update_cell_for(state, |_| true);
    }

    /// The same, but of instances only those count whose process is `relevant`.
    pub(crate) fn update_cell_for(
        &mut self,
        state: &CellState,
        relevant: impl Fn(&ProcessGuid) -> bool,
    ) {
        let Some(place) = self.enter(&state.presence) else { return };
        self.forget_held(place);
        for lrp in &state.lrps {
            if relevant(&lrp.key.process_guid) {
                self.count_lrp(place, &lrp.key.process_guid);
            }
        }
        let cell = &mut self.cells[place as usize];
        self.starting = self.starting - u64::from(cell.starting) + u64::from(state.starting);
        cell.free = state.available;
        cell.starting = state.starting;
        cell.tasks = u32::try_from(state.tasks.len()).unwrap_or(u32::MAX);
        self.shelves.replace(place, &mut cell.layers, &state.layers);
        self.seat(place);
    }

    /// A heartbeat: what the cell offers may have changed, what it holds has not. A new cell is empty; one that
    /// evacuates goes.
    pub fn announce(&mut self, presence: &CellPresence) {
        self.enter(presence);
    }

    /// What the cell says it holds of image layers.
    pub fn set_layers(&mut self, id: &CellId, layers: &[String]) {
        if let Some(&place) = self.by_id.get(id) {
            self.shelves.replace(place, &mut self.cells[place as usize].layers, layers);
        }
    }

    /// Takes a cell and all it holds away; whether it was there.
    pub fn remove_cell(&mut self, id: &CellId) -> bool {
        let Some(place) = self.by_id.remove(id) else { return false };
        self.forget_held(place);
        let cell = &mut self.cells[place as usize];
        self.shelves.replace(place, &mut cell.layers, &[]);
        self.starting -= u64::from(cell.starting);
        let spot = cell.spot;
        self.leave_group(place);
        self.unused.push(place);
        self.in_zone[spot.zone as usize].remove(id);
        self.rank(spot.zone);
        true
    }

    pub fn cells(&self) -> usize {
        self.by_id.len()
    }

    /// What is free on a cell, as far as is known here.
    pub fn free(&self, id: &CellId) -> Option<Resources> {
        self.by_id.get(id).map(|place| self.cells[*place as usize].free)
    }

    /// How many nodes of the index were looked at so far.
    pub fn looked(&self) -> u64 {
        self.looked
    }

    /// Places the work of one batch and takes the room it needs. The same index or task twice counts once.
    pub fn place(&mut self, work: Work) -> Outcome {
        let mut placed: HashMap<u32, Work> = HashMap::new();
        let mut outcome = Outcome::default();
        for item in in_order(work) {
            match item {
                Item::Lrp(start) => match self.place_lrp(&start) {
                    Ok(place) => placed.entry(place).or_default().lrps.push(start),
                    Err(why) => outcome.failed_lrps.push((start.key(), why)),
                },
                Item::Task(task) => match self.place_task(&task) {
                    Ok(place) => placed.entry(place).or_default().tasks.push(task),
                    Err(why) => outcome.failed_tasks.push((task.task_guid.clone(), why)),
                },
            }
        }
        let named = |(place, work)| (self.cells[place as usize].id.clone(), work);
        outcome.placed = placed.into_iter().map(named).collect();
        outcome
    }

    /// Accounts for what a cell holds and was not placed here; `false` when there is no such cell.
    pub fn hold(
        &mut self,
        id: &CellId,
        what: Holding,
        resources: &Resources,
        starting: bool,
    ) -> bool {
        let Some(&place) = self.by_id.get(id) else { return false };
        match what {
            Holding::Lrp(process) => self.count_lrp(place, process),
            Holding::Task => self.cells[place as usize].tasks += 1,
        }
        self.take(place, resources, starting);
        true
    }

    /// Gives back what was placed or held; `starting` when it never came up. `false` when the cell does not hold it.
    pub fn release(
        &mut self,
        id: &CellId,
        what: Holding,
        resources: &Resources,
        starting: bool,
    ) -> bool {
        let Some(&place) = self.by_id.get(id) else { return false };
        let known = match what {
            Holding::Lrp(process) => self.uncount_lrp(place, process),
            Holding::Task => {
                let tasks = &mut self.cells[place as usize].tasks;
                let known = *tasks > 0;
                *tasks = tasks.saturating_sub(1);
                known
            }
        };
        if !known {
            return false;
        }
        let cell = &mut self.cells[place as usize];
        let less = |free: u64, back: u64, total: u64| (free + back).min(total);
        cell.free = Resources {
            memory_mb: less(cell.free.memory_mb, resources.memory_mb, cell.total.memory_mb),
            disk_mb: less(cell.free.disk_mb, resources.disk_mb, cell.total.disk_mb),
            containers: less(cell.free.containers, resources.containers, cell.total.containers),
        };
        if starting {
            self.less_starting(place);
        }
        self.seat(place);
        true
    }

    /// A container that was being made has come up.
    pub fn started(&mut self, id: &CellId) {
        if let Some(&place) = self.by_id.get(id) {
            self.less_starting(place);
            self.seat(place);
        }
    }

    fn take(&mut self, place: u32, wanted: &Resources, starting: bool) {
        let cell = &mut self.cells[place as usize];
        cell.free.memory_mb = cell.free.memory_mb.saturating_sub(wanted.memory_mb);
        cell.free.disk_mb = cell.free.disk_mb.saturating_sub(wanted.disk_mb);
        cell.free.containers = cell.free.containers.saturating_sub(wanted.containers);
        cell.starting += u32::from(starting);
        self.starting += u64::from(starting);
        self.seat(place);
    }

    fn less_starting(&mut self, place: u32) {
        let cell = &mut self.cells[place as usize];
        if cell.starting > 0 {
            cell.starting -= 1;
            self.starting -= 1;
        }
    }

    fn count_lrp(&mut self, place: u32, process: &ProcessGuid) {
        let cells = &self.cells;
        let number = self.crowd.add(process, place, |cell| cells[cell as usize].spot);
        let held = &mut self.cells[place as usize].held;
        match held.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) => held[at].1 += 1,
            Err(at) => held.insert(at, (number, 1)),
        }
    }

    fn uncount_lrp(&mut self, place: u32, process: &ProcessGuid) -> bool {
        let Some(number) = self.crowd.number(process) else { return false };
        let cell = &mut self.cells[place as usize];
        let Ok(at) = cell.held.binary_search_by_key(&number, |(number, _)| *number) else {
            return false;
        };
        cell.held[at].1 -= 1;
        if cell.held[at].1 == 0 {
            cell.held.remove(at);
        }
        self.crowd.remove(number, cell.spot);
        true
    }

    fn forget_held(&mut self, place: u32) {
        let cell = &mut self.cells[place as usize];
        for (number, count) in std::mem::take(&mut cell.held) {
            (0..count).for_each(|_| self.crowd.remove(number, cell.spot));
        }
    }
}

#[cfg(test)]
mod tests;
