//! What convergence asks for. Each is checked anew: the world may have moved since it was looked at, and then nothing
//! is done.

use base::Timestamp;
use diego::bbs::Result;
use diego::{ActualLrp, LrpKey, actual_lrp, task};

use super::{Decision, lrps, tasks};
use crate::converge::Remedy;
use crate::state::{Group, Slot, State, Write};

pub(super) fn remedy(state: &State, remedy: Remedy, now: Timestamp) -> Result<Decision> {
    let nothing = Decision::default();
    match remedy {
        Remedy::PruneDomain(domain) if !state.is_fresh(&domain, now) => Ok(Decision::write(Write::Domain(domain, None))),
        Remedy::ForgetCell(cell) if !state.is_present(&cell, now) => Ok(Decision::write(Write::Cell(cell, None))),
        Remedy::DropEvacuating(slot) => Ok(drop_lost(state, find(state, &slot).evacuating.as_deref(), now)),
        Remedy::ForgetLost(slot) => Ok(forget_lost(state, &slot, now)),
        Remedy::Create(slot) => Ok(create(state, &slot, now)),
        Remedy::Retire(slot) => {
            let mut decision = nothing;
            lrps::retire_group(&mut decision, state, find(state, &slot), now);
            Ok(decision)
        }
        Remedy::Suspect(slot) => suspect(state, &slot, now),
        Remedy::UnclaimLost(slot) => unclaim_lost(state, &slot, now),
        Remedy::Recover(slot) => recover(state, &slot, now),
        Remedy::DropSuspect(slot) => {
            Ok(find(state, &slot).suspect.as_ref().map(|lrp| Decision::write(Write::drop_actual(lrp))).unwrap_or_default())
        }
        Remedy::Restart(slot) => restart(state, &slot, now),
        Remedy::DropRetirement(guid) => Ok(Decision::write(Write::Retirement(guid, None))),
        Remedy::FailTask(guid, reason) => tasks::apply(state, &guid, task::Event::Fail { reason: reason.to_owned() }, now),
        Remedy::UnresolveTask(guid) => tasks::apply(state, &guid, task::Event::Unresolve, now),
        Remedy::DeleteTask(guid) => Ok(Decision::write(Write::Task(guid, None))),
        Remedy::PruneDomain(_) | Remedy::ForgetCell(_) => Ok(nothing),
        Remedy::Auction(_) | Remedy::AuctionTask(_) | Remedy::StopAgain(_) | Remedy::CallBack(_) => Ok(nothing),
    }
}

static NONE: Group = Group { ordinary: None, evacuating: None, suspect: None };

fn find<'a>(state: &'a State, slot: &Slot) -> &'a Group {
    state.group(&slot.0, slot.1).unwrap_or(&NONE)
}

fn is_lost(state: &State, lrp: &ActualLrp, now: Timestamp) -> bool {
    lrp.instance().is_some_and(|by| !state.is_present(&by.cell_id, now))
}

fn drop_lost(state: &State, lrp: Option<&ActualLrp>, now: Timestamp) -> Decision {
    let lost = lrp.filter(|lrp| is_lost(state, lrp, now));
    lost.map(|lrp| Decision::write(Write::drop_actual(lrp))).unwrap_or_default()
}

/// A retired instance whose cell is gone: the record goes, the retirement stays lest the cell brings it back.
fn forget_lost(state: &State, slot: &Slot, now: Timestamp) -> Decision {
    let Some(lrp) = find(state, slot).ordinary.as_ref().filter(|lrp| state.is_retiring(lrp)) else {
        return Decision::default();
    };
    let mut decision = drop_lost(state, Some(lrp), now);
    if !decision.writes.is_empty() {
        lrps::succeed(&mut decision, state, &lrp.key, now);
    }
    decision
}

fn create(state: &State, slot: &Slot, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    if let (Some(process), None) = (state.process(&slot.0), &find(state, slot).ordinary) {
        let key = LrpKey { process_guid: slot.0.clone(), index: slot.1, domain: process.domain.clone() };
        lrps::succeed(&mut decision, state, &key, now);
    }
    decision
}

fn suspect(state: &State, slot: &Slot, now: Timestamp) -> Result<Decision> {
    let group = find(state, slot);
    let (Some(lrp), None) = (&group.ordinary, &group.suspect) else { return Ok(Decision::default()) };
    if !is_lost(state, lrp, now) {
        return Ok(Decision::default());
    }
    let suspect = ActualLrp::clone(lrp).apply(actual_lrp::Event::Lose, now)?;
    let mut decision = Decision::write(Write::put_actual(suspect));
    let fresh = ActualLrp { crash_count: lrp.crash_count, crash_reason: lrp.crash_reason.clone(), ..ActualLrp::unclaimed(lrp.key.clone(), now) };
    decision.writes.push(Write::put_actual(fresh));
    decision.auction(&lrp.key);
    Ok(decision)
}

fn unclaim_lost(state: &State, slot: &Slot, now: Timestamp) -> Result<Decision> {
    match &find(state, slot).ordinary {
        Some(lrp) if is_lost(state, lrp, now) => {
            let mut decision = lrps::apply(lrp, actual_lrp::Event::Unclaim, now)?;
            decision.auction(&lrp.key);
            Ok(decision)
        }
        _ => Ok(Decision::default()),
    }
}

/// The suspect takes the place of its replacement; a container that the replacement has already is stopped by its cell.
fn recover(state: &State, slot: &Slot, now: Timestamp) -> Result<Decision> {
    match &find(state, slot).suspect {
        Some(lrp) if !is_lost(state, lrp, now) => {
            let ordinary = ActualLrp::clone(lrp).apply(actual_lrp::Event::Recover, now)?;
            Ok(Decision { writes: vec![Write::put_actual(ordinary), Write::drop_actual(lrp)], ..Decision::default() })
        }
        _ => Ok(Decision::default()),
    }
}

fn restart(state: &State, slot: &Slot, now: Timestamp) -> Result<Decision> {
    match &find(state, slot).ordinary {
        Some(lrp) if matches!(lrp.state, actual_lrp::State::Crashed) => {
            let mut decision = lrps::apply(lrp, actual_lrp::Event::Unclaim, now)?;
            decision.auction(&lrp.key);
            Ok(decision)
        }
        _ => Ok(Decision::default()),
    }
}
