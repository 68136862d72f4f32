//! What a round goes by: the work that still waits for a cell, and the cells that are there.

use std::sync::Arc;

use base::Timestamp;
use diego::actual_lrp::State as LrpState;
use diego::cell::LrpStart;
use diego::task::State as TaskState;
use diego::{CellPresence, Work};

use super::Requests;
use crate::state::{Slot, State};

pub(crate) struct Lot {
    pub work: Work,
    pub present: Vec<Arc<CellPresence>>,
    pub newest_cell: Timestamp,
}

impl Lot {
    /// Only what still waits: the rest was settled while the request lay. Whoever places it has told the floor all that
    /// was committed before; else it may place what a cell has by now, and take room that nobody gives back.
    pub fn of(state: &State, requests: &Requests, now: Timestamp) -> Lot {
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

    pub fn count(&self) -> usize {
        self.work.lrps.len() + self.work.tasks.len()
    }
}
