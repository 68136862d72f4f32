//! Finds a cell for every start and every task. Pure: the same cells and work give the same placements.
//!
//! A cell is fit when it has the root file system, the placement tags and the room. Among the fit the emptiest zone
//! wins, then the lowest score. Nothing is ever placed beyond what a cell said it has free.

pub mod bench;
mod crowd;
mod floor;
mod kind;
mod reason;
mod score;
mod shelves;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use diego::cell::LrpStart;
use diego::{CellId, CellState, LrpKey, Task, TaskGuid, Work};

pub use floor::{Floor, Holding};

/// What counts how much; the defaults are Diego's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Each container that is reserved or being made.
    pub starting: f64,
    /// Each instance of the same process, each task for a task.
    pub sibling: f64,
    /// The cell's rank in its zone; more than 0 fills cells one after the other.
    pub bin_pack: f64,
    /// Taken off when the cell holds all image layers of the work. In parts of a cell's size, so that balance may
    /// suffer by no more than this, and spread never.
    pub layers: f64,
    /// The most containers being made at once in all cells together; 0 = no limit.
    pub most_starting: u64,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights { starting: 0.25, sibling: 1000.0, bin_pack: 0.0, layers: 0.05, most_starting: 0 }
    }
}

/// Each piece of work is in exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub placed: BTreeMap<CellId, Work>,
    /// Why there is no place; begins with Diego's text.
    pub failed_lrps: Vec<(LrpKey, String)>,
    pub failed_tasks: Vec<(TaskGuid, String)>,
}

/// Places the work of one batch among cells that have just told how they stand. Cells that evacuate get nothing; the
/// same index or task twice counts once. Whoever has many batches keeps a [`Floor`].
pub fn place(cells: &[CellState], work: Work, weights: &Weights) -> Outcome {
    let mut states: Vec<_> = cells.iter().collect();
    states.sort_by(|a, b| a.presence.cell_id.cmp(&b.presence.cell_id));
    states.dedup_by(|a, b| a.presence.cell_id == b.presence.cell_id);
    let processes: HashSet<_> =
        work.lrps.iter().map(|start| start.desired.process_guid.clone()).collect();
    let mut floor = Floor::new(weights);
    for state in states {
        floor.update_cell_for(state, |process| processes.contains(process));
    }
    floor.place(work)
}

enum Item {
    Lrp(LrpStart),
    Task(Arc<Task>),
}

/// First instances, then tasks, then more instances; within these by index, and the largest first.
fn in_order(work: Work) -> Vec<Item> {
    let mut seen = HashSet::new();
    let mut lrps = work.lrps;
    lrps.retain(|start| seen.insert((start.desired.process_guid.clone(), start.index)));
    lrps.sort_by(|a, b| {
        a.index.cmp(&b.index).then(b.desired.run.memory_mb.cmp(&a.desired.run.memory_mb))
    });
    let mut seen = HashSet::new();
    let mut tasks = work.tasks;
    tasks.retain(|task| seen.insert(task.task_guid.clone()));
    tasks.sort_by_key(|task| std::cmp::Reverse(task.definition.run.memory_mb));
    let more = lrps.split_off(lrps.partition_point(|start| start.index == 0));
    lrps.into_iter()
        .map(Item::Lrp)
        .chain(tasks.into_iter().map(Item::Task))
        .chain(more.into_iter().map(Item::Lrp))
        .collect()
}

#[cfg(test)]
mod tests;
