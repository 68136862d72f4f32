//! Where a cell sits: cells that are alike share a group and its tree, and the numbers in there are kept right.

use std::collections::BTreeSet;

use diego::CellPresence;
use diego::cell::Resources;

use super::{Cell, Floor};
use crate::crowd::Spot;
use crate::kind::Kind;
use crate::score;
use crate::tree::{Node, Tree};

/// Cells of a zone that offer the same and are about as large.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub zone: u32,
    pub kind: Kind,
    /// Cells by seat.
    pub seats: Vec<Option<u32>>,
    pub unused: Vec<u32>,
    pub tree: Tree,
    /// The most of each resource that a cell of this group ever had.
    pub largest: Resources,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    zone: u32,
    kind: Kind,
    size: [u64; 3],
}

impl Floor {
    /// The cell's place, made when it is new; `None` when it takes no work.
    pub(super) fn enter(&mut self, presence: &CellPresence) -> Option<u32> {
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

    pub(super) fn leave_group(&mut self, place: u32) {
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
    pub(super) fn rank(&mut self, zone: u32) {
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
    pub(super) fn seat(&mut self, place: u32) {
        let (node, cell) = (self.node(place), &self.cells[place as usize]);
        self.groups[cell.spot.group as usize].tree.set(cell.seat, node);
    }

    pub(super) fn node(&self, place: u32) -> Node {
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
    pub(super) fn size(&self) -> u32 {
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
