//! Compares what the cell holds with what the brain believes, now and then: it makes good whatever was missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diego::actual_lrp::State as Record;
use diego::bbs::{ActualLrpFilter, Evacuation, TaskFilter};
use diego::task::State as TaskRecord;
use diego::{ActualLrp, CellId, InstanceGuid, LrpKey, Presence, ProcessGuid, Task, TaskGuid};
use tracing::{debug, info};

use crate::cell::{Mode, Rep};
use crate::lrp;
use crate::owner::{Owner, handle};
use crate::task;
use crate::work::Seen;

/// Asked of the brain in one request.
const CHUNK: usize = 500;

/// A record as one container sees it.
pub fn lrp_view(record: Option<&ActualLrp>, cell: &CellId, instance: &InstanceGuid) -> lrp::View {
    let Some(record) = record else { return lrp::View::None };
    let is_mine = |by: &diego::InstanceKey| by.cell_id == *cell && by.instance_guid == *instance;
    match &record.state {
        Record::Unclaimed { .. } => lrp::View::Unclaimed,
        Record::Claimed { by } => lrp::View::Claimed { mine: is_mine(by) },
        Record::Running { by, net, routable } => {
            lrp::View::Running(is_mine(by).then(|| (net.clone(), *routable)))
        }
        Record::Crashed => lrp::View::Crashed,
    }
}

/// The record that decides over a container: its own of whatever presence, or else the ordinary one.
fn judge<'a>(
    records: &'a [ActualLrp],
    key: &LrpKey,
    instance: &InstanceGuid,
) -> Option<&'a ActualLrp> {
    let own = |lrp: &&ActualLrp| lrp.instance().is_some_and(|by| by.instance_guid == *instance);
    let of_key = || records.iter().filter(|lrp| lrp.key == *key);
    of_key().find(own).or_else(|| of_key().find(|lrp| lrp.presence == Presence::Ordinary))
}

/// What the records say of a container. That it evacuates is the word of a cell that goes, and may come late from an
/// earlier life of this one: a cell that stays says anew what it has, and the brain makes it one like any other.
pub fn judged(
    records: &[ActualLrp],
    key: &LrpKey,
    cell: &CellId,
    instance: &InstanceGuid,
) -> lrp::View {
    match judge(records, key, instance) {
        Some(record) if record.presence == Presence::Evacuating => lrp::View::Unknown,
        record => lrp_view(record, cell, instance),
    }
}

pub fn task_view(record: Option<&Task>, cell: &CellId) -> task::View {
    match record.map(|record| &record.state) {
        None => task::View::None,
        Some(TaskRecord::Pending) => task::View::Pending,
        Some(TaskRecord::Running { cell_id }) => task::View::Running { here: cell_id == cell },
        Some(TaskRecord::Completed { .. } | TaskRecord::Resolving { .. }) => task::View::Done,
    }
}

/// An instance here, before anything was asked.
struct Held {
    instance: InstanceGuid,
    key: LrpKey,
    /// Of the book's page.
    version: u64,
}

impl Rep {
    /// Looks at everything the brain says of this cell and everything the cell holds. Happens now and then by itself.
    pub async fn compare(self: &Arc<Self>) -> anyhow::Result<()> {
        if self.mode() == Mode::Starting {
            return Ok(());
        }
        self.compare_lrps().await?;
        self.compare_tasks().await?;
        Ok(())
    }

    async fn compare_lrps(self: &Arc<Self>) -> anyhow::Result<()> {
        // Before the records are read: what comes later is none of theirs.
        let held = self.instances();
        let filter = ActualLrpFilter {
            cell_id: Some(self.config.cell_id.clone()),
            ..ActualLrpFilter::default()
        };
        let mut records = self.bbs.actual_lrps(&filter).await?;
        // Whoever is in a record has been reserved before: a container that is not here now will not come.
        for record in &records {
            self.settle_missing(record).await;
        }
        let known: HashSet<LrpKey> = records.iter().map(|record| record.key.clone()).collect();
        let elsewhere: HashSet<ProcessGuid> = held
            .iter()
            .filter(|one| !known.contains(&one.key))
            .map(|one| one.key.process_guid.clone())
            .collect();
        let elsewhere: Vec<ProcessGuid> = elsewhere.into_iter().collect();
        for guids in elsewhere.chunks(CHUNK) {
            let filter = ActualLrpFilter {
                process_guids: Some(guids.to_vec()),
                ..ActualLrpFilter::default()
            };
            records.extend(self.bbs.actual_lrps(&filter).await?);
        }
        for Held { instance, key, version } in &held {
            let view = judged(&records, key, &self.config.cell_id, instance);
            self.note(&handle(instance), *version, Seen::Lrp(view));
        }
        Ok(())
    }

    fn instances(&self) -> Vec<Held> {
        let owners =
            self.executor.list().into_iter().filter_map(|container| Owner::of(&container.owner));
        owners
            .filter_map(|owner| match owner {
                Owner::Lrp { key, instance_guid: instance, .. } => {
                    let version = self.book.version(&handle(&instance));
                    Some(Held { instance, key, version })
                }
                Owner::Task { .. } => None,
            })
            .collect()
    }

    /// A record of this cell without a container here.
    async fn settle_missing(&self, record: &ActualLrp) {
        let Some(instance) =
            record.instance().filter(|instance| instance.cell_id == self.config.cell_id)
        else {
            return;
        };
        if self.executor.get(&handle(&instance.instance_guid)).is_some() {
            return;
        }
        let view = lrp_view(Some(record), &self.config.cell_id, &instance.instance_guid);
        if lrp::missing(&view).is_empty() {
            return;
        }
        info!(lrp = %record.key, instance.guid = %instance.instance_guid, "an instance has no container any more");
        let settled = match record.presence {
            Presence::Evacuating => {
                self.bbs.evacuate(&record.key, instance, Evacuation::Stopped).await.map(drop)
            }
            Presence::Ordinary | Presence::Suspect => self.bbs.remove(&record.key, instance).await,
        };
        if let Err(error) = settled {
            debug!(lrp = %record.key, %error, "left for the next round");
        }
    }

    async fn compare_tasks(self: &Arc<Self>) -> anyhow::Result<()> {
        let containers = self.executor.list().into_iter();
        let held: Vec<(garden::Handle, TaskGuid, u64)> = containers
            .filter_map(|container| match Owner::of(&container.owner) {
                Some(Owner::Task { guid, .. }) => {
                    let version = self.book.version(&container.guid);
                    Some((container.guid, guid, version))
                }
                _ => None,
            })
            .collect();
        let filter =
            TaskFilter { cell_id: Some(self.config.cell_id.clone()), ..TaskFilter::default() };
        let records = self.bbs.tasks(&filter).await?;
        for record in &records {
            let lost = self.executor.get(&handle(&record.task_guid)).is_none();
            if lost && task::is_missing(task_view(Some(record), &self.config.cell_id)) {
                let failure = Some("task container does not exist");
                let by = record.attempt_by(self.config.cell_id.clone());
                if let Err(error) =
                    self.bbs.complete_task(&record.task_guid, &by, failure, "").await
                {
                    debug!(task.guid = %record.task_guid, %error, "left for the next round");
                }
            }
        }
        let here: HashMap<&TaskGuid, &Task> =
            records.iter().map(|record| (&record.task_guid, record)).collect();
        for (handle, guid, version) in held {
            let view = match here.get(&guid) {
                Some(record) => task_view(Some(record), &self.config.cell_id),
                None => match self.bbs.task(&guid).await {
                    Ok(record) => task_view(Some(&record), &self.config.cell_id),
                    Err(error) if error.is_not_found() => task::View::None,
                    Err(error) => return Err(error.into()),
                },
            };
            self.note(&handle, version, Seen::Task(view));
        }
        Ok(())
    }

    /// Has the container's lane look at it with what was found out, unless there is nothing to do.
    /// Nor does it look when the brain was told something meanwhile: the lane knows better then.
    fn note(self: &Arc<Self>, guid: &garden::Handle, version: u64, seen: Seen) {
        let Some(container) = self.executor.get(guid) else { return };
        let log_source = "";
        let idle = match &seen {
            Seen::Lrp(view) => lrp::lrp_step(&container.state, log_source, view).is_empty(),
            Seen::Task(view) => task::task_step(&container.state, *view).is_empty(),
            Seen::Evacuating => true,
        };
        if !idle && self.book.read(guid, version, seen) {
            self.poke(guid);
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Timestamp;
    use diego::{InstanceKey, NetInfo};

    use super::*;

    fn record(state: Record) -> ActualLrp {
        let key = LrpKey { process_guid: "p".into(), index: 0, domain: "d".into() };
        ActualLrp { state, ..ActualLrp::unclaimed(key, Timestamp::ZERO) }
    }

    fn by(instance: &str, cell: &str) -> InstanceKey {
        InstanceKey { instance_guid: instance.into(), cell_id: cell.into() }
    }

    #[test]
    fn a_record_of_its_own_comes_before_the_ordinary_one() {
        let held = record(Record::Claimed { by: by("i", "a") });
        let suspect = ActualLrp { presence: Presence::Suspect, ..held };
        let records = [record(Record::Crashed), suspect.clone()];
        let judging = |instance: &str| judge(&records, &suspect.key, &instance.into());
        assert_eq!(judging("i"), Some(&suspect));
        assert_eq!(judging("j"), Some(&records[0]));
        let other = LrpKey { index: 1, ..suspect.key.clone() };
        assert_eq!(judge(&records, &other, &"i".into()), None);
    }

    /// Else nobody would ever end it when its index is no longer wanted.
    #[test]
    fn a_record_that_evacuates_is_told_anew_what_a_cell_has_that_stays() {
        let held = record(Record::Claimed { by: by("i", "a") });
        let late = ActualLrp { presence: Presence::Evacuating, ..held };
        let view = |instance: &str| {
            judged(std::slice::from_ref(&late), &late.key, &"a".into(), &instance.into())
        };
        assert_eq!(view("i"), lrp::View::Unknown);
        assert_eq!(view("j"), lrp::View::None, "a copy of another decides over nobody");
    }

    #[test]
    fn mine_is_this_cell_and_this_container() {
        let view = |state| lrp_view(Some(&record(state)), &"a".into(), &"i".into());
        assert_eq!(lrp_view(None, &"a".into(), &"i".into()), lrp::View::None);
        assert_eq!(view(Record::Claimed { by: by("i", "a") }), lrp::View::Claimed { mine: true });
        assert_eq!(view(Record::Claimed { by: by("i", "b") }), lrp::View::Claimed { mine: false });
        assert_eq!(view(Record::Claimed { by: by("j", "a") }), lrp::View::Claimed { mine: false });
        let net = NetInfo {
            address: [1, 1, 1, 1].into(),
            instance_address: [2, 2, 2, 2].into(),
            ports: vec![],
        };
        let running = |by| Record::Running { by, net: net.clone(), routable: true };
        assert_eq!(view(running(by("i", "a"))), lrp::View::Running(Some((net.clone(), true))));
        assert_eq!(view(running(by("j", "a"))), lrp::View::Running(None));
        assert_eq!(view(Record::Crashed), lrp::View::Crashed);
    }
}
