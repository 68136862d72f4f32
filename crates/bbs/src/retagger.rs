//! Gives running instances the tags of the LRP as it is desired now: a rename shows in their log lines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{CancellationToken, TaskTracker, Timestamp};
use diego::actual_lrp::State as LrpState;
use diego::cell::LrpUpdate;
use diego::{InstanceKey, ProcessGuid};
use futures::StreamExt as _;
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tracing::warn;

use crate::cells::Cells;
use crate::config::Timings;
use crate::decide::Command;
use crate::lease::Lease;
use crate::state::{Group, State};
use crate::writer::Job;

/// Instances of one process that are told at once.
const AT_ONCE: usize = 32;

pub(crate) struct Retagger {
    pub state: Arc<RwLock<State>>,
    pub cells: Arc<Cells>,
    pub jobs: mpsc::Sender<Job>,
    pub timings: Timings,
    pub lease: Arc<Lease>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    /// Processes that are seen to, and whether there is news of them since that began.
    pub active: Mutex<BTreeMap<ProcessGuid, bool>>,
}

/// What is to be told to whom, and which indices need nothing.
pub struct Plan {
    pub version: u32,
    pub since: Timestamp,
    pub update: LrpUpdate,
    pub tell: Vec<(u32, Vec<InstanceKey>)>,
    pub done: BTreeSet<u32>,
}

impl Retagger {
    /// Begins, or looks once more when it is under way.
    pub fn retag(self: &Arc<Self>, process: ProcessGuid) {
        if let Some(news) = self.active.lock().get_mut(&process) {
            *news = true;
            return;
        }
        self.active.lock().insert(process.clone(), false);
        let me = self.clone();
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = me.tell(&process) => {}
                    () = me.stop.cancelled() => {}
                }
                let mut active = me.active.lock();
                if active.insert(process.clone(), false) != Some(true) || me.stop.is_cancelled() {
                    active.remove(&process);
                    return;
                }
            }
        });
    }

    /// Whoever does not take note is told again by convergence, or when it comes up.
    async fn tell(&self, process: &ProcessGuid) {
        self.lease.held(&self.stop).await;
        let Some(plan) = plan(&self.state.read(), process) else { return };
        let update = &plan.update;
        let told = futures::stream::iter(plan.tell)
            .map(async |(index, instances)| {
                let mut all = true;
                for instance in instances {
                    all &= self.tell_one(process, &instance, update).await;
                }
                all.then_some(index)
            })
            .buffer_unordered(AT_ONCE);
        let mut slots = plan.done;
        slots.extend(told.filter_map(async |index| index).collect::<Vec<_>>().await);
        if !slots.is_empty() {
            let (process, version, since) = (process.clone(), plan.version, plan.since);
            let command = Command::Retagged { process, version, since, slots };
            // The writer is gone only when the brain stops; the next one begins again.
            let _ = self.jobs.send(Job { command, reply: None }).await;
        }
    }

    async fn tell_one(
        &self,
        process: &ProcessGuid,
        instance: &InstanceKey,
        update: &LrpUpdate,
    ) -> bool {
        let Some(cell) = self.cells.reach(&instance.cell_id) else { return false };
        let update = cell.update_lrp(process, &instance.instance_guid, update);
        match tokio::time::timeout(self.timings.cell_timeout, update).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                warn!(instance.guid = %instance.instance_guid, %error, "an instance keeps its old tags for now");
                false
            }
            Err(_) => {
                warn!(instance.guid = %instance.instance_guid, "a cell did not take note of new tags in time");
                false
            }
        }
    }
}

pub(crate) fn plan(state: &State, process: &ProcessGuid) -> Option<Plan> {
    let (retag, desired) = (state.retag(process)?, state.desired(process)?);
    let (modification_tag, metric_tags) =
        (desired.modification_tag.clone(), desired.metric_tags.clone());
    let update = LrpUpdate { modification_tag, metric_tags };
    let (mut tell, mut done) = (Vec::new(), BTreeSet::new());
    for &index in &retag.slots {
        match wanted(state.group(process, index)) {
            Wanted::Nothing => drop(done.insert(index)),
            Wanted::Wait => {}
            Wanted::Tell(instances) => tell.push((index, instances)),
        }
    }
    Some(Plan { version: retag.version, since: retag.since, update, tell, done })
}

enum Wanted {
    /// Whatever starts next has the tags from the start.
    Nothing,
    /// A cell may have been given it with the old ones.
    Wait,
    Tell(Vec<InstanceKey>),
}

fn wanted(group: Option<&Group>) -> Wanted {
    let Some(group) = group else { return Wanted::Nothing };
    if let Some(LrpState::Unclaimed { .. } | LrpState::Claimed { .. }) =
        group.ordinary.as_ref().map(|lrp| &lrp.state)
    {
        return Wanted::Wait;
    }
    let running = group.records().filter_map(|lrp| match &lrp.state {
        LrpState::Running { by, .. } => Some(by.clone()),
        _ => None,
    });
    let running: Vec<_> = running.collect();
    if running.is_empty() { Wanted::Nothing } else { Wanted::Tell(running) }
}
