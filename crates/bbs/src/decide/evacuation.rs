//! A cell on its way out: the old instance serves until the new one is healthy, so that both are never missing.

use base::Timestamp;
use diego::actual_lrp::{self, State as LrpState};
use diego::bbs::{Evacuation, Keep, Result};
use diego::{ActualLrp, InstanceKey, LrpKey, ModificationTag, NetInfo, Presence, crash};

use super::{Answer, Decision, lrps};
use crate::state::{Group, State, Write};

pub(super) fn evacuate(
    state: &State,
    key: LrpKey,
    by: InstanceKey,
    evacuation: Evacuation,
    rule: crash::Rule,
    now: Timestamp,
) -> Result<Decision> {
    let none = Group::default();
    let group = state.group(&key.process_guid, key.index).unwrap_or(&none);
    match evacuation {
        Evacuation::Claimed => claimed(group, &by, now),
        Evacuation::Running { net, routable } => running(state, group, key, by, net, routable, now),
        Evacuation::Crashed { reason } => crashed(group, by, &reason, rule, now),
        Evacuation::Stopped => Ok(stopped(state, group, &key, &by, now)),
    }
}

fn claimed(group: &Group, by: &InstanceKey, now: Timestamp) -> Result<Decision> {
    let decision = match group.ordinary.as_ref().filter(|lrp| lrp.instance() == Some(by)) {
        Some(lrp) => unclaim(lrp, now)?,
        None => Decision::default(),
    };
    Ok(Decision { answer: Answer::Keep(Keep::Delete), ..decision })
}

fn running(
    state: &State,
    group: &Group,
    key: LrpKey,
    by: InstanceKey,
    net: NetInfo,
    routable: bool,
    now: Timestamp,
) -> Result<Decision> {
    let wanted = state.process(&key.process_guid).is_some_and(|process| process.wants(key.index));
    let retired = state.retirement(&by.instance_guid).is_some();
    let own_copy = group.evacuating.as_ref().filter(|copy| copy.instance() == Some(&by));
    if group.evacuating.is_some() && own_copy.is_none() {
        return Ok(Decision::answer(Answer::Keep(Keep::Delete)));
    }
    if !wanted || retired {
        let mut decision = stopped(state, group, &key, &by, now);
        decision.answer = Answer::Keep(Keep::Delete);
        return Ok(decision);
    }
    let mut decision = Decision::answer(Answer::Keep(Keep::Keep));
    match &group.ordinary {
        Some(lrp) if lrp.instance() == Some(&by) => decision = unclaim(lrp, now)?,
        // One that runs and is not ready yet serves nobody: the old one stays.
        Some(lrp)
            if matches!(
                lrp.state,
                LrpState::Running { routable: true, .. } | LrpState::Crashed
            ) =>
        {
            decision.writes.extend(own_copy.map(|copy| Write::drop_actual(copy)));
            decision.writes.extend(
                group
                    .suspect
                    .iter()
                    .filter(|lrp| lrp.instance() == Some(&by))
                    .map(|lrp| Write::drop_actual(lrp)),
            );
            return Ok(Decision { answer: Answer::Keep(Keep::Delete), ..decision });
        }
        Some(_) => {}
        None => lrps::succeed(&mut decision, state, &key, now),
    }
    let copy = match own_copy {
        Some(copy) => copy
            .as_ref()
            .clone()
            .apply(actual_lrp::Event::Start { by: by.clone(), net, routable }, now)?,
        None => evacuating(lrps::own_domain(state, key), by.clone(), net, routable, now),
    };
    if own_copy.is_none_or(|held| **held != copy) {
        // Before the ordinary record changes, so that a reader finds one that runs at every step.
        decision.writes.insert(0, Write::put_actual(copy));
    }
    decision.writes.extend(
        group
            .suspect
            .iter()
            .filter(|lrp| lrp.instance() == Some(&by))
            .map(|lrp| Write::drop_actual(lrp)),
    );
    Ok(Decision { answer: Answer::Keep(Keep::Keep), ..decision })
}

fn evacuating(
    key: LrpKey,
    by: InstanceKey,
    net: NetInfo,
    routable: bool,
    now: Timestamp,
) -> ActualLrp {
    ActualLrp {
        presence: Presence::Evacuating,
        state: LrpState::Running { by, net, routable },
        modification_tag: ModificationTag::new(),
        ..ActualLrp::unclaimed(key, now)
    }
}

fn crashed(
    group: &Group,
    by: InstanceKey,
    reason: &str,
    rule: crash::Rule,
    now: Timestamp,
) -> Result<Decision> {
    let mut decision = match group.ordinary.as_ref().filter(|lrp| lrp.instance() == Some(&by)) {
        Some(lrp) => lrps::crash_ordinary(lrp, by.clone(), reason, rule, now)?,
        None => Decision::default(),
    };
    let twins = [&group.evacuating, &group.suspect].into_iter().flatten();
    decision
        .writes
        .extend(twins.filter(|lrp| lrp.instance() == Some(&by)).map(|lrp| Write::drop_actual(lrp)));
    Ok(Decision { answer: Answer::Keep(Keep::Delete), ..decision })
}

/// Every record of this very instance goes.
fn stopped(
    state: &State,
    group: &Group,
    key: &LrpKey,
    by: &InstanceKey,
    now: Timestamp,
) -> Decision {
    let mut decision = Decision::answer(Answer::Keep(Keep::Delete));
    for lrp in group.records().filter(|lrp| lrp.instance() == Some(by)) {
        decision.writes.extend(lrps::forget(state, lrp).writes);
        if lrp.presence == Presence::Ordinary {
            lrps::succeed(&mut decision, state, key, now);
        }
    }
    let forgotten = |write: &Write| matches!(write, Write::Retirement(..));
    if state.retirement(&by.instance_guid).is_some() && !decision.writes.iter().any(forgotten) {
        decision.writes.push(Write::Retirement(by.instance_guid.clone(), None));
    }
    decision
}

fn unclaim(lrp: &ActualLrp, now: Timestamp) -> Result<Decision> {
    let mut decision = lrps::apply(lrp, actual_lrp::Event::Unclaim, now)?;
    decision.auction(&lrp.key);
    Ok(decision)
}
