//! The brain without its shells: the same decisions over the same state, batch by batch, for whoever simulates time,
//! network and disk around them.

mod auctioneer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Timestamp;
use diego::actual_lrp::State as LrpState;
use diego::bbs::{ActualLrpFilter, Result, TaskFilter};
use diego::task::State as TaskState;
use diego::{
    ActualLrp, CellId, CellPresence, DesiredLrp, Domain, Event, InstanceGuid, ProcessGuid, Task,
    TaskGuid,
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

pub use self::auctioneer::{Auctioneer, MORE_TRIES, Question, Round, Tried};
use crate::auctioneer::Move;
use crate::config::Timings;
pub use crate::converge::Remedy;
pub use crate::decide::{Answer, Command};
pub use crate::lease::{Count, Lease, Watch};
pub use crate::retagger::Plan;
pub use crate::state::Slot;
use crate::state::{Fresh, Key, Present, Retag, Retirement, State, Write};
use crate::writer::Job;
use crate::writer::batch::Batch;

/// What lies on disk.
#[derive(Clone, Debug, Default)]
pub struct Rows(BTreeMap<Key, String>);

/// What one commit would write, and what follows once it is safe.
pub struct Commit {
    rows: Vec<(Key, Option<String>)>,
    keys: BTreeSet<Key>,
    undo: Vec<Write>,
    pub answers: Vec<Result<Answer>>,
    pub events: Vec<Event>,
    pub auction: Vec<Slot>,
    pub auction_tasks: Vec<TaskGuid>,
    pub cancels: Vec<(CellId, TaskGuid)>,
    pub retired: Vec<InstanceGuid>,
    pub retagged: BTreeSet<ProcessGuid>,
    moves: Vec<Move>,
    pub converge: bool,
    pub due: Option<Timestamp>,
}

pub struct Brain {
    state: State,
    timings: Arc<Timings>,
    owed: BTreeSet<Key>,
}

impl Commit {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Rows {
    pub fn store(&mut self, commit: &Commit) {
        for (key, text) in &commit.rows {
            match text {
                Some(text) => self.0.insert(key.clone(), text.clone()),
                None => self.0.remove(key),
            };
        }
    }
}

impl Brain {
    /// A brain that knows what is stored. Cells count as present until `cells_until`.
    pub fn load(rows: &Rows, timings: Timings, cells_until: Timestamp) -> Brain {
        let mut state = State::default();
        for (key, text) in &rows.0 {
            state.write(match key {
                Key::Desired(guid) => {
                    Write::Desired(guid.clone(), Some(Arc::new(parse::<DesiredLrp>(text))))
                }
                Key::Actual(_) => Write::put_actual(parse::<ActualLrp>(text)),
                Key::Task(_) => Write::put_task(parse::<Task>(text)),
                Key::Domain(domain) => Write::Domain(domain.clone(), Some(parse::<Fresh>(text))),
                Key::Cell(id) => {
                    let presence = Arc::new(parse::<CellPresence>(text));
                    let came = Timestamp::ZERO;
                    Write::Cell(id.clone(), Some(Present { presence, came, until: cells_until }))
                }
                Key::Retirement(guid) => {
                    Write::Retirement(guid.clone(), Some(Arc::new(parse::<Retirement>(text))))
                }
                Key::Retag(guid) => {
                    Write::Retag(guid.clone(), Some(Arc::new(parse::<Retag>(text))))
                }
            });
        }
        Brain { state, timings: Arc::new(timings), owed: BTreeSet::new() }
    }

    /// Decides these in order. The state is ahead of what is stored until [`Rows::store`] or [`Brain::undo`].
    pub fn batch(&mut self, commands: Vec<Command>, now: Timestamp) -> Commit {
        let mut batch = Batch::new(now, self.timings.clone());
        for command in commands {
            let (reply, _) = oneshot::channel();
            batch.take(&mut self.state, Job { command, reply: Some(reply) });
        }
        let keys = if batch.keys.is_empty() {
            BTreeSet::new()
        } else {
            batch.keys.union(&self.owed).cloned().collect()
        };
        Commit {
            rows: keys.iter().map(|key| (key.clone(), self.state.row(key))).collect(),
            keys,
            undo: batch.undo,
            answers: batch.replies.into_iter().map(|(_, answer)| answer).collect(),
            events: batch.follow.events,
            auction: batch.follow.auction,
            auction_tasks: batch.follow.auction_tasks,
            cancels: batch.follow.cancels,
            retired: batch.follow.retired,
            retagged: batch.follow.retagged,
            moves: batch.follow.moves,
            converge: batch.follow.converge,
            due: batch.follow.due,
        }
    }

    /// The commit is safe.
    pub fn stored(&mut self, commit: &Commit) {
        if !commit.is_empty() {
            self.owed.clear();
        }
    }

    /// Nobody knows whether the commit is stored; it counts as refused.
    pub fn undo(&mut self, commit: Commit) {
        for write in commit.undo.into_iter().rev() {
            self.state.write(write);
        }
        self.owed.extend(commit.keys);
    }

    /// A usual heartbeat; `false` when it has to be an [`Command::Announce`].
    pub fn renew(&mut self, presence: &CellPresence, now: Timestamp, until: Timestamp) -> bool {
        self.state.renew(presence, now, until)
    }

    pub fn converge(&self, now: Timestamp) -> (Vec<Remedy>, Option<Timestamp>) {
        let round = crate::converge::converge(&self.state, now, &self.timings);
        (round.remedies, round.next)
    }

    /// What a brain takes up when it begins: instances and tasks without a cell, and instances that must go.
    pub fn unfinished(&self) -> (Vec<Slot>, Vec<TaskGuid>, Vec<InstanceGuid>) {
        let waits = |(guid, index): &&Slot| {
            let lrp = self.state.group(guid, *index).and_then(|group| group.ordinary.as_ref());
            lrp.is_some_and(|lrp| matches!(lrp.state, LrpState::Unclaimed { .. }))
        };
        let pending =
            self.state.all_tasks().filter(|task| matches!(task.state, TaskState::Pending));
        (
            self.state.unsettled().filter(waits).cloned().collect(),
            pending.map(|task| task.task_guid.clone()).collect(),
            self.state.retirements().map(|going| going.instance.instance_guid.clone()).collect(),
        )
    }

    /// What there is to tell instances of a process whose tags changed.
    pub fn retag(&self, process: &ProcessGuid) -> Option<Plan> {
        crate::retagger::plan(&self.state, process)
    }

    pub fn retags(&self) -> Vec<ProcessGuid> {
        self.state.retags().map(|(process, _)| process.clone()).collect()
    }

    pub fn knows(&self, cell: &CellId) -> bool {
        self.state.cell(cell).is_some()
    }

    /// Whose instance must go, and which process it is of; `None` when it is gone, or its cell is.
    pub fn retiring(&self, guid: &InstanceGuid) -> Option<(CellId, ProcessGuid)> {
        let going = self.state.retirement(guid)?;
        let cell = going.instance.cell_id.clone();
        self.state.cell(&cell).map(|_| (cell, going.key.process_guid.clone()))
    }

    pub fn retirements(&self) -> usize {
        self.state.retirements().count()
    }

    pub fn desired(&self) -> impl Iterator<Item = &Arc<DesiredLrp>> {
        self.state.desired_lrps(None)
    }

    pub fn actual_lrps(&self, filter: &ActualLrpFilter) -> Vec<ActualLrp> {
        self.state.actual_lrps(filter)
    }

    pub fn tasks(&self, filter: &TaskFilter) -> Vec<Task> {
        self.state.tasks(filter)
    }

    pub fn task(&self, guid: &TaskGuid) -> Option<Task> {
        self.state.task(guid).map(|task| Task::clone(task))
    }

    pub fn is_fresh(&self, domain: &Domain, now: Timestamp) -> bool {
        self.state.is_fresh(domain, now)
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("what a brain wrote can be read")
}
