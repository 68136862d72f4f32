//! What waits for an auction, and what of it comes back from one.

use std::collections::BTreeMap;

use diego::cell::Refused;
use diego::{CellId, LrpKey, TaskGuid};

use super::Floor;
use crate::decide::Command;
use crate::state::Slot;

/// Work that found no place or was not taken is offered again at once so often; after that convergence takes care.
const ATTEMPTS: u32 = 3;

/// Work, each with how often it was tried before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pub lrps: BTreeMap<Slot, u32>,
    pub tasks: BTreeMap<TaskGuid, u32>,
}

/// Work without a place, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unplaced {
    pub lrps: Vec<(LrpKey, String)>,
    pub tasks: Vec<(TaskGuid, String)>,
}

impl Requests {
    pub fn add(&mut self, lrps: Vec<Slot>, tasks: Vec<TaskGuid>) {
        for slot in lrps {
            self.lrps.entry(slot).or_insert(0);
        }
        for guid in tasks {
            self.tasks.entry(guid).or_insert(0);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.lrps.is_empty() && self.tasks.is_empty()
    }

    /// What was `tried` and found no place waits again, or is recorded when that is vain or was done often enough.
    pub fn settle(&mut self, tried: &Requests, unplaced: Unplaced, vain: bool) -> Vec<Command> {
        let attempts = |before: Option<&u32>| {
            let attempts = before.map_or(1, |before| before + 1);
            (!vain && attempts < ATTEMPTS).then_some(attempts)
        };
        let mut record = Vec::new();
        for (key, why) in unplaced.lrps {
            let slot = (key.process_guid.clone(), key.index);
            match attempts(tried.lrps.get(&slot)) {
                Some(attempts) => drop(self.lrps.insert(slot, attempts)),
                None => record.push(Command::FailLrp(key, why)),
            }
        }
        for (guid, reason) in unplaced.tasks {
            match attempts(tried.tasks.get(&guid)) {
                Some(attempts) => drop(self.tasks.insert(guid, attempts)),
                None => record.push(Command::RejectTask { guid, by: None, reason }),
            }
        }
        record
    }

    /// A cell took what it was given but for what it refused. A cell that did not answer has refused all: whether it
    /// acted is not known, and a second start is harmless, for the record goes to one cell only.
    pub fn handed(
        &mut self,
        floor: &mut Floor,
        tried: &Requests,
        cell: &CellId,
        refused: Refused,
    ) -> Vec<Command> {
        if refused.lrps.is_empty() && refused.tasks.is_empty() {
            return Vec::new();
        }
        floor.doubt(cell);
        floor.refused(cell, &refused);
        let why = |what| format!("insufficient resources (cell {cell} handed the {what} back)");
        let lrps = refused.lrps.into_iter().map(|key| (key, why("instance"))).collect();
        let tasks = refused.tasks.into_iter().map(|guid| (guid, why("task"))).collect();
        self.settle(tried, Unplaced { lrps, tasks }, false)
    }
}
