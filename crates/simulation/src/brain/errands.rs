//! What a brain has cells do besides new work, played: instances stopped, and running ones given new tags.

use std::collections::BTreeSet;

use base::Timestamp;
use bbs::simulation::Command;
use diego::{InstanceGuid, ProcessGuid};

use crate::world::{CellAsk, Event, MS, Reply, Then, World};

/// Tries in a row to have an instance stopped.
const STOPS: u32 = 5;
/// How often a brain without a lease looks whether it is back.
const LOOK: u64 = 20 * MS;

/// A process whose instances are told of new tags.
pub(super) struct Retagging {
    version: u32,
    since: Timestamp,
    slots: BTreeSet<u32>,
    failed: BTreeSet<u32>,
    open: usize,
    /// There is news since it began.
    news: bool,
}

impl World {
    pub fn see_off(&mut self, b: usize, guid: InstanceGuid, tries: u32) {
        let (now, it) = (self.instant(), &mut self.brains[b]);
        let life = it.life;
        if tries == 0 && !it.stopping.insert(guid.clone()) {
            return;
        }
        let going = it.brain.as_ref().and_then(|brain| brain.retiring(&guid));
        let holds = it.holds(now);
        let place = going.and_then(|(cell, _)| self.place_of(cell.as_str()));
        let Some(cell) = place.filter(|_| tries < STOPS) else {
            self.brains[b].stopping.remove(&guid);
            return;
        };
        if !holds {
            return self.at(LOOK, Event::SeeOff { life, guid, tries: tries.max(1) });
        }
        let then = Then::Stopped { life, guid: guid.clone(), tries };
        self.ask_cell(cell, CellAsk::Stop(guid), then);
    }

    pub fn told_stop(&mut self, life: u64, guid: InstanceGuid, tries: u32, reply: Reply) {
        let Some(b) = self.brain_of(life) else { return };
        if reply.is_ok() {
            self.brains[b].stopping.remove(&guid);
        } else {
            let wait = (200 * MS) << tries.min(4);
            self.at(wait, Event::SeeOff { life, guid, tries: tries + 1 });
        }
    }

    /// Begins, or looks once more when it is under way.
    pub(super) fn retag(&mut self, b: usize, process: ProcessGuid) {
        if let Some(active) = self.brains[b].retagging.get_mut(&process) {
            active.news = true;
            return;
        }
        let it = &self.brains[b];
        let Some(plan) = it.brain.as_ref().and_then(|brain| brain.retag(&process)) else { return };
        if !it.holds(self.instant()) {
            // Convergence comes back to it.
            return;
        }
        let life = it.life;
        let tell: Vec<_> = plan
            .tell
            .iter()
            .flat_map(|(index, instances)| instances.iter().map(move |by| (*index, by)))
            .collect();
        let told = tell.iter().map(|(index, _)| *index);
        let slots = plan.done.iter().copied().chain(told).collect();
        let active = Retagging {
            version: plan.version,
            since: plan.since,
            slots,
            failed: BTreeSet::new(),
            open: tell.len(),
            news: false,
        };
        self.brains[b].retagging.insert(process.clone(), active);
        for (index, by) in &tell {
            let cell = self.place_of(by.cell_id.as_str()).expect("all cells are of this world");
            let ask = CellAsk::Update(by.instance_guid.clone(), plan.update.clone());
            self.ask_cell(
                cell,
                ask,
                Then::Tagged { life, process: process.clone(), index: *index },
            );
        }
        if tell.is_empty() {
            self.end_retag(b, &process);
        }
    }

    pub fn told_tags(&mut self, life: u64, process: &ProcessGuid, index: u32, reply: &Reply) {
        let Some(b) = self.brain_of(life) else { return };
        let Some(active) = self.brains[b].retagging.get_mut(process) else { return };
        if reply.is_err() {
            active.failed.insert(index);
        }
        active.open -= 1;
        if active.open == 0 {
            self.end_retag(b, process);
        }
    }

    fn end_retag(&mut self, b: usize, process: &ProcessGuid) {
        let Some(active) = self.brains[b].retagging.remove(process) else { return };
        let slots: BTreeSet<u32> = active.slots.difference(&active.failed).copied().collect();
        if !slots.is_empty() {
            let (process, version, since) = (process.clone(), active.version, active.since);
            self.tell(b, vec![Command::Retagged { process, version, since, slots }]);
        }
        if active.news {
            self.retag(b, process.clone());
        }
    }
}
