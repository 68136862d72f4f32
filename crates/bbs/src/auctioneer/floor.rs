//! What the brain believes of the cells: what each has free, from what it said last and what was committed since.
//! It may be wrong for a while; a cell takes no more than it has room for, and is asked anew when it refuses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Timestamp;
use diego::cell::{LrpHeld, Resources};
use diego::{CellId, CellPresence, CellState, InstanceGuid, LrpKey, ProcessGuid, TaskGuid, Work};

use crate::state::{Slot, State};

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

#[derive(Debug, Default)]
pub(crate) struct Floor {
    cells: BTreeMap<CellId, Known>,
    /// Work that was given to a cell which has not claimed it yet.
    flying: BTreeMap<Slot, Flight>,
    flying_tasks: BTreeMap<TaskGuid, Flight>,
    /// Cells that did not answer, and until when nobody waits for them again.
    silent: HashMap<CellId, Instant>,
}

#[derive(Debug)]
struct Known {
    presence: Arc<CellPresence>,
    free: Resources,
    starting: u32,
    tasks: u32,
    /// When the cell itself said so.
    asked: Timestamp,
}

#[derive(Clone, Debug)]
struct Flight {
    cell: CellId,
    resources: Resources,
}

impl Floor {
    /// Those of `present` of which nothing is known, or whose offer has changed.
    pub fn unknown(&self, present: &[Arc<CellPresence>]) -> Vec<Arc<CellPresence>> {
        let known = |presence: &Arc<CellPresence>| {
            self.cells.get(&presence.cell_id).is_some_and(|known| known.presence == *presence)
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
        let mut old: Vec<_> = self.cells.values().filter(|known| known.asked < before).collect();
        old.sort_by_key(|known| known.asked);
        old.into_iter().take(most).map(|known| known.presence.clone()).collect()
    }

    /// A cell's own word. What flies to it and has not arrived is taken off.
    pub fn set(&mut self, presence: Arc<CellPresence>, state: &CellState, now: Timestamp) {
        let mut known = Known {
            free: state.available,
            starting: state.starting,
            tasks: u32::try_from(state.tasks.len()).unwrap_or(u32::MAX),
            asked: now,
            presence,
        };
        let id = &known.presence.cell_id.clone();
        let to_it = |flight: &&Flight| flight.cell == *id;
        let lrps: BTreeSet<_> =
            state.lrps.iter().map(|held| (&held.key.process_guid, held.key.index)).collect();
        let mut late = Vec::new();
        for ((guid, index), flight) in &self.flying {
            if to_it(&flight) && !lrps.contains(&(guid, *index)) {
                late.push(flight.resources);
            }
        }
        for (guid, flight) in &self.flying_tasks {
            if to_it(&flight) && state.tasks.iter().all(|held| held.task_guid != *guid) {
                late.push(flight.resources);
                known.tasks += 1;
            }
        }
        late.iter().for_each(|resources| known.take(resources));
        self.silent.remove(id);
        self.cells.insert(id.clone(), known);
    }

    /// The cell must be asked before it gets more.
    pub fn doubt(&mut self, cell: &CellId) {
        self.cells.remove(cell);
    }

    /// The known ones among `present`, with those instances that are of a process in `work`.
    pub fn states(
        &self,
        present: &[Arc<CellPresence>],
        work: &Work,
        state: &State,
    ) -> Vec<CellState> {
        let mut siblings = self.siblings(work, state);
        let known = present.iter().filter_map(|presence| self.cells.get(&presence.cell_id));
        let state_of = |known: &Known| CellState {
            presence: CellPresence::clone(&known.presence),
            available: known.free,
            lrps: siblings.remove(&known.presence.cell_id).unwrap_or_default(),
            tasks: (0..known.tasks).map(|_| nameless()).collect(),
            starting: known.starting,
            layers: Vec::new(),
        };
        known.map(state_of).collect()
    }

    fn siblings(&self, work: &Work, state: &State) -> HashMap<CellId, Vec<LrpHeld>> {
        let mut siblings: HashMap<CellId, Vec<LrpHeld>> = HashMap::new();
        let mut seen: BTreeSet<&ProcessGuid> = BTreeSet::new();
        let held = |key: LrpKey, instance_guid: InstanceGuid| LrpHeld {
            key,
            instance_guid,
            resources: Resources::default(),
        };
        for start in &work.lrps {
            let guid = &start.desired.process_guid;
            if !seen.insert(guid) {
                continue;
            }
            let groups =
                state.process(guid).into_iter().flat_map(|process| process.groups.values());
            for lrp in groups.flat_map(|group| group.records()) {
                if let Some(by) = lrp.instance() {
                    let lrp = held(lrp.key.clone(), by.instance_guid.clone());
                    siblings.entry(by.cell_id.clone()).or_default().push(lrp);
                }
            }
            let flying = self.flying.range((guid.clone(), 0)..=(guid.clone(), u32::MAX));
            for ((_, index), flight) in flying {
                let domain = start.desired.domain.clone();
                let key = LrpKey { process_guid: guid.clone(), index: *index, domain };
                let lrp = held(key, InstanceGuid::from(""));
                siblings.entry(flight.cell.clone()).or_default().push(lrp);
            }
        }
        siblings
    }

    /// Work is on its way to a cell.
    pub fn send(&mut self, cell: &CellId, work: &Work) {
        for start in &work.lrps {
            let slot = (start.desired.process_guid.clone(), start.index);
            let resources = Resources::of(&start.desired.run);
            self.land(&slot, true);
            self.take(cell, &resources);
            self.flying.insert(slot, Flight { cell: cell.clone(), resources });
        }
        for task in &work.tasks {
            let resources = Resources::of(&task.definition.run);
            self.land_task(&task.task_guid, true);
            self.take(cell, &resources);
            if let Some(known) = self.cells.get_mut(cell) {
                known.tasks += 1;
            }
            let flight = Flight { cell: cell.clone(), resources };
            self.flying_tasks.insert(task.task_guid.clone(), flight);
        }
    }

    /// The cell did not take it.
    pub fn back(&mut self, slot: &Slot) {
        self.land(slot, true);
    }

    pub fn task_back(&mut self, guid: &TaskGuid) {
        self.land_task(guid, true);
    }

    pub fn apply(&mut self, change: Move) {
        match change {
            Move::Entered { slot, cell, resources, runs } => {
                let here = self.flying.get(&slot).is_some_and(|flight| flight.cell == cell);
                self.land(&slot, !here);
                if !here {
                    match resources {
                        Some(resources) => self.take(&cell, &resources),
                        None => self.doubt(&cell),
                    }
                }
                if runs {
                    self.started(&cell);
                }
            }
            Move::Started(cell) => self.started(&cell),
            Move::Left { cell, resources: Some(resources), ran } => {
                if !ran {
                    self.started(&cell);
                }
                if let Some(known) = self.cells.get_mut(&cell) {
                    known.give(&resources);
                }
            }
            Move::Left { cell, resources: None, .. } => self.doubt(&cell),
            Move::CellGone(cell) => {
                self.doubt(&cell);
                self.silent.remove(&cell);
            }
            Move::Dropped(slot) => self.land(&slot, true),
            Move::TaskEntered { guid, cell, resources } => {
                let here = self.flying_tasks.get(&guid).is_some_and(|flight| flight.cell == cell);
                self.land_task(&guid, !here);
                if !here {
                    self.take(&cell, &resources);
                    if let Some(known) = self.cells.get_mut(&cell) {
                        known.tasks += 1;
                    }
                }
                self.started(&cell);
            }
            Move::TaskLeft { cell, resources } => {
                if let Some(known) = self.cells.get_mut(&cell) {
                    known.give(&resources);
                    known.tasks = known.tasks.saturating_sub(1);
                }
            }
            Move::TaskDropped(guid) => self.land_task(&guid, true),
        }
    }

    fn take(&mut self, cell: &CellId, resources: &Resources) {
        if let Some(known) = self.cells.get_mut(cell) {
            known.take(resources);
            known.starting += 1;
        }
    }

    fn started(&mut self, cell: &CellId) {
        if let Some(known) = self.cells.get_mut(cell) {
            known.starting = known.starting.saturating_sub(1);
        }
    }

    /// It flies no more; what it took is given back unless it arrived.
    fn land(&mut self, slot: &Slot, give_back: bool) {
        let flight = self.flying.remove(slot);
        if let Some(flight) = flight.filter(|_| give_back) {
            self.give_back(&flight);
        }
    }

    fn land_task(&mut self, guid: &TaskGuid, give_back: bool) {
        let flight = self.flying_tasks.remove(guid);
        if let Some(flight) = flight.filter(|_| give_back) {
            self.give_back(&flight);
            if let Some(known) = self.cells.get_mut(&flight.cell) {
                known.tasks = known.tasks.saturating_sub(1);
            }
        }
    }

    fn give_back(&mut self, flight: &Flight) {
        if let Some(known) = self.cells.get_mut(&flight.cell) {
            known.give(&flight.resources);
            known.starting = known.starting.saturating_sub(1);
        }
    }
}

impl Known {
    fn take(&mut self, resources: &Resources) {
        self.free.memory_mb = self.free.memory_mb.saturating_sub(resources.memory_mb);
        self.free.disk_mb = self.free.disk_mb.saturating_sub(resources.disk_mb);
        self.free.containers = self.free.containers.saturating_sub(resources.containers);
    }

    /// Never more than the cell has.
    fn give(&mut self, resources: &Resources) {
        let total = &self.presence.capacity;
        self.free.memory_mb = (self.free.memory_mb + resources.memory_mb).min(total.memory_mb);
        self.free.disk_mb = (self.free.disk_mb + resources.disk_mb).min(total.disk_mb);
        self.free.containers = (self.free.containers + resources.containers).min(total.containers);
    }
}

/// An auction counts a cell's tasks and asks for no more.
fn nameless() -> diego::cell::TaskHeld {
    diego::cell::TaskHeld { task_guid: TaskGuid::from(""), resources: Resources::default() }
}
