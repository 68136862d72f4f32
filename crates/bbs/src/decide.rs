//! Pure: what a request or a remedy changes, given all that is known. The writer carries it out.

mod cells;
mod evacuation;
mod lrps;
mod remedies;
mod tasks;

use std::collections::BTreeSet;
use std::time::Duration;

use base::Timestamp;
use diego::bbs::{ErrorKind, Evacuation, Keep, Result};
use diego::desired_lrp::DesiredLrpUpdate;
use diego::task::Attempt;
use diego::{
    BbsError, CellId, CellPresence, DesiredLrp, Domain, Event, InstanceKey, LrpKey, NetInfo,
    ProcessGuid, Task, TaskDefinition, TaskGuid,
};

use crate::config::Timings;
use crate::converge::{Remedy, still_needed};
use crate::state::{Slot, State, Write};

/// Everything that can change the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    UpsertDomain {
        domain: Domain,
        ttl: Option<Duration>,
    },
    Desire(Box<DesiredLrp>),
    Update(ProcessGuid, DesiredLrpUpdate),
    RemoveDesired(ProcessGuid),
    Retire(LrpKey),
    Claim(LrpKey, InstanceKey),
    Start {
        key: LrpKey,
        by: InstanceKey,
        net: NetInfo,
        routable: bool,
    },
    Crash {
        key: LrpKey,
        by: InstanceKey,
        reason: String,
    },
    Remove(LrpKey, InstanceKey),
    Evacuate(LrpKey, InstanceKey, Evacuation),
    /// An auction found no place for an instance.
    FailLrp(LrpKey, String),
    DesireTask {
        guid: TaskGuid,
        domain: Domain,
        definition: Box<TaskDefinition>,
    },
    StartTask(TaskGuid, Attempt),
    CompleteTask {
        guid: TaskGuid,
        by: Attempt,
        failure: Option<String>,
        result: String,
    },
    /// `by` is nobody when an auction found no place.
    RejectTask {
        guid: TaskGuid,
        by: Option<Attempt>,
        reason: String,
    },
    CancelTask(TaskGuid),
    ResolveTask(TaskGuid),
    DeleteTask(TaskGuid),
    Announce(CellPresence, Duration),
    Retract(CellId),
    /// These indices of a process carry the tags of this version.
    Retagged {
        process: ProcessGuid,
        version: u32,
        since: Timestamp,
        slots: BTreeSet<u32>,
    },
    Remedy(Remedy),
}

/// What becomes of it, in order: told first (`crashed`), written, and, once that is safe, done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decision {
    pub crashed: Option<Event>,
    pub writes: Vec<Write>,
    pub auction: Vec<Slot>,
    pub auction_tasks: Vec<TaskGuid>,
    /// A cell that runs a task which is over.
    pub cancel: Option<(CellId, TaskGuid)>,
    /// Whether convergence should look at once.
    pub converge: bool,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Answer {
    #[default]
    Done,
    /// Whether a task is to be run now.
    Granted(bool),
    Keep(Keep),
}

pub(crate) fn decide(
    state: &State,
    command: Command,
    now: Timestamp,
    timings: &Timings,
) -> Result<Decision> {
    match command {
        Command::UpsertDomain { domain, ttl } => cells::upsert_domain(domain, ttl, now),
        Command::Announce(presence, ttl) => Ok(cells::announce(presence, ttl, now)),
        Command::Retract(cell) => Ok(cells::retract(state, cell)),

        Command::Desire(lrp) => lrps::desire(state, *lrp, now),
        Command::Update(guid, update) => lrps::update(state, &guid, update, now),
        Command::RemoveDesired(guid) => lrps::remove_desired(state, &guid, now),
        Command::Retire(key) => lrps::retire(state, &key, now),
        Command::Claim(key, by) => lrps::claim(state, &key, by, now),
        Command::Start { key, by, net, routable } => {
            lrps::start(state, key, by, net, routable, now)
        }
        Command::Crash { key, by, reason } => {
            lrps::crash(state, &key, by, &reason, timings.crash_rule(), now)
        }
        Command::Remove(key, by) => lrps::remove(state, &key, &by, now),
        Command::FailLrp(key, why) => lrps::fail(state, &key, why, now),
        Command::Evacuate(key, by, evacuation) => {
            evacuation::evacuate(state, key, by, evacuation, timings.crash_rule(), now)
        }

        Command::DesireTask { guid, domain, definition } => {
            tasks::desire(state, guid, domain, *definition, now)
        }
        Command::StartTask(guid, by) => tasks::start(state, &guid, by, now),
        Command::CompleteTask { guid, by, failure, result } => {
            tasks::complete(state, &guid, by, failure, result, now)
        }
        Command::RejectTask { guid, by, reason } => tasks::reject(state, &guid, by, reason, now),
        Command::CancelTask(guid) => tasks::cancel(state, &guid, now),
        Command::ResolveTask(guid) => tasks::resolve(state, &guid, now),
        Command::DeleteTask(guid) => tasks::delete(state, &guid),

        Command::Retagged { process, version, since, slots } => {
            Ok(lrps::retagged(state, process, version, since, &slots))
        }

        // The world may have moved since convergence looked at it.
        Command::Remedy(remedy) if !still_needed(state, &remedy, now, timings) => {
            Ok(Decision::default())
        }
        Command::Remedy(remedy) => remedies::remedy(state, remedy, now),
    }
}

impl Decision {
    fn answer(answer: Answer) -> Decision {
        Decision { answer, ..Decision::default() }
    }

    fn write(write: Write) -> Decision {
        Decision { writes: vec![write], ..Decision::default() }
    }

    fn auction(&mut self, key: &LrpKey) {
        self.auction.push((key.process_guid.clone(), key.index));
    }

    /// Writes the task unless nothing changed.
    fn task(before: &Task, after: Task) -> Decision {
        if *before == after { Decision::default() } else { Decision::write(Write::put_task(after)) }
    }
}

fn missing(what: &str) -> BbsError {
    BbsError::new(ErrorKind::ResourceNotFound, format!("{what} does not exist"))
}

#[cfg(test)]
mod tests;
