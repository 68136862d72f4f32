//! All that the brain knows, in memory, with the indexes that decisions and readers need. It changes by [`Write`]s only.

mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Timestamp;
use diego::actual_lrp;
use diego::bbs::{ActualLrpFilter, TaskFilter};
use diego::cell::Resources;
use diego::{
    ActualLrp, CellId, CellPresence, DesiredLrp, Domain, InstanceGuid, InstanceKey, LrpKey,
    Presence, ProcessGuid, Task, TaskGuid,
};
use serde::{Deserialize, Serialize};

pub(crate) use write::{ActualKey, Key, Write};

/// One index of one process.
pub type Slot = (ProcessGuid, u32);

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    processes: BTreeMap<ProcessGuid, Process>,
    tasks: BTreeMap<TaskGuid, Arc<Task>>,
    domains: BTreeMap<Domain, Fresh>,
    cells: BTreeMap<CellId, Present>,
    retirements: BTreeMap<InstanceGuid, Arc<Retirement>>,
    /// Processes whose tags changed, and which running instances still carry old ones.
    retags: BTreeMap<ProcessGuid, Arc<Retag>>,
    /// Until when cells were present that are forgotten by now; the newest of them.
    gone: BTreeMap<CellId, Timestamp>,
    /// When a cell last came or changed: work that found no place before may find one now.
    newest_cell: Timestamp,
    by_cell: BTreeMap<CellId, BTreeSet<Slot>>,
    by_domain: BTreeMap<Domain, BTreeSet<ProcessGuid>>,
    /// Slots that are not simply one ordinary instance, claimed or running: all that convergence must look at.
    unsettled: BTreeSet<Slot>,
    /// Processes whose instances are not as many as desired.
    misfits: BTreeSet<ProcessGuid>,
    /// Ordinary records that are RUNNING.
    running: usize,
    /// How far the writer is: what is known may be ahead of what is stored by one batch.
    pub progress: Progress,
}

/// Counts the batches that were applied, and those that were taken back because the store refused them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub applied: u64,
    pub undone: u64,
}

/// A version of an LRP: what is desired and what there is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Process {
    pub domain: Domain,
    pub desired: Option<Arc<DesiredLrp>>,
    pub groups: BTreeMap<u32, Group>,
}

/// The records of one index, by presence.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Group {
    pub ordinary: Option<Arc<ActualLrp>>,
    pub evacuating: Option<Arc<ActualLrp>>,
    pub suspect: Option<Arc<ActualLrp>>,
}

/// Until when a domain is fresh; `None` = for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fresh {
    pub until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub presence: Arc<CellPresence>,
    /// When it came, or last changed what it offers.
    pub came: Timestamp,
    pub until: Timestamp,
}

/// An instance that must go: out of the route table first, then stopped, then forgotten when its cell says so. It may
/// outlive its record while its cell is missing, so that the cell cannot bring it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retirement {
    pub key: LrpKey,
    pub instance: InstanceKey,
    pub since: Timestamp,
    /// What its end sets free; the LRP may be forgotten by then.
    #[serde(default)]
    pub resources: Option<Resources>,
}

/// Tags changed since the LRP was first desired: these indices have not taken note yet. Kept when all have, since one
/// that was cut off may come back with old ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retag {
    pub slots: BTreeSet<u32>,
    /// The version of the desired LRP whose tags they want.
    pub version: u32,
    pub since: Timestamp,
}

impl Group {
    pub fn get(&self, presence: Presence) -> &Option<Arc<ActualLrp>> {
        match presence {
            Presence::Ordinary => &self.ordinary,
            Presence::Evacuating => &self.evacuating,
            Presence::Suspect => &self.suspect,
        }
    }

    fn get_mut(&mut self, presence: Presence) -> &mut Option<Arc<ActualLrp>> {
        match presence {
            Presence::Ordinary => &mut self.ordinary,
            Presence::Evacuating => &mut self.evacuating,
            Presence::Suspect => &mut self.suspect,
        }
    }

    pub fn records(&self) -> impl Iterator<Item = &Arc<ActualLrp>> {
        [&self.ordinary, &self.evacuating, &self.suspect].into_iter().flatten()
    }

    /// The record of this very instance.
    pub fn of(&self, instance: &InstanceKey) -> Option<&Arc<ActualLrp>> {
        self.records().find(|record| record.instance() == Some(instance))
    }

    /// The one record that a reader of groups sees (an evacuating one until its successor has settled).
    pub fn shown(&self) -> Option<&Arc<ActualLrp>> {
        use actual_lrp::State;
        let settled =
            |lrp: &&Arc<ActualLrp>| matches!(lrp.state, State::Running { .. } | State::Crashed);
        let old = self.evacuating.as_ref().or(self.suspect.as_ref());
        self.ordinary.as_ref().filter(settled).or(old).or(self.ordinary.as_ref())
    }

    fn is_settled(&self) -> bool {
        let alone = self.evacuating.is_none() && self.suspect.is_none();
        alone && self.ordinary.as_ref().is_some_and(|lrp| lrp.instance().is_some())
    }
}

impl Process {
    pub fn instances(&self) -> u32 {
        self.desired.as_ref().map_or(0, |desired| desired.instances)
    }

    /// Whether this index is desired.
    pub fn wants(&self, index: u32) -> bool {
        index < self.instances()
    }

    fn fits(&self) -> bool {
        let wanted = self.instances();
        let dense = self.groups.last_key_value().is_none_or(|(last, _)| *last < wanted);
        self.desired.is_some() && dense && self.groups.len() == wanted as usize
    }
}

impl State {
    pub fn running(&self) -> usize {
        self.running
    }

    pub fn process(&self, guid: &ProcessGuid) -> Option<&Process> {
        self.processes.get(guid)
    }

    pub fn desired(&self, guid: &ProcessGuid) -> Option<&Arc<DesiredLrp>> {
        self.processes.get(guid)?.desired.as_ref()
    }

    pub fn group(&self, guid: &ProcessGuid, index: u32) -> Option<&Group> {
        self.processes.get(guid)?.groups.get(&index)
    }

    pub fn processes(&self) -> impl Iterator<Item = (&ProcessGuid, &Process)> {
        self.processes.iter()
    }

    pub fn in_domain<'a>(&'a self, domain: &Domain) -> impl Iterator<Item = &'a Process> + use<'a> {
        let guids = self.by_domain.get(domain).into_iter().flatten();
        guids.filter_map(|guid| self.processes.get(guid))
    }

    pub fn desired_lrps<'a>(
        &'a self,
        domain: Option<&Domain>,
    ) -> Box<dyn Iterator<Item = &'a Arc<DesiredLrp>> + 'a> {
        match domain {
            Some(domain) => {
                Box::new(self.in_domain(domain).filter_map(|process| process.desired.as_ref()))
            }
            None => {
                Box::new(self.processes.values().filter_map(|process| process.desired.as_ref()))
            }
        }
    }

    /// Looks where the narrowest condition points, then asks the others.
    pub fn actual_lrps(&self, filter: &ActualLrpFilter) -> Vec<ActualLrp> {
        let groups: Box<dyn Iterator<Item = &Group>> = match filter {
            ActualLrpFilter { process_guids: Some(guids), .. } => {
                let found: BTreeSet<_> = guids.iter().collect();
                Box::new(
                    found
                        .into_iter()
                        .filter_map(|guid| self.processes.get(guid))
                        .flat_map(|process| process.groups.values()),
                )
            }
            ActualLrpFilter { cell_id: Some(cell), .. } => {
                let slots = self.by_cell.get(cell).into_iter().flatten();
                Box::new(slots.filter_map(|(guid, index)| self.group(guid, *index)))
            }
            ActualLrpFilter { domain: Some(domain), .. } => {
                Box::new(self.in_domain(domain).flat_map(|process| process.groups.values()))
            }
            _ => Box::new(self.processes.values().flat_map(|process| process.groups.values())),
        };
        let matches = |lrp: &&Arc<ActualLrp>| {
            filter.domain.as_ref().is_none_or(|domain| lrp.key.domain == *domain)
                && filter.index.is_none_or(|index| lrp.key.index == index)
                && filter
                    .cell_id
                    .as_ref()
                    .is_none_or(|cell| lrp.instance().is_some_and(|by| by.cell_id == *cell))
        };
        groups.flat_map(Group::records).filter(matches).map(|lrp| ActualLrp::clone(lrp)).collect()
    }

    pub fn task(&self, guid: &TaskGuid) -> Option<&Arc<Task>> {
        self.tasks.get(guid)
    }

    pub fn all_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    pub fn tasks(&self, filter: &TaskFilter) -> Vec<Task> {
        let found = self.tasks.values().filter(|task| filter.matches(task));
        found.map(|task| Task::clone(task)).collect()
    }

    pub fn domains(&self) -> impl Iterator<Item = (&Domain, &Fresh)> {
        self.domains.iter()
    }

    pub fn is_fresh(&self, domain: &Domain, now: Timestamp) -> bool {
        self.domains.get(domain).is_some_and(|fresh| fresh.until.is_none_or(|until| until > now))
    }

    /// All cells that ever announced themselves and were not forgotten, their time over or not.
    pub fn cells(&self) -> impl Iterator<Item = (&CellId, &Present)> {
        self.cells.iter()
    }

    pub fn present(&self, now: Timestamp) -> impl Iterator<Item = &Arc<CellPresence>> {
        self.cells.values().filter(move |cell| cell.until > now).map(|cell| &cell.presence)
    }

    pub fn cell(&self, id: &CellId) -> Option<&Present> {
        self.cells.get(id)
    }

    pub fn is_present(&self, id: &CellId, now: Timestamp) -> bool {
        self.cells.get(id).is_some_and(|cell| cell.until > now)
    }

    /// When a cell that is not there was last known to be; long ago when nobody remembers.
    pub fn last_seen(&self, id: &CellId) -> Timestamp {
        let known = self.cells.get(id).map(|cell| cell.until);
        known.or_else(|| self.gone.get(id).copied()).unwrap_or(Timestamp::ZERO)
    }

    pub fn newest_cell(&self) -> Timestamp {
        self.newest_cell
    }

    /// Moves a known cell's time on; `false` when it is not known in just this form.
    pub fn renew(&mut self, presence: &CellPresence, now: Timestamp, until: Timestamp) -> bool {
        match self.cells.get_mut(&presence.cell_id) {
            Some(known) if *known.presence == *presence && known.until > now => {
                known.until = until;
                true
            }
            _ => false,
        }
    }

    pub fn retirement(&self, instance: &InstanceGuid) -> Option<&Arc<Retirement>> {
        self.retirements.get(instance)
    }

    pub fn retirements(&self) -> impl Iterator<Item = &Arc<Retirement>> {
        self.retirements.values()
    }

    pub fn retag(&self, process: &ProcessGuid) -> Option<&Arc<Retag>> {
        self.retags.get(process)
    }

    /// Those of which somebody has not taken note.
    pub fn retags(&self) -> impl Iterator<Item = (&ProcessGuid, &Arc<Retag>)> {
        self.retags.iter().filter(|(_, retag)| !retag.slots.is_empty())
    }

    pub fn is_retiring(&self, lrp: &ActualLrp) -> bool {
        lrp.instance().is_some_and(|by| self.retirements.contains_key(&by.instance_guid))
    }

    pub fn slots_by_cell(&self) -> impl Iterator<Item = (&CellId, &BTreeSet<Slot>)> {
        self.by_cell.iter()
    }

    pub fn unsettled(&self) -> impl Iterator<Item = &Slot> {
        self.unsettled.iter()
    }

    pub fn misfits(&self) -> impl Iterator<Item = (&ProcessGuid, &Process)> {
        self.misfits.iter().filter_map(|guid| self.processes.get_key_value(guid))
    }

    /// What is not undone, since it only ever brings an auction forward or lets a task be waited for.
    #[cfg(test)]
    pub fn forget_when_cells_came(&mut self, like: &State) {
        self.newest_cell = like.newest_cell;
        self.gone = like.gone.clone();
    }

    /// What the indexes should be, counted anew; tests compare.
    #[cfg(test)]
    pub fn check_indexes(&self) {
        let mut anew = State { newest_cell: self.newest_cell, ..State::default() };
        for (guid, process) in &self.processes {
            assert!(
                process.desired.is_some() || !process.groups.is_empty(),
                "{guid} is an empty process"
            );
            if let Some(desired) = &process.desired {
                anew.write(Write::Desired(guid.clone(), Some(desired.clone())));
            }
            for record in process.groups.values().flat_map(Group::records) {
                anew.write(Write::Actual(ActualKey::of(record), Some(record.clone())));
            }
        }
        assert_eq!(anew.by_cell, self.by_cell);
        assert_eq!(anew.by_domain, self.by_domain);
        assert_eq!(anew.unsettled, self.unsettled);
        assert_eq!(anew.misfits, self.misfits);
        assert_eq!(anew.running, self.running);
    }
}
