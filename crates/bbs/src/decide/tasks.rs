//! Tasks: what clients desire, what cells report, who may deal with the outcome.

use std::sync::Arc;

use base::Timestamp;
use diego::bbs::{ErrorKind, Result};
use diego::task::{Attempt, Event};
use diego::{BbsError, Domain, Task, TaskDefinition, TaskGuid};

use super::{Answer, Decision, missing};
use crate::state::{State, Write};

pub(super) fn desire(
    state: &State,
    guid: TaskGuid,
    domain: Domain,
    definition: TaskDefinition,
    now: Timestamp,
) -> Result<Decision> {
    definition.validate(&guid, &domain)?;
    if state.task(&guid).is_some() {
        return Err(BbsError::new(
            ErrorKind::ResourceExists,
            format!("the task {guid} exists already"),
        ));
    }
    let task = Task::pending(guid.clone(), domain, definition, now);
    Ok(Decision { auction_tasks: vec![guid], ..Decision::write(Write::put_task(task)) })
}

pub(super) fn start(
    state: &State,
    guid: &TaskGuid,
    by: Attempt,
    now: Timestamp,
) -> Result<Decision> {
    let decision = apply(state, guid, Event::Start(by), now)?;
    let granted = !decision.writes.is_empty();
    Ok(Decision { answer: Answer::Granted(granted), ..decision })
}

pub(super) fn complete(
    state: &State,
    guid: &TaskGuid,
    by: Attempt,
    failure: Option<String>,
    result: String,
    now: Timestamp,
) -> Result<Decision> {
    apply(state, guid, Event::Complete { by, failure, result }, now)
}

pub(super) fn reject(
    state: &State,
    guid: &TaskGuid,
    by: Option<Attempt>,
    reason: String,
    now: Timestamp,
) -> Result<Decision> {
    apply(state, guid, Event::Reject { by, reason }, now)
}

pub(super) fn cancel(state: &State, guid: &TaskGuid, now: Timestamp) -> Result<Decision> {
    let cancel = task(state, guid)?.cell_id().map(|cell| (cell.clone(), guid.clone()));
    Ok(Decision { cancel, ..apply(state, guid, Event::Cancel, now)? })
}

pub(super) fn resolve(state: &State, guid: &TaskGuid, now: Timestamp) -> Result<Decision> {
    apply(state, guid, Event::Resolve, now)
}

pub(super) fn delete(state: &State, guid: &TaskGuid) -> Result<Decision> {
    task(state, guid)?.may_delete()?;
    Ok(Decision::write(Write::Task(guid.clone(), None)))
}

pub(super) fn apply(
    state: &State,
    guid: &TaskGuid,
    event: Event,
    now: Timestamp,
) -> Result<Decision> {
    let before = task(state, guid)?;
    Ok(Decision::task(before, Task::clone(before).apply(event, now)?))
}

fn task<'a>(state: &'a State, guid: &TaskGuid) -> Result<&'a Arc<Task>> {
    state.task(guid).ok_or_else(|| missing(&format!("the task {guid}")))
}
