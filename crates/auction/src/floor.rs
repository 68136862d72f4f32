//! The cells as an auction sees them, kept from one batch to the next: what is free on each, what it holds, and an
//! index that finds the best place without asking them all.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use diego::cell::{LrpStart, Resources};
use diego::desired_lrp::RunInfo;
use diego::{CellId, CellPresence, CellState, ProcessGuid, Task, Work};

use crate::crowd::{Crowd, Spot};
use crate::kind::{Kind, Needs};
use crate::reason::{self, Shortfall};
use crate::score;
use crate::shelves::Shelves;
use crate::tree::{Best, Node, Search, Tree};
use crate::{Item, Outcome, Weights, in_order};

/// Kinds of work of which is remembered which groups are fit; then all are forgotten.
const MOST_NEEDS: usize = 4096;
/// So many holders of a layer are asked one by one.
const FEW: usize = 64;

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

/// Cells of a zone that offer the same and are about as large.
#[derive(Clone, Debug)]
struct Group {
    zone: u32,
    kind: Kind,
    /// Cells by seat.
    seats: Vec<Option<u32>>,
    unused: Vec<u32>,
    tree: Tree,
    /// The most of each resource that a cell of this group ever had.
    largest: Resources,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct GroupKey {
    zone: u32,
    kind: Kind,
    size: [u64; 3],
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

    fn place_lrp(&mut self, start: &LrpStart) -> Result<u32, String> {
        let (run, process) = (&start.desired.run, &start.desired.process_guid);
        let wanted = Resources::of(run);
        let needs = Needs::of(run);
        let fit = self.candidates(&needs, &wanted)?;
        let number = self.crowd.number(process);
        let mut zones: Vec<(u32, u32)> = Vec::with_capacity(4);
        for group in fit.iter() {
            let zone = self.groups[*group as usize].zone;
            if !zones.iter().any(|(_, known)| *known == zone) {
                let held = self.crowd.in_zone(number, zone, |cell| self.cells[cell as usize].spot);
                zones.push((held, zone));
            }
        }
        zones.sort_unstable();
        // The emptiest zones first, ties together; the next only when nothing there has room.
        let found = zones.chunk_by(|(a, _), (b, _)| a == b).find_map(|tied| {
            let in_tied = |zone: u32| tied.iter().any(|(_, tie)| *tie == zone);
            let (best, looked) = self.best_for_lrp(&fit, in_tied, number, run, &wanted);
            self.looked += looked;
            best
        });
        let Some(best) = found else { return Err(self.refusal(&needs, &wanted)) };
        let place = self.groups[best.group as usize].seats[best.seat as usize]
            .expect("a seat with room is taken");
        self.count_lrp(place, process);
        self.take(place, &wanted, true);
        Ok(place)
    }

    fn best_for_lrp(
        &self,
        fit: &[u32],
        in_tied: impl Fn(u32) -> bool,
        number: Option<u32>,
        run: &RunInfo,
        wanted: &Resources,
    ) -> (Option<Best>, u64) {
        let (mut best, mut looked) = (None, 0);
        let shelved = self.shelves.of(run);
        let extra = |place: u32| {
            let cell = &self.cells[place as usize];
            let siblings = i64::from(self.crowd.on(number, place));
            let bonus = if shelved.is_on(place) { self.weights.layers } else { 0 };
            score::usage(wanted, &cell.total)
                .saturating_add(self.weights.sibling.saturating_mul(siblings))
                .saturating_sub(bonus)
        };
        let few = shelved.candidates().len() <= FEW;
        if few {
            for &place in shelved.candidates() {
                looked += 1;
                let (cell, node) = (&self.cells[place as usize], self.node(place));
                if fit.contains(&cell.spot.group)
                    && in_tied(cell.spot.zone)
                    && node.has_room(wanted)
                {
                    let score = node.lrp.saturating_add(extra(place));
                    let one = Best { score, group: cell.spot.group, seat: cell.seat };
                    best = Some(best.map_or(one, |best: Best| best.min(one)));
                }
            }
        }
        for &at in fit {
            let group = &self.groups[at as usize];
            if !in_tied(group.zone) {
                continue;
            }
            let search = Search {
                wanted,
                score: |node| node.lrp,
                least: || {
                    let held = self.crowd.least(number, at, group.size());
                    let siblings = self.weights.sibling.saturating_mul(i64::from(held));
                    let bonus = if few { 0 } else { self.weights.layers };
                    score::usage(wanted, &group.largest)
                        .saturating_add(siblings)
                        .saturating_sub(bonus)
                },
                exact: |seat: u32| group.seats[seat as usize].map_or(i64::MAX, extra),
            };
            group.tree.search(at, &search, &mut best, &mut looked);
        }
        (best, looked)
    }

    fn place_task(&mut self, task: &Task) -> Result<u32, String> {
        let run = &task.definition.run;
        let wanted = Resources::of(run);
        let needs = Needs::of(run);
        let fit = self.candidates(&needs, &wanted)?;
        let (mut best, mut looked) = (None, 0);
        for &at in fit.iter() {
            let group = &self.groups[at as usize];
            let usage = |place: u32| score::usage(&wanted, &self.cells[place as usize].total);
            let search = Search {
                wanted: &wanted,
                score: |node| node.task,
                least: || score::usage(&wanted, &group.largest),
                exact: |seat: u32| group.seats[seat as usize].map_or(i64::MAX, usage),
            };
            group.tree.search(at, &search, &mut best, &mut looked);
        }
        self.looked += looked;
        let Some(best) = best else { return Err(self.refusal(&needs, &wanted)) };
        let place = self.groups[best.group as usize].seats[best.seat as usize]
            .expect("a seat with room is taken");
        self.cells[place as usize].tasks += 1;
        self.take(place, &wanted, true);
        Ok(place)
    }

    /// The groups that have all but, perhaps, the room.
    fn candidates(&mut self, needs: &Needs, wanted: &Resources) -> Result<Arc<[u32]>, String> {
        if self.by_id.is_empty() {
            return Err(reason::NOBODY.to_owned());
        }
        if self.weights.most_starting > 0 && self.starting >= self.weights.most_starting {
            return Err(reason::TOO_MANY_STARTING.to_owned());
        }
        if let Some(fit) = self.fit.get(needs) {
            return if fit.is_empty() { Err(self.refusal(needs, wanted)) } else { Ok(fit.clone()) };
        }
        let groups = self.groups.iter().enumerate();
        let fit: Arc<[u32]> = groups
            .filter(|(_, group)| group.size() > 0 && group.kind.misfit(needs).is_none())
            .map(|(at, _)| u32::try_from(at).expect("fewer than 2^32 groups"))
            .collect();
        if self.fit.len() >= MOST_NEEDS {
            self.fit.clear();
        }
        self.fit.insert(needs.clone(), fit.clone());
        if fit.is_empty() { Err(self.refusal(needs, wanted)) } else { Ok(fit) }
    }

    fn refusal(&self, needs: &Needs, wanted: &Resources) -> String {
        let mut shortfall = Shortfall::default();
        for group in self.groups.iter().filter(|group| group.size() > 0) {
            match group.kind.misfit(needs) {
                Some(misfit) => {
                    *shortfall.misfits.entry(misfit).or_default() += group.size() as usize
                }
                None => {
                    let free = |place: &u32| self.cells[*place as usize].free;
                    shortfall.compatible.extend(group.seats.iter().flatten().map(free));
                }
            }
        }
        shortfall.tell(needs, wanted)
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

    /// The cell's place, made when it is new; `None` when it takes no work.
    fn enter(&mut self, presence: &CellPresence) -> Option<u32> {
        if presence.evacuating {
            self.remove_cell(&presence.cell_id);
            return None;
        }
        let next = u32::try_from(self.zones.len()).expect("fewer than 2^32 zones");
        let zone = match self.zones.get(&presence.zone) {
            Some(zone) => *zone,
            None => {
                self.zones.insert(presence.zone.clone(), next);
                self.in_zone.push(BTreeSet::new());
                next
            }
        };
        let known = self.by_id.get(&presence.cell_id).copied();
        let place = match known {
            Some(place) if self.cells[place as usize].spot.zone == zone => place,
            _ => {
                // A cell that says it is elsewhere now is another one.
                self.remove_cell(&presence.cell_id);
                self.new_cell(presence, zone)
            }
        };
        self.fit_in(place, presence);
        Some(place)
    }

    fn new_cell(&mut self, presence: &CellPresence, zone: u32) -> u32 {
        let place = match self.unused.pop() {
            Some(place) => place,
            None => u32::try_from(self.cells.len()).expect("fewer than 2^32 cells"),
        };
        let cell = Cell {
            id: presence.cell_id.clone(),
            spot: Spot { cell: place, zone, group: u32::MAX },
            seat: 0,
            total: presence.capacity,
            free: presence.capacity,
            starting: 0,
            tasks: 0,
            rank_in_zone: 0,
            held: Vec::new(),
            layers: Vec::new(),
        };
        if (place as usize) < self.cells.len() {
            self.cells[place as usize] = cell;
        } else {
            self.cells.push(cell);
        }
        self.by_id.insert(presence.cell_id.clone(), place);
        self.in_zone[zone as usize].insert(presence.cell_id.clone());
        place
    }

    /// Puts the cell into the group of its like, with what it holds.
    fn fit_in(&mut self, place: u32, presence: &CellPresence) {
        let cell = &mut self.cells[place as usize];
        if cell.total != presence.capacity {
            let used = score::used(&cell.total, &cell.free);
            cell.total = presence.capacity;
            cell.free = score::used(&presence.capacity, &used);
        }
        let (zone, before) = (cell.spot.zone, cell.spot.group);
        let group = self.group(zone, Kind::of(presence), &presence.capacity);
        if group == before {
            self.groups[group as usize].grow(&presence.capacity);
            return self.seat(place);
        }
        let held = std::mem::take(&mut self.cells[place as usize].held);
        let names: Vec<_> = held
            .iter()
            .filter_map(|(number, count)| Some((self.crowd.name(*number)?, *count)))
            .collect();
        self.cells[place as usize].held = held;
        self.forget_held(place);
        if before != u32::MAX {
            self.leave_group(place);
        }
        let joined = &mut self.groups[group as usize];
        joined.grow(&presence.capacity);
        let seat = joined.unused.pop().unwrap_or_else(|| {
            joined.seats.push(None);
            u32::try_from(joined.seats.len() - 1).expect("no more seats than cells")
        });
        joined.seats[seat as usize] = Some(place);
        if joined.size() == 1 {
            self.fit.clear();
        }
        let cell = &mut self.cells[place as usize];
        (cell.spot.group, cell.seat) = (group, seat);
        for (name, count) in names {
            (0..count).for_each(|_| self.count_lrp(place, &name));
        }
        self.seat(place);
        self.rank(zone);
    }

    fn group(&mut self, zone: u32, kind: Kind, capacity: &Resources) -> u32 {
        let size = [capacity.memory_mb, capacity.disk_mb, capacity.containers].map(roughly);
        let key = GroupKey { zone, kind, size };
        if let Some(group) = self.by_key.get(&key) {
            return *group;
        }
        let group = u32::try_from(self.groups.len()).expect("fewer than 2^32 groups");
        self.groups.push(Group {
            zone,
            kind: key.kind.clone(),
            seats: Vec::new(),
            unused: Vec::new(),
            tree: Tree::new(),
            largest: Resources::default(),
        });
        self.by_key.insert(key, group);
        group
    }

    fn leave_group(&mut self, place: u32) {
        let cell = &self.cells[place as usize];
        let group = &mut self.groups[cell.spot.group as usize];
        group.seats[cell.seat as usize] = None;
        group.unused.push(cell.seat);
        group.tree.clear(cell.seat);
        if group.size() == 0 {
            self.fit.clear();
        }
    }

    /// Counts the ranks of a zone's cells anew, where they matter.
    fn rank(&mut self, zone: u32) {
        if self.weights.bin_pack == 0 {
            return;
        }
        let places: Vec<u32> = self.in_zone[zone as usize]
            .iter()
            .filter_map(|id| self.by_id.get(id).copied())
            .collect();
        for (rank, place) in (0..).zip(places) {
            if self.cells[place as usize].rank_in_zone != rank {
                self.cells[place as usize].rank_in_zone = rank;
                self.seat(place);
            }
        }
    }

    /// Writes the cell's numbers into the index.
    fn seat(&mut self, place: u32) {
        let (node, cell) = (self.node(place), &self.cells[place as usize]);
        self.groups[cell.spot.group as usize].tree.set(cell.seat, node);
    }

    fn node(&self, place: u32) -> Node {
        let (cell, weights) = (&self.cells[place as usize], &self.weights);
        let usage = score::usage(&score::used(&cell.total, &cell.free), &cell.total)
            .saturating_add(weights.starting.saturating_mul(i64::from(cell.starting)));
        let times = |weight: i64, count: u32| weight.saturating_mul(i64::from(count));
        Node {
            lrp: usage.saturating_add(times(weights.bin_pack, cell.rank_in_zone)),
            task: usage.saturating_add(times(weights.sibling, cell.tasks)),
            free: cell.free,
        }
    }
}

impl Group {
    fn size(&self) -> u32 {
        u32::try_from(self.seats.len() - self.unused.len()).expect("no more seats than cells")
    }

    fn grow(&mut self, capacity: &Resources) {
        let most = &mut self.largest;
        most.memory_mb = most.memory_mb.max(capacity.memory_mb);
        most.disk_mb = most.disk_mb.max(capacity.disk_mb);
        most.containers = most.containers.max(capacity.containers);
    }
}

/// The same for capacities that differ by less than a thirtieth, mostly.
fn roughly(amount: u64) -> u64 {
    let fine = amount.checked_ilog2().unwrap_or(0).saturating_sub(5);
    amount >> fine << fine
}

#[cfg(test)]
mod tests;
