//! The writer, played: everything that is queued is decided in order and committed as one, and only then answered.

use base::Timestamp;
use bbs::Timings;
use bbs::simulation::{Command, Commit, Remedy};
use diego::bbs::ErrorKind;
use diego::task::State as TaskState;
use diego::{BbsError, Event as Change};

use super::told::told;
use crate::world::{
    BrainAsk, CellAsk, Event, MS, NOT_LEADING, REFUSED, Reply, SECOND, Said, Then, World,
};

/// A call and the cell that made it, if it was one.
pub(super) type Asker = (u64, Option<usize>);

pub(super) struct Committing {
    pub commit: Commit,
    calls: Vec<Option<Asker>>,
    sent: std::time::Instant,
    /// What the store made of it, once it did.
    pub fate: Option<Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stored,
    /// Perhaps it is stored all the same.
    Failed,
    /// Another brain has the store.
    Superseded,
}

impl World {
    pub fn brain_asked(&mut self, call: u64, b: usize, cell: Option<usize>, ask: BrainAsk) {
        if !self.brains[b].up {
            return self.answer(call, cell, Err(unreachable(REFUSED)));
        }
        if self.brains[b].brain.is_none() {
            return self.answer(call, cell, Err(unreachable(NOT_LEADING)));
        }
        self.brains[b].inbox.push((Some((call, cell)), ask));
        self.write(b);
    }

    /// Takes all that is queued, unless a commit is under way.
    pub(super) fn write(&mut self, b: usize) {
        if self.brains[b].committing.is_some() || self.brains[b].brain.is_none() {
            return;
        }
        let (mut commands, mut calls) = (Vec::new(), Vec::new());
        for (call, ask) in std::mem::take(&mut self.brains[b].inbox) {
            match self.read_or_command(b, ask) {
                Ok(command) => {
                    self.watch(b, &command);
                    commands.push(command);
                    calls.push(call);
                }
                Err(reply) => {
                    if let Some((call, cell)) = call {
                        self.answer(call, cell, reply);
                    }
                }
            }
        }
        if commands.is_empty() {
            return;
        }
        let (wall, sent) = (self.wall(b), self.instant());
        let Some(brain) = &mut self.brains[b].brain else { return };
        let commit = brain.batch(commands, wall);
        let committing = Committing { commit, calls, sent, fate: None };
        if committing.commit.is_empty() && self.brains[b].holds(sent) {
            self.check_leads(b);
            return self.settle(b, committing);
        }
        self.brains[b].committing = Some(committing);
        let delay = if self.weather.slow_disk_until > self.now {
            self.chance.range(50 * MS, 4 * SECOND)
        } else {
            self.chance.range(MS, 8 * MS)
        };
        self.at(delay, Event::Stored { life: self.brains[b].life });
    }

    /// Reads are answered at once: nothing is under way that is not stored.
    fn read_or_command(&mut self, b: usize, ask: BrainAsk) -> Result<Command, Reply> {
        if let BrainAsk::Do(command) = ask {
            return Ok(command);
        }
        if !self.brains[b].holds(self.instant()) {
            return Err(Err(unreachable(NOT_LEADING)));
        }
        self.check_leads(b);
        let wall = self.wall(b);
        let brain = self.brains[b].brain.as_mut().expect("only a brain that leads is asked");
        Err(Ok(match ask {
            BrainAsk::Do(command) => return Ok(command),
            BrainAsk::Announce(presence, ttl) => {
                if !brain.renew(&presence, wall, wall + ttl) {
                    return Ok(Command::Announce(presence, ttl));
                }
                Said::Done
            }
            BrainAsk::Lrps(filter) => Said::Lrps(brain.actual_lrps(&filter)),
            BrainAsk::Tasks(filter) => Said::Tasks(brain.tasks(&filter)),
            BrainAsk::Task(guid) => match brain.task(&guid) {
                Some(task) => Said::Task(Box::new(task)),
                None => {
                    let error = BbsError::new(ErrorKind::ResourceNotFound, "no such task");
                    return Err(Err(error));
                }
            },
        }))
    }

    /// Whoever answers from memory leads.
    fn check_leads(&mut self, b: usize) {
        if self.brains[b].fence != self.store.fence {
            self.wrong.push(format!("brain-{b} answered when another one had the store"));
        }
    }

    /// What the invariants need to know of commands.
    fn watch(&mut self, b: usize, command: &Command) {
        let wall = self.wall(b);
        match command {
            Command::UpsertDomain { ttl, .. } => {
                let until = ttl.map_or(Timestamp::from_nanos(i64::MAX), |ttl| wall + ttl);
                self.fresh_until = self.fresh_until.max(until);
            }
            Command::DeleteTask(guid) | Command::Remedy(Remedy::DeleteTask(guid)) => {
                self.client.may_be_gone.insert(guid.clone());
            }
            _ => {}
        }
    }

    /// The store has it, or refuses it. Who was frozen before all was sent has that before it.
    pub fn stored(&mut self, life: u64) {
        let Some(b) = self.brain_of(life) else { return };
        let frozen = self.brains[b].frozen_until > self.now;
        if frozen && self.chance.in_thousand(500) {
            let thaw = self.brains[b].frozen_until - self.now;
            return self.at(thaw, Event::Stored { life });
        }
        let fate = if self.store.gone_until > self.now {
            Fate::Failed
        } else if self.brains[b].fence != self.store.fence {
            Fate::Superseded
        } else if !self.weather.calm && self.chance.in_thousand(5) {
            // Whether it is on disk nobody knows.
            if self.chance.in_thousand(500) {
                self.store_commit(b);
            }
            Fate::Failed
        } else {
            self.store_commit(b);
            Fate::Stored
        };
        if let Some(committing) = &mut self.brains[b].committing {
            committing.fate = Some(fate);
        }
        if frozen {
            let thaw = self.brains[b].frozen_until - self.now;
            self.at(thaw, Event::Committed { life });
        } else {
            self.committed(life);
        }
    }

    /// The brain hears what became of its commit.
    pub fn committed(&mut self, life: u64) {
        let Some(b) = self.brain_of(life) else { return };
        let Some(committing) = self.brains[b].committing.take() else { return };
        match committing.fate {
            Some(Fate::Stored) => {
                self.brains[b].lease.iter().for_each(|lease| lease.extend(committing.sent));
                if let Some(brain) = &mut self.brains[b].brain {
                    brain.stored(&committing.commit);
                }
                self.settle(b, committing);
            }
            Some(Fate::Superseded) => {
                for (call, cell) in committing.calls.into_iter().flatten() {
                    self.answer(call, cell, Err(unreachable(NOT_LEADING)));
                }
                return self.superseded(b);
            }
            Some(Fate::Failed) | None => {
                self.note(|| format!("a commit of brain-{b} is refused"));
                if let Some(brain) = &mut self.brains[b].brain {
                    brain.undo(committing.commit);
                }
                for (call, cell) in committing.calls.into_iter().flatten() {
                    let error = BbsError::new(ErrorKind::Unknown, "the change was not stored");
                    self.answer(call, cell, Err(error));
                }
            }
        }
        self.write(b);
    }

    fn settle(&mut self, b: usize, committing: Committing) {
        let Committing { mut commit, calls, .. } = committing;
        for change in &commit.events {
            self.changed(change);
        }
        let gone = self.brains[b].auctioneer.moved(&mut commit);
        self.request(b, commit.auction, commit.auction_tasks);
        for (call, answer) in calls.into_iter().zip(commit.answers) {
            if let Some((call, cell)) = call {
                self.answer(call, cell, answer.map(Said::Answer));
            }
        }
        for cell in gone {
            self.hands_gone(b, &cell);
        }
        for guid in commit.retired {
            self.see_off(b, guid, 0);
        }
        for process in commit.retagged {
            self.retag(b, process);
        }
        for (cell, task) in commit.cancels {
            if let Some(cell) = self.place_of(cell.as_str()) {
                self.ask_cell(cell, CellAsk::Cancel(task), Then::Nothing);
            }
        }
        if commit.converge {
            self.alarm(b, 0);
        }
        if let Some(due) = commit.due {
            self.alarm(b, self.until(b, due));
        }
    }

    fn changed(&mut self, change: &Change) {
        self.note(|| told(change));
        if let Change::TaskCreated { task } | Change::TaskRemoved { task } = change {
            // Whoever desires it again after that has another one run.
            self.runs.remove(&task.task_guid);
        }
        if let Change::TaskRemoved { task } = change
            && matches!(task.state, TaskState::Pending | TaskState::Running { .. })
        {
            self.wrong.push(format!("task {} was removed before its end", task.task_guid));
        }
    }

    pub(super) fn until(&self, b: usize, due: Timestamp) -> u64 {
        u64::try_from(due.since(self.wall(b)).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn timings(&self) -> Timings {
        Timings::default()
    }
}

pub(super) fn unreachable(why: &str) -> BbsError {
    BbsError::new(ErrorKind::Unreachable, why)
}
