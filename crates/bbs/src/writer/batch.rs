//! What one commit holds, and what follows from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::Timestamp;
use diego::actual_lrp::State as LrpState;
use diego::bbs::Result;
use diego::cell::Resources;
use diego::crash::Restart;
use diego::task::State as TaskState;
use diego::{ActualLrp, CellId, Event, InstanceGuid, Presence, ProcessGuid, Task, TaskGuid};
use tokio::sync::oneshot;

use super::Job;
use crate::auctioneer::Move;
use crate::config::Timings;
use crate::decide::{Answer, Command, Decision, decide};
use crate::state::{Key, Slot, State, Write};

pub(crate) struct Batch {
    now: Timestamp,
    timings: Arc<Timings>,
    pub undo: Vec<Write>,
    pub keys: BTreeSet<Key>,
    pub replies: Vec<(oneshot::Sender<Result<Answer>>, Result<Answer>)>,
    pub follow: Follow,
}

/// What happens once the batch is safe.
#[derive(Default)]
pub(crate) struct Follow {
    pub events: Vec<Event>,
    /// Whose routes may have changed.
    pub rerouted: BTreeSet<ProcessGuid>,
    pub moved: BTreeSet<Slot>,
    pub auction: Vec<Slot>,
    pub auction_tasks: Vec<TaskGuid>,
    pub cancels: Vec<(CellId, TaskGuid)>,
    pub retired: Vec<InstanceGuid>,
    /// Whose instances are to be given new tags.
    pub retagged: BTreeSet<ProcessGuid>,
    /// Tasks that ended and have somebody to tell.
    pub completed: Vec<TaskGuid>,
    pub cells_gone: Vec<CellId>,
    /// What goes on and off the cells.
    pub moves: Vec<Move>,
    pub converge: bool,
    /// The earliest moment at which something is due.
    pub due: Option<Timestamp>,
}

impl Batch {
    pub fn new(now: Timestamp, timings: Arc<Timings>) -> Batch {
        let follow = Follow::default();
        Batch { now, timings, undo: Vec::new(), keys: BTreeSet::new(), replies: Vec::new(), follow }
    }

    pub fn take(&mut self, state: &mut State, job: Job) {
        let is_remedy = matches!(job.command, Command::Remedy(_));
        let answer = decide(state, job.command, self.now, &self.timings)
            .map(|decision| self.apply(state, decision));
        if let (true, Err(error)) = (is_remedy, &answer) {
            tracing::debug!(%error, "a remedy came too late");
        }
        if let Some(reply) = job.reply {
            self.replies.push((reply, answer));
        }
    }

    fn apply(&mut self, state: &mut State, decision: Decision) -> Answer {
        self.follow.events.extend(decision.crashed);
        for write in decision.writes {
            self.keys.insert(write.key());
            let undo = state.write(write.clone());
            self.follow.events.extend(write.event(&undo));
            self.notice(&undo, &write);
            self.notice_tags(state, &write);
            moves(&mut self.follow.moves, state, &undo, &write);
            self.undo.push(undo);
        }
        self.follow.auction.extend(decision.auction);
        self.follow.auction_tasks.extend(decision.auction_tasks);
        self.follow.cancels.extend(decision.cancel);
        self.follow.converge |= decision.converge;
        decision.answer
    }

    /// Tags changed, or somebody who has old ones came up.
    fn notice_tags(&mut self, state: &State, write: &Write) {
        match write {
            Write::Retag(process, Some(retag)) if !retag.slots.is_empty() => {
                self.follow.retagged.insert(process.clone());
            }
            Write::Actual(key, Some(lrp)) if matches!(lrp.state, LrpState::Running { .. }) => {
                let waits = state
                    .retag(&key.process_guid)
                    .is_some_and(|retag| retag.slots.contains(&key.index));
                if waits {
                    self.follow.retagged.insert(key.process_guid.clone());
                }
            }
            _ => {}
        }
    }

    /// What follows from a change, whatever brought it about.
    fn notice(&mut self, before: &Write, after: &Write) {
        let follow = &mut self.follow;
        let mut due = None;
        match (before, after) {
            (Write::Desired(guid, before), Write::Desired(_, after)) => {
                let same = matches!((before, after), (Some(before), Some(after))
                    if before.routes == after.routes && before.metric_tags == after.metric_tags);
                if !same {
                    follow.rerouted.insert(guid.clone());
                }
            }
            (Write::Actual(key, before), Write::Actual(_, after)) => {
                let runs = |state: &LrpState| matches!(state, LrpState::Running { .. });
                if [before, after].into_iter().flatten().any(|lrp| runs(&lrp.state)) {
                    follow.moved.insert((key.process_guid.clone(), key.index));
                }
                due = after.as_ref().and_then(|lrp| match &lrp.state {
                    LrpState::Unclaimed { .. } => Some(lrp.since + self.timings.stale_unclaimed),
                    LrpState::Crashed => match self.timings.crash_rule().restart(lrp.crash_count) {
                        Restart::After(wait) => Some(lrp.since + wait),
                        Restart::AtOnce | Restart::Never => None,
                    },
                    LrpState::Claimed { .. } | LrpState::Running { .. } => None,
                });
            }
            (Write::Task(guid, before), Write::Task(_, Some(task))) => {
                let was_over = before.as_ref().is_some_and(|before| before.outcome().is_some());
                let is_told = !task.definition.completion_callback_url.is_empty();
                if is_told && !was_over && matches!(task.state, TaskState::Completed { .. }) {
                    follow.completed.push(guid.clone());
                }
                due = Some(task_due(task, &self.timings));
            }
            (Write::Retirement(..), Write::Retirement(guid, Some(retirement))) => {
                follow.moved.insert((retirement.key.process_guid.clone(), retirement.key.index));
                follow.retired.push(guid.clone());
                due = Some(self.now + self.timings.stop_again);
            }
            (_, Write::Domain(_, Some(fresh))) => due = fresh.until,
            (_, Write::Cell(_, Some(present))) => due = Some(present.until),
            (_, Write::Cell(id, None)) => follow.cells_gone.push(id.clone()),
            _ => {}
        }
        follow.due = follow.due.into_iter().chain(due).min();
    }
}

/// How much an instance takes of its cell; `None` when nobody knows any more. What was noted when it was retired goes
/// first: by now another LRP may be desired under the same name.
fn taken(state: &State, lrp: &ActualLrp) -> Option<Resources> {
    let retirement = lrp.instance().and_then(|by| state.retirement(&by.instance_guid));
    let noted = retirement.and_then(|retirement| retirement.resources);
    let desired = || state.desired(&lrp.key.process_guid);
    noted.or_else(|| desired().map(|desired| Resources::of(&desired.run)))
}

fn moves(moves: &mut Vec<Move>, state: &State, before: &Write, after: &Write) {
    match (before, after) {
        (Write::Actual(key, before), Write::Actual(_, after)) => {
            let slot = || (key.process_guid.clone(), key.index);
            let (old, new) = (before.as_deref(), after.as_deref());
            let by = |lrp: Option<&ActualLrp>| lrp.and_then(ActualLrp::instance).cloned();
            let runs = |lrp: &ActualLrp| matches!(lrp.state, LrpState::Running { .. });
            let (left, entered) = (by(old), by(new));
            if left == entered {
                match (old, new) {
                    (Some(old), Some(new)) if !runs(old) && runs(new) => {
                        moves.extend(entered.map(|by| Move::Started(by.cell_id)));
                    }
                    (Some(_), None) if key.presence == Presence::Ordinary => {
                        moves.push(Move::Dropped(slot()));
                    }
                    _ => {}
                }
                return;
            }
            if let (Some(lrp), Some(by)) = (old, left) {
                let (resources, ran) = (taken(state, lrp), runs(lrp));
                let process = key.process_guid.clone();
                moves.push(Move::Left { process, cell: by.cell_id, resources, ran });
            }
            if let (Some(lrp), Some(by)) = (new, entered) {
                let (resources, runs) = (taken(state, lrp), runs(lrp));
                moves.push(Move::Entered { slot: slot(), cell: by.cell_id, resources, runs });
            }
        }
        (Write::Task(guid, before), Write::Task(_, after)) => {
            let by =
                |task: &Option<Arc<Task>>| task.as_ref().and_then(|task| task.cell_id().cloned());
            let Some(task) = after.as_ref().or(before.as_ref()) else { return };
            let resources = Resources::of(&task.definition.run);
            match (by(before), by(after)) {
                (None, Some(cell)) => {
                    moves.push(Move::TaskEntered { guid: guid.clone(), cell, resources });
                }
                (Some(cell), None) => moves.push(Move::TaskLeft { cell, resources }),
                (None, None) => {
                    let waits = |task: &Arc<Task>| matches!(task.state, TaskState::Pending);
                    if !after.as_ref().is_some_and(waits) {
                        moves.push(Move::TaskDropped(guid.clone()));
                    }
                }
                (Some(_), Some(_)) => {}
            }
        }
        (Write::Cell(id, Some(_)), Write::Cell(_, None)) => moves.push(Move::CellGone(id.clone())),
        _ => {}
    }
}

fn task_due(task: &Task, timings: &Timings) -> Timestamp {
    match &task.state {
        TaskState::Pending | TaskState::Running { .. } => task.updated_at + timings.stale_pending,
        TaskState::Completed { outcome } | TaskState::Resolving { outcome } => {
            let again = task.updated_at + timings.callback_again.min(timings.resolving_falls_back);
            again.min(outcome.first_completed_at + timings.completed_expires)
        }
    }
}
