//! Pure: what to do about the difference between what was desired and what there is. It looks only at what is not in
//! order, so that a round over a quiet million instances costs nothing.

mod instances;
mod tasks;

use std::collections::BTreeSet;
use std::time::Duration;

use base::Timestamp;
use diego::{CellId, Domain, InstanceGuid, ProcessGuid, TaskGuid};

use crate::config::Timings;
use crate::state::{Retirement, Slot, State};

/// A cell is told so often to stop an instance that has no record any more.
const TELLINGS: u32 = 3;

/// One thing to do. In the order in which a round finds them.
#[derive(Clone, Debug, PartialEq)]
pub enum Remedy {
    PruneDomain(Domain),
    /// A cell's time is over.
    ForgetCell(CellId),
    DropEvacuating(Slot),
    /// Retired, and its cell is gone: nobody is left to report its end.
    ForgetLost(Slot),
    Suspect(Slot),
    /// Lost, while an earlier suspect of the same index is waited for.
    UnclaimLost(Slot),
    Create(Slot),
    Retire(Slot),
    DropSuspect(Slot),
    Recover(Slot),
    Restart(Slot),
    Auction(Slot),
    /// A cell that took note of a stop has not reported the end.
    StopAgain(InstanceGuid),
    DropRetirement(InstanceGuid),
    /// Running instances carry other tags than desired.
    Retag(ProcessGuid),
    FailTask(TaskGuid, &'static str),
    AuctionTask(TaskGuid),
    UnresolveTask(TaskGuid),
    DeleteTask(TaskGuid),
    CallBack(TaskGuid),
}

/// What to do now, and when the next thing is due if nothing happens until then.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Round {
    pub remedies: Vec<Remedy>,
    pub next: Option<Timestamp>,
}

impl Round {
    fn act(&mut self, remedy: Remedy) {
        self.remedies.push(remedy);
    }

    fn wait_until(&mut self, due: Timestamp) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    /// Whether so much has passed since then; else it is waited for. What lies further ahead than that was written by
    /// a clock that went wrong, or by another one: nobody waits for that.
    fn has_passed(&mut self, span: Duration, since: Timestamp, now: Timestamp) -> bool {
        since > now + span || self.is_due(since + span, now)
    }

    /// Whether `due` has come; else it is waited for.
    fn is_due(&mut self, due: Timestamp, now: Timestamp) -> bool {
        if due > now {
            self.wait_until(due);
        }
        due <= now
    }
}

pub(crate) fn converge(state: &State, now: Timestamp, timings: &Timings) -> Round {
    let mut round = Round::default();
    domains_and_cells(&mut round, state, now);
    for slot in suspicious(state, now) {
        instances::converge(&mut round, state, &slot, now, timings);
    }
    for retirement in state.retirements() {
        retired(&mut round, state, retirement, now, timings);
    }
    for (process, retag) in state.retags() {
        if round.is_due(retag.since + timings.stop_again, now) {
            round.act(Remedy::Retag(process.clone()));
            round.wait_until(now + timings.stop_again);
        }
    }
    for task in state.all_tasks() {
        tasks::one(&mut round, state, task, now, timings);
    }
    round
}

/// Whether convergence would do this now, if it looked again.
pub(crate) fn still_needed(
    state: &State,
    remedy: &Remedy,
    now: Timestamp,
    timings: &Timings,
) -> bool {
    use Remedy::*;
    let mut round = Round::default();
    match remedy {
        PruneDomain(_) | ForgetCell(_) => domains_and_cells(&mut round, state, now),
        DropEvacuating(slot) | ForgetLost(slot) | Suspect(slot) | UnclaimLost(slot)
        | Create(slot) | Retire(slot) | DropSuspect(slot) | Recover(slot) | Restart(slot)
        | Auction(slot) => {
            instances::converge(&mut round, state, slot, now, timings);
        }
        StopAgain(guid) | DropRetirement(guid) => {
            if let Some(retirement) = state.retirement(guid) {
                retired(&mut round, state, retirement, now, timings);
            }
        }
        Retag(process) => {
            return state.retag(process).is_some_and(|retag| !retag.slots.is_empty());
        }
        FailTask(guid, _)
        | AuctionTask(guid)
        | UnresolveTask(guid)
        | DeleteTask(guid)
        | CallBack(guid) => {
            if let Some(task) = state.task(guid) {
                tasks::one(&mut round, state, task, now, timings);
            }
        }
    }
    round.remedies.contains(remedy)
}

fn domains_and_cells(round: &mut Round, state: &State, now: Timestamp) {
    for (domain, fresh) in state.domains() {
        if fresh.until.is_some_and(|until| round.is_due(until, now)) {
            round.act(Remedy::PruneDomain(domain.clone()));
        }
    }
    for (id, cell) in state.cells() {
        if round.is_due(cell.until, now) {
            round.act(Remedy::ForgetCell(id.clone()));
        }
    }
}

/// Every slot that may need something: unsettled ones, those on lost cells, and those of processes that have too few
/// instances or too many.
fn suspicious(state: &State, now: Timestamp) -> BTreeSet<Slot> {
    let mut slots: BTreeSet<Slot> = state.unsettled().cloned().collect();
    for (_, lost) in state.slots_by_cell().filter(|(cell, _)| !state.is_present(cell, now)) {
        slots.extend(lost.iter().cloned());
    }
    for (guid, process) in state.misfits() {
        let held = process.groups.keys().filter(|index| !process.wants(**index));
        slots.extend(held.map(|index| (guid.clone(), *index)));
        let missing = (0..process.instances()).filter(|index| !process.groups.contains_key(index));
        slots.extend(missing.map(|index| (guid.clone(), index)));
    }
    slots
}

fn retired(
    round: &mut Round,
    state: &State,
    retirement: &Retirement,
    now: Timestamp,
    timings: &Timings,
) {
    let guid = &retirement.instance.instance_guid;
    if !state.is_present(&retirement.instance.cell_id, now) {
        if round.is_due(retirement.since + timings.retirement_kept, now) {
            round.act(Remedy::DropRetirement(guid.clone()));
        }
        return;
    }
    let came = state.cell(&retirement.instance.cell_id).map(|cell| cell.came);
    let came = came.unwrap_or(retirement.since);
    let group = state.group(&retirement.key.process_guid, retirement.key.index);
    let gone = group.is_none_or(|group| group.of(&retirement.instance).is_none());
    // A cell that was told so often and reports no end has nothing of it, and no record waits for its word.
    let told_often = retirement.since.max(came) + timings.stop_again * TELLINGS;
    if gone && round.is_due(told_often, now) {
        return round.act(Remedy::DropRetirement(guid.clone()));
    }
    // A cell that is back is told at once.
    let back = came > retirement.since;
    if back || round.is_due(retirement.since + timings.stop_again, now) {
        round.act(Remedy::StopAgain(guid.clone()));
    }
}
