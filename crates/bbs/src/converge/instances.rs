//! The records of one index: which of Diego's rules of convergence apply.

use base::Timestamp;
use diego::actual_lrp::State as LrpState;
use diego::crash::Restart;
use diego::{ActualLrp, CellId};

use super::{Remedy, Round};
use crate::config::Timings;
use crate::state::{Group, Slot, State};

static NONE: Group = Group { ordinary: None, evacuating: None, suspect: None };

pub(super) fn converge(
    round: &mut Round,
    state: &State,
    slot: &Slot,
    now: Timestamp,
    timings: &Timings,
) {
    let Some(process) = state.process(&slot.0) else { return };
    let group = process.groups.get(&slot.1).unwrap_or(&NONE);
    let lost = |cell: &CellId| !state.is_present(cell, now);
    let is_lost = |lrp: &ActualLrp| lrp.instance().is_some_and(|by| lost(&by.cell_id));
    let wanted = process.wants(slot.1);

    if group.evacuating.as_ref().is_some_and(|lrp| is_lost(lrp)) {
        round.act(Remedy::DropEvacuating(slot.clone()));
    }
    let runs = group
        .ordinary
        .as_ref()
        .is_some_and(|lrp| matches!(lrp.state, LrpState::Running { .. }) && !is_lost(lrp));
    if let Some(suspect) = &group.suspect {
        if process.desired.is_none() || runs {
            round.act(Remedy::DropSuspect(slot.clone()));
        } else if !is_lost(suspect) {
            return round.act(Remedy::Recover(slot.clone()));
        }
    }
    let Some(lrp) = &group.ordinary else {
        if wanted {
            round.act(Remedy::Create(slot.clone()));
        }
        return;
    };
    if state.is_retiring(lrp) {
        if is_lost(lrp) {
            round.act(Remedy::ForgetLost(slot.clone()));
        }
        return;
    }
    if !wanted {
        if state.is_fresh(&lrp.key.domain, now) {
            round.act(Remedy::Retire(slot.clone()));
        }
        return;
    }
    ordinary(
        round,
        lrp,
        slot,
        is_lost(lrp),
        group.suspect.is_some(),
        state.newest_cell(),
        now,
        timings,
    );
}

#[expect(
    clippy::too_many_arguments,
    reason = "one caller, and a struct for it would only repeat the names"
)]
fn ordinary(
    round: &mut Round,
    lrp: &ActualLrp,
    slot: &Slot,
    lost: bool,
    has_suspect: bool,
    newest_cell: Timestamp,
    now: Timestamp,
    timings: &Timings,
) {
    match &lrp.state {
        LrpState::Claimed { .. } | LrpState::Running { .. } if lost && has_suspect => {
            round.act(Remedy::UnclaimLost(slot.clone()));
        }
        LrpState::Claimed { .. } | LrpState::Running { .. } if lost => {
            round.act(Remedy::Suspect(slot.clone()))
        }
        LrpState::Claimed { .. } | LrpState::Running { .. } => {}
        LrpState::Unclaimed { placement_error } => {
            let new_chance = !placement_error.is_empty() && lrp.since < newest_cell;
            if new_chance || round.has_passed(timings.stale_unclaimed, lrp.since, now) {
                round.act(Remedy::Auction(slot.clone()));
                round.wait_until(now + timings.stale_unclaimed);
            }
        }
        LrpState::Crashed => {
            if let Restart::After(wait) = timings.crash_rule().restart(lrp.crash_count)
                && round.has_passed(wait, lrp.since, now)
            {
                round.act(Remedy::Restart(slot.clone()));
            }
        }
    }
}
