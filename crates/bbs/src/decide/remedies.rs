//! What convergence asks for, carried out. Whoever calls has made sure that each is still needed.

use base::Timestamp;
use diego::bbs::Result;
use diego::{ActualLrp, LrpKey, actual_lrp, task};

use super::{Decision, lrps, tasks};
use crate::converge::Remedy;
use crate::state::{Group, Slot, State, Write};

pub(super) fn remedy(state: &State, remedy: Remedy, now: Timestamp) -> Result<Decision> {
    let group = |slot: &Slot| state.group(&slot.0, slot.1).cloned().unwrap_or_default();
    match remedy {
        Remedy::PruneDomain(domain) => Ok(Decision::write(Write::Domain(domain, None))),
        Remedy::ForgetCell(cell) => Ok(Decision::write(Write::Cell(cell, None))),
        Remedy::DropEvacuating(slot) => Ok(drop(group(&slot).evacuating.as_deref())),
        Remedy::DropSuspect(slot) => Ok(drop(group(&slot).suspect.as_deref())),
        Remedy::ForgetLost(slot) => Ok(forget_lost(state, &group(&slot), now)),
        Remedy::Create(slot) => Ok(create(state, &slot, now)),
        Remedy::Retire(slot) => {
            let mut decision = Decision::default();
            lrps::retire_group(&mut decision, state, &group(&slot), now);
            Ok(decision)
        }
        Remedy::Suspect(slot) => suspect(&group(&slot), now),
        Remedy::UnclaimLost(slot) | Remedy::Restart(slot) => unclaim(&group(&slot), now),
        Remedy::Recover(slot) => recover(&group(&slot), now),
        Remedy::DropRetirement(guid) => Ok(Decision::write(Write::Retirement(guid, None))),
        Remedy::FailTask(guid, reason) => {
            tasks::apply(state, &guid, task::Event::Fail { reason: reason.to_owned() }, now)
        }
        Remedy::UnresolveTask(guid) => tasks::apply(state, &guid, task::Event::Unresolve, now),
        Remedy::DeleteTask(guid) => Ok(Decision::write(Write::Task(guid, None))),
        // These change nothing by themselves; convergence begins them.
        Remedy::Auction(_)
        | Remedy::AuctionTask(_)
        | Remedy::StopAgain(_)
        | Remedy::Retag(_)
        | Remedy::CallBack(_) => Ok(Decision::default()),
    }
}

fn drop(lrp: Option<&ActualLrp>) -> Decision {
    lrp.map(|lrp| Decision::write(Write::drop_actual(lrp))).unwrap_or_default()
}

/// The record goes; its retirement stays lest the cell brings it back.
fn forget_lost(state: &State, group: &Group, now: Timestamp) -> Decision {
    let mut decision = drop(group.ordinary.as_deref());
    if let Some(lrp) = &group.ordinary {
        lrps::succeed(&mut decision, state, &lrp.key, now);
    }
    decision
}

fn create(state: &State, slot: &Slot, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    if let Some(process) = state.process(&slot.0) {
        let domain = process.domain.clone();
        let key = LrpKey { process_guid: slot.0.clone(), index: slot.1, domain };
        lrps::succeed(&mut decision, state, &key, now);
    }
    decision
}

/// The lost instance serves on, should it live; a new one is wanted in its place, with the same past.
fn suspect(group: &Group, now: Timestamp) -> Result<Decision> {
    let Some(lrp) = group.ordinary.as_deref() else { return Ok(Decision::default()) };
    let suspect = lrp.clone().apply(actual_lrp::Event::Lose, now)?;
    let replacement = ActualLrp {
        crash_count: lrp.crash_count,
        crash_reason: lrp.crash_reason.clone(),
        ..ActualLrp::unclaimed(lrp.key.clone(), now)
    };
    let writes = vec![Write::put_actual(suspect), Write::put_actual(replacement)];
    let mut decision = Decision { writes, ..Decision::default() };
    decision.auction(&lrp.key);
    Ok(decision)
}

fn unclaim(group: &Group, now: Timestamp) -> Result<Decision> {
    let Some(lrp) = group.ordinary.as_deref() else { return Ok(Decision::default()) };
    let mut decision = lrps::apply(lrp, actual_lrp::Event::Unclaim, now)?;
    decision.auction(&lrp.key);
    Ok(decision)
}

/// The suspect takes the place of its replacement; a container that the replacement has already is stopped by its cell.
fn recover(group: &Group, now: Timestamp) -> Result<Decision> {
    let Some(lrp) = group.suspect.as_deref() else { return Ok(Decision::default()) };
    let ordinary = lrp.clone().apply(actual_lrp::Event::Recover, now)?;
    let writes = vec![Write::put_actual(ordinary), Write::drop_actual(lrp)];
    Ok(Decision { writes, ..Decision::default() })
}
