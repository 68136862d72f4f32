//! One record put or taken away, its inverse, its row in the store and the event that tells of it.

use std::sync::Arc;

use diego::actual_lrp::State as LrpState;
use diego::{
    ActualLrp, CellId, DesiredLrp, Domain, Event, InstanceGuid, Presence, ProcessGuid, Task,
    TaskGuid,
};

use super::{Fresh, Group, Present, Process, Retag, Retirement, State};

/// Cells that went and are remembered; of older ones it is forgotten when they went.
const MOST_GONE: usize = 4096;

/// Names one ActualLRP record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ActualKey {
    pub process_guid: ProcessGuid,
    pub index: u32,
    pub presence: Presence,
}

impl ActualKey {
    pub fn of(lrp: &ActualLrp) -> ActualKey {
        ActualKey {
            process_guid: lrp.key.process_guid.clone(),
            index: lrp.key.index,
            presence: lrp.presence,
        }
    }
}

/// `None` takes the record away.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    Desired(ProcessGuid, Option<Arc<DesiredLrp>>),
    Actual(ActualKey, Option<Arc<ActualLrp>>),
    Task(TaskGuid, Option<Arc<Task>>),
    Domain(Domain, Option<Fresh>),
    Cell(CellId, Option<Present>),
    Retirement(InstanceGuid, Option<Arc<Retirement>>),
    Retag(ProcessGuid, Option<Arc<Retag>>),
}

/// Names a row of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Desired(ProcessGuid),
    Actual(ActualKey),
    Task(TaskGuid),
    Domain(Domain),
    Cell(CellId),
    Retirement(InstanceGuid),
    Retag(ProcessGuid),
}

impl Write {
    pub fn put_actual(lrp: ActualLrp) -> Write {
        Write::Actual(ActualKey::of(&lrp), Some(Arc::new(lrp)))
    }

    pub fn drop_actual(lrp: &ActualLrp) -> Write {
        Write::Actual(ActualKey::of(lrp), None)
    }

    pub fn put_task(task: Task) -> Write {
        Write::Task(task.task_guid.clone(), Some(Arc::new(task)))
    }

    pub fn key(&self) -> Key {
        match self {
            Write::Desired(guid, _) => Key::Desired(guid.clone()),
            Write::Actual(key, _) => Key::Actual(key.clone()),
            Write::Task(guid, _) => Key::Task(guid.clone()),
            Write::Domain(domain, _) => Key::Domain(domain.clone()),
            Write::Cell(id, _) => Key::Cell(id.clone()),
            Write::Retirement(guid, _) => Key::Retirement(guid.clone()),
            Write::Retag(guid, _) => Key::Retag(guid.clone()),
        }
    }

    /// What readers are told when this write replaced what `undo` would put back.
    pub fn event(&self, undo: &Write) -> Option<Event> {
        match (undo.clone(), self.clone()) {
            (Write::Desired(_, before), Write::Desired(_, after)) => match (before, after) {
                (None, Some(desired_lrp)) => Some(Event::DesiredLrpCreated { desired_lrp }),
                (Some(before), Some(after)) => Some(Event::DesiredLrpChanged { before, after }),
                (Some(desired_lrp), None) => Some(Event::DesiredLrpRemoved { desired_lrp }),
                (None, None) => None,
            },
            (Write::Actual(_, before), Write::Actual(_, after)) => match (before, after) {
                (None, Some(actual_lrp)) => Some(Event::ActualLrpCreated { actual_lrp }),
                (Some(before), Some(after)) => Some(Event::ActualLrpChanged { before, after }),
                (Some(actual_lrp), None) => Some(Event::ActualLrpRemoved { actual_lrp }),
                (None, None) => None,
            },
            (Write::Task(_, before), Write::Task(_, after)) => match (before, after) {
                (None, Some(task)) => Some(Event::TaskCreated { task }),
                (Some(before), Some(after)) => Some(Event::TaskChanged { before, after }),
                (Some(task), None) => Some(Event::TaskRemoved { task }),
                (None, None) => None,
            },
            _ => None,
        }
    }
}

impl State {
    /// Applies it and returns what undoes it.
    pub fn write(&mut self, write: Write) -> Write {
        match write {
            Write::Desired(guid, desired) => {
                let before = self.write_desired(&guid, desired);
                Write::Desired(guid, before)
            }
            Write::Actual(key, lrp) => {
                let before = self.write_actual(&key, lrp);
                Write::Actual(key, before)
            }
            Write::Task(guid, task) => {
                let before = match task {
                    Some(task) => self.tasks.insert(guid.clone(), task),
                    None => self.tasks.remove(&guid),
                };
                Write::Task(guid, before)
            }
            Write::Domain(domain, fresh) => {
                let before = match fresh {
                    Some(fresh) => self.domains.insert(domain.clone(), fresh),
                    None => self.domains.remove(&domain),
                };
                Write::Domain(domain, before)
            }
            Write::Cell(id, present) => {
                let before = match present {
                    Some(present) => {
                        self.newest_cell = self.newest_cell.max(present.came);
                        self.gone.remove(&id);
                        self.cells.insert(id.clone(), present)
                    }
                    None => {
                        let before = self.cells.remove(&id);
                        self.remember(&id, before.as_ref());
                        before
                    }
                };
                Write::Cell(id, before)
            }
            Write::Retirement(guid, retirement) => {
                let before = match retirement {
                    Some(retirement) => self.retirements.insert(guid.clone(), retirement),
                    None => self.retirements.remove(&guid),
                };
                Write::Retirement(guid, before)
            }
            Write::Retag(guid, retag) => {
                let before = match retag {
                    Some(retag) => self.retags.insert(guid.clone(), retag),
                    None => self.retags.remove(&guid),
                };
                Write::Retag(guid, before)
            }
        }
    }

    fn remember(&mut self, id: &CellId, before: Option<&Present>) {
        if let Some(before) = before {
            self.gone.insert(id.clone(), before.until);
        }
        if self.gone.len() > MOST_GONE {
            let oldest = self.gone.iter().min_by_key(|(_, until)| **until);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.gone.remove(&oldest);
            }
        }
    }

    /// The record as it is stored, or `None` when there is none.
    pub fn row(&self, key: &Key) -> Option<String> {
        fn text(record: &impl serde::Serialize) -> String {
            serde_json::to_string(record).expect("records have text keys and no failing parts")
        }
        match key {
            Key::Desired(guid) => self.desired(guid).map(text),
            Key::Actual(key) => {
                self.group(&key.process_guid, key.index)?.get(key.presence).as_ref().map(text)
            }
            Key::Task(guid) => self.tasks.get(guid).map(text),
            Key::Domain(domain) => self.domains.get(domain).map(text),
            Key::Cell(id) => self.cells.get(id).map(|cell| text(&cell.presence)),
            Key::Retirement(guid) => self.retirements.get(guid).map(text),
            Key::Retag(guid) => self.retags.get(guid).map(text),
        }
    }

    fn write_desired(
        &mut self,
        guid: &ProcessGuid,
        desired: Option<Arc<DesiredLrp>>,
    ) -> Option<Arc<DesiredLrp>> {
        let before = match desired {
            Some(desired) => self.enter(guid, &desired.domain.clone()).desired.replace(desired),
            None => self.processes.get_mut(guid)?.desired.take(),
        };
        self.index_process(guid);
        before
    }

    fn write_actual(
        &mut self,
        key: &ActualKey,
        lrp: Option<Arc<ActualLrp>>,
    ) -> Option<Arc<ActualLrp>> {
        let guid = &key.process_guid;
        let process = match &lrp {
            Some(lrp) => self.enter(guid, &lrp.key.domain.clone()),
            None => self.processes.get_mut(guid)?,
        };
        let group = process.groups.entry(key.index).or_default();
        let cells = |group: &Group| -> Vec<CellId> {
            group.records().filter_map(|lrp| lrp.instance()).map(|by| by.cell_id.clone()).collect()
        };
        let left = cells(group);
        let runs = is_running(&lrp);
        let before = std::mem::replace(group.get_mut(key.presence), lrp);
        let (held, settled) = (cells(group), group.is_settled());
        let gone = group.records().next().is_none();
        if gone {
            process.groups.remove(&key.index);
        }
        if key.presence == Presence::Ordinary {
            self.running = self.running + usize::from(runs) - usize::from(is_running(&before));
        }
        self.index_slot(guid, key.index, &left, &held, settled || gone);
        self.index_process(guid);
        before
    }

    fn enter(&mut self, guid: &ProcessGuid, domain: &Domain) -> &mut Process {
        if !self.processes.contains_key(guid) {
            self.by_domain.entry(domain.clone()).or_default().insert(guid.clone());
        }
        let process =
            || Process { domain: domain.clone(), desired: None, groups: Default::default() };
        self.processes.entry(guid.clone()).or_insert_with(process)
    }

    fn index_slot(
        &mut self,
        guid: &ProcessGuid,
        index: u32,
        left: &[CellId],
        held: &[CellId],
        settled: bool,
    ) {
        let slot = (guid.clone(), index);
        for cell in left.iter().filter(|cell| !held.contains(cell)) {
            if let Some(slots) = self.by_cell.get_mut(cell) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.by_cell.remove(cell);
                }
            }
        }
        for cell in held.iter().filter(|cell| !left.contains(cell)) {
            self.by_cell.entry(cell.clone()).or_default().insert(slot.clone());
        }
        if settled {
            self.unsettled.remove(&slot);
        } else {
            self.unsettled.insert(slot);
        }
    }

    /// Forgets a process of which nothing is left; else says whether it has what it wants.
    fn index_process(&mut self, guid: &ProcessGuid) {
        let Some(process) = self.processes.get(guid) else { return };
        if process.fits() {
            self.misfits.remove(guid);
        } else if process.desired.is_none() && process.groups.is_empty() {
            let domain = process.domain.clone();
            self.processes.remove(guid);
            self.misfits.remove(guid);
            if let Some(guids) = self.by_domain.get_mut(&domain) {
                guids.remove(guid);
                if guids.is_empty() {
                    self.by_domain.remove(&domain);
                }
            }
        } else {
            self.misfits.insert(guid.clone());
        }
    }
}

fn is_running(lrp: &Option<Arc<ActualLrp>>) -> bool {
    lrp.as_ref().is_some_and(|lrp| matches!(lrp.state, LrpState::Running { .. }))
}
