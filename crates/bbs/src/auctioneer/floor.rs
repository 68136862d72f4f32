//! What the brain believes of the cells: what each has free, from what it said last and what was committed since.
//! It may be wrong for a while. Too much room shows at once: a cell takes no more than it has room for, and is asked anew
//! when it refuses. Too little would never show: whatever does not fit together makes a cell unsure, which is asked anew
//! before anything is refused for lack of room.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auction::{Holding, Outcome, Weights};
use diego::cell::{Refused, Resources};
use diego::{CellId, CellPresence, CellState, InstanceKey, ProcessGuid, TaskGuid, Work};

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
    /// Cells that are being asked, and whether what they hold changed meanwhile.
    asked: HashMap<CellId, bool>,
    /// What flew to a cell that is gone.
    stranded: (Vec<Slot>, Vec<TaskGuid>),
}

/// What a cell said of itself, and when.
struct Known {
    presence: Arc<CellPresence>,
    asked: Instant,
    /// Something does not fit together: it may have more room than is believed, and that would never show.
    unsure: bool,
    /// What it said it holds, and no record is with it: it was never heard of, or is on its way out.
    strays: HashSet<Slot>,
    stray_tasks: HashSet<TaskGuid>,
}

struct Flight {
    cell: CellId,
    resources: Resources,
}

/// How long a cell's word is taken for true, and how long when something did not fit since.
const SURE: Duration = Duration::from_secs(300);
const UNSURE: Duration = Duration::from_secs(5);

impl Floor {
    pub fn new(weights: &Weights) -> Floor {
        Floor {
            index: auction::Floor::new(weights),
            known: HashMap::new(),
            flying: HashMap::new(),
            flying_tasks: HashMap::new(),
            silent: HashMap::new(),
            asked: HashMap::new(),
            stranded: Default::default(),
        }
    }

    /// How many cells take part.
    pub fn cells(&self) -> usize {
        self.known.len()
    }

    /// What is believed free on a cell; `None` when nothing is known of it.
    pub fn free(&self, cell: &CellId) -> Option<Resources> {
        self.index.free(cell)
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

    /// Nobody waits for this cell until then, as long as there are others.
    pub fn silent(&mut self, cell: CellId, until: Instant) {
        self.silent.insert(cell, until);
    }

    pub fn not_silent(
        &self,
        mut cells: Vec<Arc<CellPresence>>,
        now: Instant,
    ) -> Vec<Arc<CellPresence>> {
        cells.retain(|cell| self.silent.get(&cell.cell_id).is_none_or(|until| *until <= now));
        cells
    }

    /// The cells whose word is too old, the doubtful ones and then the oldest first, at most so many.
    pub fn due(&self, now: Instant, most: usize) -> Vec<Arc<CellPresence>> {
        let is_due = |known: &&Known| {
            let span = if known.unsure { UNSURE } else { SURE };
            now.saturating_duration_since(known.asked) >= span
        };
        let mut due: Vec<_> = self.known.values().filter(is_due).collect();
        due.sort_by_key(|known| (!known.unsure, known.asked, &known.presence.cell_id));
        due.into_iter().take(most).map(|known| known.presence.clone()).collect()
    }

    /// These are being asked from now on.
    pub fn asked(&mut self, cells: &BTreeSet<CellId>) {
        self.asked.extend(cells.iter().map(|cell| (cell.clone(), false)));
    }

    /// Work found no place: whoever may have more room than is believed must be asked before it gets more, unless it
    /// was asked only just. Whether there is any.
    pub fn doubt_unsure(&mut self, asked_before: Instant) -> bool {
        let is_unsure = |known: &Known| known.unsure && known.asked < asked_before;
        let unsure = self.known.iter().filter(|(_, known)| is_unsure(known));
        let unsure: Vec<_> = unsure.map(|(cell, _)| cell.clone()).collect();
        unsure.iter().for_each(|cell| self.doubt(cell));
        !unsure.is_empty()
    }

    /// A cell's own word. What flies to it and has not arrived is taken off; what it holds and no record knows is
    /// counted, and asked after soon: its end may show nowhere else.
    pub fn set(
        &mut self,
        presence: Arc<CellPresence>,
        said: &CellState,
        state: &State,
        now: Instant,
    ) {
        let id = presence.cell_id.clone();
        self.index.update_cell(said);
        let (mut strays, mut stray_tasks) = (HashSet::new(), HashSet::new());
        let mut lrps = HashSet::new();
        for held in &said.lrps {
            let slot = (held.key.process_guid.clone(), held.key.index);
            let by = InstanceKey { instance_guid: held.instance_guid.clone(), cell_id: id.clone() };
            let group = state.group(&slot.0, slot.1);
            let recorded = group.is_some_and(|group| group.of(&by).is_some());
            let expected = self.flying.get(&slot).is_some_and(|flight| flight.cell == id);
            lrps.insert((&held.key.process_guid, held.key.index));
            if !recorded && !expected {
                strays.insert(slot);
            }
        }
        for ((process, index), flight) in &self.flying {
            if flight.cell == id && !lrps.contains(&(process, *index)) {
                self.index.hold(&id, Holding::Lrp(process), &flight.resources, true);
            }
        }
        let mut tasks = HashSet::new();
        for held in &said.tasks {
            let guid = &held.task_guid;
            let recorded = state.task(guid).is_some_and(|task| task.cell_id() == Some(&id));
            let expected = self.flying_tasks.get(guid).is_some_and(|flight| flight.cell == id);
            tasks.insert(guid);
            if !recorded && !expected {
                stray_tasks.insert(guid.clone());
            }
        }
        for (guid, flight) in &self.flying_tasks {
            if flight.cell == id && !tasks.contains(guid) {
                self.index.hold(&id, Holding::Task, &flight.resources, true);
            }
        }
        self.silent.remove(&id);
        let stirred = self.asked.remove(&id).unwrap_or(false);
        let unsure = stirred || !strays.is_empty() || !stray_tasks.is_empty();
        self.known.insert(id, Known { presence, asked: now, unsure, strays, stray_tasks });
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

    /// What is believed of the cell does not fit what was committed.
    fn unsure(&mut self, cell: &CellId) {
        if let Some(known) = self.known.get_mut(cell) {
            known.unsure = true;
        }
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
    fn back(&mut self, slot: &Slot) {
        if let Some(flight) = self.flying.remove(slot) {
            self.index.release(&flight.cell, Holding::Lrp(&slot.0), &flight.resources, true);
        }
    }

    fn task_back(&mut self, guid: &TaskGuid) {
        if let Some(flight) = self.flying_tasks.remove(guid) {
            self.index.release(&flight.cell, Holding::Task, &flight.resources, true);
        }
    }

    /// The cell did not take these. What was sent elsewhere meanwhile flies on.
    pub fn refused(&mut self, cell: &CellId, refused: &Refused) {
        for key in &refused.lrps {
            let slot = (key.process_guid.clone(), key.index);
            if self.flying.get(&slot).is_some_and(|flight| flight.cell == *cell) {
                self.back(&slot);
            }
        }
        for guid in &refused.tasks {
            if self.flying_tasks.get(guid).is_some_and(|flight| flight.cell == *cell) {
                self.task_back(guid);
            }
        }
    }

    pub fn apply(&mut self, change: Move) {
        self.stir(&change);
        match change {
            Move::Entered { slot, cell, resources, runs } => {
                self.entered(&slot, &cell, resources);
                if runs {
                    self.index.started(&cell);
                }
            }
            Move::Started(cell) => self.index.started(&cell),
            Move::Left { process, cell, resources: Some(resources), ran } => {
                if !self.index.release(&cell, Holding::Lrp(&process), &resources, !ran) {
                    self.unsure(&cell);
                }
            }
            Move::Left { cell, resources: None, .. } => self.doubt(&cell),
            Move::CellGone(cell) => {
                self.doubt(&cell);
                self.silent.remove(&cell);
                self.asked.remove(&cell);
                let to_it = |flight: &Flight| flight.cell == cell;
                let lrps = self.flying.extract_if(|_, flight| to_it(flight));
                self.stranded.0.extend(lrps.map(|(slot, _)| slot));
                let tasks = self.flying_tasks.extract_if(|_, flight| to_it(flight));
                self.stranded.1.extend(tasks.map(|(guid, _)| guid));
            }
            Move::Dropped(slot) => self.back(&slot),
            Move::TaskEntered { guid, cell, resources } => {
                self.task_entered(&guid, &cell, &resources);
                self.index.started(&cell);
            }
            Move::TaskLeft { cell, resources } => {
                if !self.index.release(&cell, Holding::Task, &resources, false) {
                    self.unsure(&cell);
                }
            }
            Move::TaskDropped(guid) => self.task_back(&guid),
        }
    }

    /// An answer that is under way may have it in or not.
    fn stir(&mut self, change: &Move) {
        let cell = match change {
            Move::Entered { cell, .. } | Move::Left { cell, .. } => cell,
            Move::TaskEntered { cell, .. } | Move::TaskLeft { cell, .. } => cell,
            Move::Started(_) | Move::Dropped(_) | Move::TaskDropped(_) | Move::CellGone(_) => {
                return;
            }
        };
        if let Some(stirred) = self.asked.get_mut(cell) {
            *stirred = true;
        }
    }

    /// Where it was expected, nothing changes; nor where the cell said before that it has it.
    fn entered(&mut self, slot: &Slot, cell: &CellId, resources: Option<Resources>) {
        if self.flying.get(slot).is_some_and(|flight| flight.cell == *cell) {
            self.flying.remove(slot);
            return;
        }
        self.back(slot);
        if self.known.get_mut(cell).is_some_and(|known| known.strays.remove(slot)) {
            return;
        }
        match resources {
            Some(resources) => {
                self.index.hold(cell, Holding::Lrp(&slot.0), &resources, true);
                self.unsure(cell);
            }
            None => self.doubt(cell),
        }
    }

    fn task_entered(&mut self, guid: &TaskGuid, cell: &CellId, resources: &Resources) {
        if self.flying_tasks.get(guid).is_some_and(|flight| flight.cell == *cell) {
            self.flying_tasks.remove(guid);
            return;
        }
        self.task_back(guid);
        if !self.known.get_mut(cell).is_some_and(|known| known.stray_tasks.remove(guid)) {
            self.index.hold(cell, Holding::Task, resources, true);
            self.unsure(cell);
        }
    }
}

#[cfg(test)]
mod tests;
