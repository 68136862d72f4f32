//! The cells during an auction: what is still free on each, and who is fit for what.

use std::collections::HashMap;
use std::sync::Arc;

use diego::cell::{LrpStart, Resources};
use diego::desired_lrp::RunInfo;
use diego::{CellId, CellState, ProcessGuid, Task};

use crate::reason::{self, Misfit};
use crate::{Item, Weights};

pub(crate) struct Floor<'a> {
    weights: &'a Weights,
    cells: Vec<Slot<'a>>,
    zones: usize,
    starting: u64,
    /// Cells (by place in `cells`) that hold instances of a process of this batch, and how many.
    siblings: HashMap<ProcessGuid, Vec<(usize, u32)>>,
    /// Cells that have the root file system and the tags, or why there are none: the same for most of a batch.
    fit: HashMap<Needs, Arc<[usize]>>,
    /// One count per cell and per zone, filled for the process at hand and emptied after.
    counts: Vec<u32>,
    zone_counts: Vec<u64>,
}

/// One cell. The flat numbers come first, for the loop that compares cells reads only these.
pub(crate) struct Slot<'a> {
    pub free: Resources,
    starting: f64,
    tasks: u32,
    zone: usize,
    rank_in_zone: f64,
    pub state: &'a CellState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Needs {
    pub rootfs: String,
    pub tags: Vec<String>,
}

impl Needs {
    fn of(run: &RunInfo) -> Needs {
        let mut tags = run.placement_tags.clone();
        tags.sort();
        tags.dedup();
        Needs { rootfs: run.rootfs.clone(), tags }
    }
}

impl<'a> Floor<'a> {
    pub fn new(cells: &'a [CellState], work: &[Item], weights: &'a Weights) -> Floor<'a> {
        let mut states: Vec<_> = cells.iter().filter(|cell| !cell.presence.evacuating).collect();
        states.sort_by(|a, b| a.presence.cell_id.cmp(&b.presence.cell_id));
        states.dedup_by(|a, b| a.presence.cell_id == b.presence.cell_id);
        let mut zones: HashMap<&str, (usize, u32)> = HashMap::new();
        let mut slots = Vec::with_capacity(states.len());
        for state in states {
            let next = zones.len();
            let (zone, rank) = zones.entry(&state.presence.zone).or_insert((next, 0));
            slots.push(Slot {
                free: state.available,
                starting: f64::from(state.starting),
                tasks: u32::try_from(state.tasks.len()).unwrap_or(u32::MAX),
                zone: *zone,
                rank_in_zone: f64::from(*rank),
                state,
            });
            *rank += 1;
        }
        let (counts, zone_counts) = (vec![0; slots.len()], vec![0; zones.len()]);
        let starting = slots.iter().map(|slot| u64::from(slot.state.starting)).sum();
        let siblings = siblings(&slots, work);
        Floor {
            weights,
            cells: slots,
            zones: zones.len(),
            starting,
            siblings,
            fit: HashMap::new(),
            counts,
            zone_counts,
        }
    }

    pub fn place_lrp(&mut self, start: &LrpStart) -> Result<CellId, String> {
        let (run, process) = (&start.desired.run, &start.desired.process_guid);
        let wanted = Resources::of(run);
        let fit = self.candidates(run, &wanted)?;
        self.count(process);
        let best = self.best(&fit, &wanted, |floor, place| {
            let slot = &floor.cells[place];
            let extra = f64::from(floor.counts[place]) * floor.weights.sibling
                + slot.rank_in_zone * floor.weights.bin_pack;
            (floor.zone_counts[slot.zone], extra)
        });
        self.uncount(process);
        let place = best.ok_or_else(|| self.refusal(run, &wanted))?;
        let holders = self.siblings.entry(process.clone()).or_default();
        match holders.iter_mut().find(|(holder, _)| *holder == place) {
            Some((_, count)) => *count += 1,
            None => holders.push((place, 1)),
        }
        Ok(self.take(place, &wanted))
    }

    pub fn place_task(&mut self, task: &Task) -> Result<CellId, String> {
        let run = &task.definition.run;
        let wanted = Resources::of(run);
        let fit = self.candidates(run, &wanted)?;
        let best = self.best(&fit, &wanted, |floor, place| {
            (0, f64::from(floor.cells[place].tasks) * floor.weights.sibling)
        });
        let place = best.ok_or_else(|| self.refusal(run, &wanted))?;
        self.cells[place].tasks += 1;
        Ok(self.take(place, &wanted))
    }

    /// The cells that have all but, perhaps, the room.
    fn candidates(&mut self, run: &RunInfo, wanted: &Resources) -> Result<Arc<[usize]>, String> {
        if self.cells.is_empty() {
            return Err(reason::NOBODY.to_owned());
        }
        if self.weights.most_starting > 0 && self.starting >= self.weights.most_starting {
            return Err(reason::TOO_MANY_STARTING.to_owned());
        }
        let needs = Needs::of(run);
        let fit = match self.fit.get(&needs) {
            Some(fit) => fit.clone(),
            None => {
                let fit = |place: &usize| self.cells[*place].misfit(&needs).is_none();
                let fit: Arc<[usize]> = (0..self.cells.len()).filter(fit).collect();
                self.fit.insert(needs, fit.clone());
                fit
            }
        };
        if fit.is_empty() { Err(self.refusal(run, wanted)) } else { Ok(fit) }
    }

    /// The cell with room whose zone count, then score, is the lowest; the first by name among equals.
    fn best(
        &self,
        fit: &[usize],
        wanted: &Resources,
        extra: impl Fn(&Floor, usize) -> (u64, f64),
    ) -> Option<usize> {
        let mut best: Option<(u64, f64, usize)> = None;
        for &place in fit {
            let slot = &self.cells[place];
            if !slot.has_room(wanted) {
                continue;
            }
            let (zone, extra) = extra(self, place);
            let score = slot.usage_with(wanted) + slot.starting * self.weights.starting + extra;
            if best.is_none_or(|(best_zone, best_score, _)| {
                zone < best_zone || (zone == best_zone && score < best_score)
            }) {
                best = Some((zone, score, place));
            }
        }
        best.map(|(_, _, place)| place)
    }

    fn take(&mut self, place: usize, wanted: &Resources) -> CellId {
        let slot = &mut self.cells[place];
        slot.free.memory_mb -= wanted.memory_mb;
        slot.free.disk_mb -= wanted.disk_mb;
        slot.free.containers -= wanted.containers;
        slot.starting += 1.0;
        self.starting += 1;
        slot.state.presence.cell_id.clone()
    }

    fn count(&mut self, process: &ProcessGuid) {
        for (place, count) in self.siblings.get(process).into_iter().flatten() {
            self.counts[*place] = *count;
            self.zone_counts[self.cells[*place].zone] += u64::from(*count);
        }
    }

    fn uncount(&mut self, process: &ProcessGuid) {
        for (place, _) in self.siblings.get(process).into_iter().flatten() {
            self.counts[*place] = 0;
        }
        self.zone_counts.clear();
        self.zone_counts.resize(self.zones, 0);
    }

    fn refusal(&self, run: &RunInfo, wanted: &Resources) -> String {
        reason::refusal(&self.cells, &Needs::of(run), wanted)
    }
}

/// Counts what the cells hold of the processes in this batch; of all others nothing is kept.
fn siblings(cells: &[Slot], work: &[Item]) -> HashMap<ProcessGuid, Vec<(usize, u32)>> {
    let lrps = work.iter().filter_map(|item| match item {
        Item::Lrp(start) => Some((start.desired.process_guid.clone(), Vec::new())),
        Item::Task(_) => None,
    });
    let mut siblings: HashMap<ProcessGuid, Vec<(usize, u32)>> = lrps.collect();
    for (place, slot) in cells.iter().enumerate() {
        for held in &slot.state.lrps {
            let Some(holders) = siblings.get_mut(&held.key.process_guid) else { continue };
            match holders.last_mut() {
                Some((last, count)) if *last == place => *count += 1,
                _ => holders.push((place, 1)),
            }
        }
    }
    siblings
}

impl Slot<'_> {
    pub fn has_room(&self, wanted: &Resources) -> bool {
        wanted.memory_mb <= self.free.memory_mb
            && wanted.disk_mb <= self.free.disk_mb
            && wanted.containers <= self.free.containers
    }

    /// Why the cell can never host it, however empty it is.
    pub fn misfit(&self, needs: &Needs) -> Option<Misfit> {
        let presence = &self.state.presence;
        if !has_rootfs(&presence.stacks, &needs.rootfs) {
            return Some(Misfit::Rootfs);
        }
        let (required, optional) = (&presence.placement_tags, &presence.optional_placement_tags);
        if let Some(missing) =
            needs.tags.iter().find(|tag| !required.contains(tag) && !optional.contains(tag))
        {
            return Some(Misfit::LacksTag(missing.clone()));
        }
        required
            .iter()
            .find(|tag| !needs.tags.contains(tag))
            .map(|tag| Misfit::Reserved(tag.clone()))
    }

    /// The share of the cell in use once it has this too: the mean over memory, disk and containers.
    fn usage_with(&self, wanted: &Resources) -> f64 {
        let total = &self.state.presence.capacity;
        let used = |total: u64, free: u64, wanted: u64| {
            if total == 0 {
                0.0
            } else {
                (total.saturating_sub(free) + wanted) as f64 / total as f64
            }
        };
        let memory = used(total.memory_mb, self.free.memory_mb, wanted.memory_mb);
        let disk = used(total.disk_mb, self.free.disk_mb, wanted.disk_mb);
        let containers = used(total.containers, self.free.containers, wanted.containers);
        (memory + disk + containers) / 3.0
    }
}

/// Docker images come from a registry to any cell; everything else must lie on the cell.
fn has_rootfs(stacks: &[String], rootfs: &str) -> bool {
    let (scheme, rest) = rootfs.split_once(':').unwrap_or(("", rootfs));
    match scheme {
        "docker" => true,
        // `preloaded+layer:NAME?layer=…`: the stack with a layer on top.
        "preloaded" | "preloaded+layer" => {
            let name = rest.split('?').next().unwrap_or(rest);
            stacks.iter().any(|stack| stack.strip_prefix("preloaded:").unwrap_or(stack) == name)
        }
        _ => stacks.iter().any(|stack| stack == rootfs),
    }
}
