//! Long running processes: what clients desire and what cells report.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::Timestamp;
use diego::actual_lrp::{self, State as LrpState};
use diego::bbs::{ErrorKind, Result};
use diego::cell::Resources;
use diego::desired_lrp::DesiredLrpUpdate;
use diego::{
    ActualLrp, BbsError, DesiredLrp, Event, InstanceKey, LrpKey, ModificationTag, NetInfo,
    Presence, ProcessGuid, crash,
};

use super::{Decision, missing};
use crate::state::{Group, Process, Retag, Retirement, State, Write};

pub(super) fn desire(state: &State, lrp: DesiredLrp, now: Timestamp) -> Result<Decision> {
    lrp.validate()?;
    let guid = lrp.process_guid.clone();
    let process = state.process(&guid);
    if process.is_some_and(|process| process.desired.is_some()) {
        let message = format!("the desired LRP {guid} exists already");
        return Err(BbsError::new(ErrorKind::ResourceExists, message));
    }
    let lrp = Arc::new(DesiredLrp { modification_tag: ModificationTag::new(), ..lrp });
    let mut decision = Decision::write(Write::Desired(guid, Some(lrp.clone())));
    start_missing(&mut decision, process, &lrp, 0..lrp.instances, now);
    Ok(decision)
}

pub(super) fn update(
    state: &State,
    guid: &ProcessGuid,
    update: DesiredLrpUpdate,
    now: Timestamp,
) -> Result<Decision> {
    update.validate()?;
    let (process, before) = desired(state, guid)?;
    let after = Arc::new(DesiredLrp::clone(before).updated(update));
    let mut decision = Decision::write(Write::Desired(guid.clone(), Some(after.clone())));
    start_missing(&mut decision, Some(process), &after, before.instances..after.instances, now);
    for group in process.groups.range(after.instances..).map(|(_, group)| group) {
        retire_group(&mut decision, state, group, now);
    }
    if before.metric_tags != after.metric_tags {
        let slots = process.groups.keys().copied().collect();
        let version = after.modification_tag.index;
        let retag = Retag { slots, version, since: now };
        decision.writes.push(Write::Retag(guid.clone(), Some(Arc::new(retag))));
    }
    Ok(decision)
}

/// Forgets those that carry the tags by now, as long as no others are wanted, and nobody else came for whom they are.
pub(super) fn retagged(
    state: &State,
    process: ProcessGuid,
    version: u32,
    since: Timestamp,
    done: &BTreeSet<u32>,
) -> Decision {
    let same = |retag: &&Arc<Retag>| (retag.version, retag.since) == (version, since);
    let Some(retag) = state.retag(&process).filter(same) else {
        return Decision::default();
    };
    let slots: BTreeSet<u32> = retag.slots.difference(done).copied().collect();
    if slots == retag.slots {
        return Decision::default();
    }
    let left = Retag { slots, ..Retag::clone(retag) };
    Decision::write(Write::Retag(process, Some(Arc::new(left))))
}

pub(super) fn remove_desired(
    state: &State,
    guid: &ProcessGuid,
    now: Timestamp,
) -> Result<Decision> {
    let (process, _) = desired(state, guid)?;
    let mut decision = Decision::write(Write::Desired(guid.clone(), None));
    if state.retag(guid).is_some() {
        decision.writes.push(Write::Retag(guid.clone(), None));
    }
    for group in process.groups.values() {
        retire_group(&mut decision, state, group, now);
    }
    Ok(decision)
}

pub(super) fn retire(state: &State, key: &LrpKey, now: Timestamp) -> Result<Decision> {
    let group = state
        .group(&key.process_guid, key.index)
        .ok_or_else(|| missing(&format!("the actual LRP {key}")))?;
    let mut decision = Decision::default();
    retire_group(&mut decision, state, group, now);
    // What needs no stopping is gone already, and its successor may come.
    let dropped = |write: &Write| matches!(write, Write::Actual(key, None) if key.presence == Presence::Ordinary);
    if decision.writes.iter().any(dropped) {
        succeed(&mut decision, state, key, now);
    }
    Ok(decision)
}

pub(super) fn claim(
    state: &State,
    key: &LrpKey,
    by: InstanceKey,
    now: Timestamp,
) -> Result<Decision> {
    refuse_retired(state, &by, ErrorKind::ActualLrpCannotBeClaimed)?;
    let group = group(state, key)?;
    if is_known_twin(group, &by) {
        return Ok(Decision::default());
    }
    let lrp = group.ordinary.as_ref().ok_or_else(|| missing(&format!("the actual LRP {key}")))?;
    apply(lrp, actual_lrp::Event::Claim(by), now)
}

pub(super) fn start(
    state: &State,
    key: LrpKey,
    by: InstanceKey,
    net: NetInfo,
    routable: bool,
    now: Timestamp,
) -> Result<Decision> {
    refuse_retired(state, &by, ErrorKind::ActualLrpCannotBeStarted)?;
    let own = by.clone();
    let event = actual_lrp::Event::Start { by, net, routable };
    let group = state.group(&key.process_guid, key.index);
    // A suspect is waited for. An evacuating one that starts is of a cell that no longer goes: it is one like any other.
    let suspect = group.and_then(|group| group.suspect.as_ref());
    if suspect.is_some_and(|lrp| lrp.instance() == Some(&own)) {
        return Ok(Decision::default());
    }
    let ordinary = group.and_then(|group| group.ordinary.as_ref());
    let (process, index) = (key.process_guid.clone(), key.index);
    let mut decision = match ordinary {
        Some(lrp) => apply(lrp, event, now)?,
        // The cell knows better than a database that was lost.
        None => Decision::write(Write::put_actual(
            ActualLrp::unclaimed(own_domain(state, key), now).apply(event, now)?,
        )),
    };
    // What is not ready yet replaces nobody but its own copy.
    let twins = group.into_iter().flat_map(|group| [&group.evacuating, &group.suspect]).flatten();
    let replaced = twins.filter(|twin| routable || twin.instance() == Some(&own));
    decision.writes.extend(replaced.map(|twin| Write::drop_actual(twin)));
    if ordinary.is_none_or(|lrp| !runs(lrp, &own)) {
        tell_tags(&mut decision, state, process, index, now);
    }
    Ok(decision)
}

fn runs(lrp: &ActualLrp, own: &InstanceKey) -> bool {
    matches!(&lrp.state, LrpState::Running { by, .. } if by == own)
}

/// Where tags ever changed, whoever comes up is told: it may have been given the old ones and then been cut off for
/// long, or have waited behind another one.
fn tell_tags(
    decision: &mut Decision,
    state: &State,
    process: ProcessGuid,
    index: u32,
    now: Timestamp,
) {
    let Some(retag) = state.retag(&process) else { return };
    let mut slots = retag.slots.clone();
    slots.insert(index);
    let retag = Retag { slots, since: now, ..Retag::clone(retag) };
    decision.writes.push(Write::Retag(process, Some(Arc::new(retag))));
}

pub(super) fn crash(
    state: &State,
    key: &LrpKey,
    by: InstanceKey,
    reason: &str,
    rule: crash::Rule,
    now: Timestamp,
) -> Result<Decision> {
    let group = group(state, key)?;
    if let Some(twin) = group.of(&by).filter(|lrp| lrp.presence != Presence::Ordinary) {
        return Ok(forget(state, twin));
    }
    let lrp = group.ordinary.as_ref().ok_or_else(|| missing(&format!("the actual LRP {key}")))?;
    if state.is_retiring(lrp) && lrp.may_remove(&by).is_ok() {
        return remove(state, key, &by, now);
    }
    crash_ordinary(lrp, by, reason, rule, now)
}

/// The crash rule: restarted at once, later or never.
pub(super) fn crash_ordinary(
    lrp: &ActualLrp,
    by: InstanceKey,
    reason: &str,
    rule: crash::Rule,
    now: Timestamp,
) -> Result<Decision> {
    let event = actual_lrp::Event::Crash { by: by.clone(), reason: reason.to_owned(), rule };
    let after = lrp.clone().apply(event, now)?;
    let mut decision = Decision {
        crashed: Some(Event::ActualLrpCrashed {
            key: lrp.key.clone(),
            instance: by,
            crash_count: after.crash_count,
            crash_reason: after.crash_reason.clone(),
            since: now,
        }),
        ..Decision::default()
    };
    if matches!(after.state, LrpState::Unclaimed { .. }) {
        decision.auction(&lrp.key);
    }
    decision.writes.push(Write::put_actual(after));
    Ok(decision)
}

pub(super) fn remove(
    state: &State,
    key: &LrpKey,
    by: &InstanceKey,
    now: Timestamp,
) -> Result<Decision> {
    let group = state.group(&key.process_guid, key.index);
    let Some(lrp) = group.and_then(|group| group.of(by)) else {
        // The record went before; only its retirement was left.
        if let Some(retirement) = state.retirement(&by.instance_guid) {
            return Ok(Decision::write(Write::Retirement(
                retirement.instance.instance_guid.clone(),
                None,
            )));
        }
        let Some(held) = group.and_then(|group| group.ordinary.as_ref()) else {
            return Err(missing(&format!("the actual LRP {key}")));
        };
        held.may_remove(by)?;
        return Err(missing(&format!("the actual LRP {key}")));
    };
    let mut decision = forget(state, lrp);
    if lrp.presence == Presence::Ordinary {
        succeed(&mut decision, state, key, now);
    }
    Ok(decision)
}

pub(super) fn fail(state: &State, key: &LrpKey, why: String, now: Timestamp) -> Result<Decision> {
    let lrp = group(state, key)?
        .ordinary
        .as_ref()
        .ok_or_else(|| missing(&format!("the actual LRP {key}")))?;
    apply(lrp, actual_lrp::Event::Fail { placement_error: why }, now)
}

/// Takes the record away, and its retirement with it.
pub(super) fn forget(state: &State, lrp: &ActualLrp) -> Decision {
    let mut decision = Decision::write(Write::drop_actual(lrp));
    if let Some(by) = lrp.instance().filter(|by| state.retirement(&by.instance_guid).is_some()) {
        decision.writes.push(Write::Retirement(by.instance_guid.clone(), None));
    }
    decision
}

/// After the ordinary record went: a new one when the index is still desired.
pub(super) fn succeed(decision: &mut Decision, state: &State, key: &LrpKey, now: Timestamp) {
    let wanted = state.process(&key.process_guid).is_some_and(|process| process.wants(key.index));
    if wanted {
        let fresh = ActualLrp::unclaimed(own_domain(state, key.clone()), now);
        decision.auction(key);
        decision.writes.push(Write::put_actual(fresh));
    }
}

/// Ends what there is of an index: at once what no cell holds, by way of its cell what runs. An evacuating record is
/// left to its cell, which asks soon.
pub(super) fn retire_group(decision: &mut Decision, state: &State, group: &Group, now: Timestamp) {
    if let Some(lrp) = &group.ordinary {
        retire_record(decision, state, lrp, now);
    }
    if let Some(lrp) = &group.suspect {
        retire_record(decision, state, lrp, now);
    }
}

fn retire_record(decision: &mut Decision, state: &State, lrp: &ActualLrp, now: Timestamp) {
    let Some(by) = lrp.instance() else {
        decision.writes.push(Write::drop_actual(lrp));
        return;
    };
    if state.retirement(&by.instance_guid).is_none() {
        let resources =
            state.desired(&lrp.key.process_guid).map(|desired| Resources::of(&desired.run));
        let (key, instance) = (lrp.key.clone(), by.clone());
        let retirement = Retirement { key, instance, since: now, resources };
        decision
            .writes
            .push(Write::Retirement(by.instance_guid.clone(), Some(Arc::new(retirement))));
    }
    if lrp.presence == Presence::Suspect || !state.is_present(&by.cell_id, now) {
        decision.writes.push(Write::drop_actual(lrp));
    }
}

/// Applies an event to one record; what changes nothing is not written.
pub(super) fn apply(lrp: &ActualLrp, event: actual_lrp::Event, now: Timestamp) -> Result<Decision> {
    let after = lrp.clone().apply(event, now)?;
    Ok(if after == *lrp { Decision::default() } else { Decision::write(Write::put_actual(after)) })
}

fn start_missing(
    decision: &mut Decision,
    process: Option<&Process>,
    lrp: &DesiredLrp,
    indices: std::ops::Range<u32>,
    now: Timestamp,
) {
    for index in indices {
        let held = process
            .and_then(|process| process.groups.get(&index))
            .is_some_and(|group| group.ordinary.is_some());
        if !held {
            let key = LrpKey {
                process_guid: lrp.process_guid.clone(),
                index,
                domain: lrp.domain.clone(),
            };
            decision.auction(&key);
            decision.writes.push(Write::put_actual(ActualLrp::unclaimed(key, now)));
        }
    }
}

/// A suspect's cell that still talks, and an evacuating one: what they claim changes nothing here.
fn is_known_twin(group: &Group, by: &InstanceKey) -> bool {
    group.of(by).is_some_and(|lrp| lrp.presence != Presence::Ordinary)
}

fn refuse_retired(state: &State, by: &InstanceKey, kind: ErrorKind) -> Result<()> {
    match state.retirement(&by.instance_guid) {
        Some(retirement) if retirement.instance == *by => {
            Err(BbsError::new(kind, format!("the instance {} is being retired", by.instance_guid)))
        }
        _ => Ok(()),
    }
}

fn group<'a>(state: &'a State, key: &LrpKey) -> Result<&'a Group> {
    state
        .group(&key.process_guid, key.index)
        .ok_or_else(|| missing(&format!("the actual LRP {key}")))
}

fn desired<'a>(state: &'a State, guid: &ProcessGuid) -> Result<(&'a Process, &'a Arc<DesiredLrp>)> {
    let process = state.process(guid);
    let found = process.and_then(|process| Some((process, process.desired.as_ref()?)));
    found.ok_or_else(|| missing(&format!("the desired LRP {guid}")))
}

/// All records of a process are in its domain, whatever a caller thinks.
pub(super) fn own_domain(state: &State, key: LrpKey) -> LrpKey {
    match state.process(&key.process_guid) {
        Some(process) => LrpKey { domain: process.domain.clone(), ..key },
        None => key,
    }
}
