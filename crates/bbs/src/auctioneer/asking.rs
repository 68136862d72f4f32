//! One asking of cells how they stand: whom, what becomes of an answer, and of those that give none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diego::{BbsError, CellId, CellPresence, CellState};
use tracing::warn;

use super::Floor;
use crate::state::State;

/// When cells are there and none answers.
pub(crate) const MORE_TRIES: usize = 3;

pub(crate) struct Asking {
    /// Nobody else is known: without an answer there is no auction.
    alone: bool,
    missing: BTreeSet<CellId>,
    /// Whether any has answered.
    some: bool,
}

impl Asking {
    /// Of those present the ones of which nothing is known. Cells that kept silent are left alone for a while as long as
    /// there are others. `None` when there is nobody to ask.
    pub fn of_unknown(
        floor: &mut Floor,
        present: &[Arc<CellPresence>],
        now: Instant,
    ) -> Option<(Asking, Vec<Arc<CellPresence>>)> {
        let mut cells = floor.unknown(present);
        let alone = cells.len() == present.len();
        if !alone {
            cells = floor.not_silent(cells, now);
        }
        Asking::of(floor, cells, alone)
    }

    /// A few that are due, aside from what else goes on.
    pub fn of_due(
        floor: &mut Floor,
        now: Instant,
        most: usize,
    ) -> Option<(Asking, Vec<Arc<CellPresence>>)> {
        let due = floor.due(now, most);
        Asking::of(floor, due, true)
    }

    fn of(
        floor: &mut Floor,
        cells: Vec<Arc<CellPresence>>,
        alone: bool,
    ) -> Option<(Asking, Vec<Arc<CellPresence>>)> {
        let missing: BTreeSet<_> = cells.iter().map(|cell| cell.cell_id.clone()).collect();
        floor.asked(&missing);
        (!cells.is_empty()).then_some((Asking { alone, missing, some: false }, cells))
    }

    /// How long the first answer may take; those after it have no more than patience.
    pub fn first(&self, timeout: Duration, patience: Duration) -> Duration {
        if self.alone { timeout } else { patience }
    }

    /// Takes in what a cell says; the floor must know all that was committed before. Whether it is the first answer.
    pub fn heard(
        &mut self,
        floor: &mut Floor,
        state: &State,
        presence: Arc<CellPresence>,
        answer: Result<CellState, BbsError>,
        now: Instant,
    ) -> bool {
        let Some(answer) = usable(&presence, answer) else {
            floor.doubt(&presence.cell_id);
            return false;
        };
        self.missing.remove(&presence.cell_id);
        floor.set(presence, &answer, state, now);
        !std::mem::replace(&mut self.some, true)
    }

    /// Nobody is waited for any longer; whether to ask once more.
    pub fn end(self, floor: &mut Floor, patience: Duration, now: Instant) -> bool {
        for cell in self.missing {
            floor.silent(cell, now + patience);
        }
        self.alone && !self.some
    }
}

/// Only what comes under the name that was announced.
fn usable(presence: &CellPresence, state: Result<CellState, BbsError>) -> Option<CellState> {
    match state {
        Ok(state) if state.presence.cell_id == presence.cell_id => Some(state),
        Ok(state) => {
            warn!(cell.id = %presence.cell_id, answered = %state.presence.cell_id, "another cell answered");
            None
        }
        Err(error) => {
            warn!(cell.id = %presence.cell_id, %error, "a cell takes no part in the auction");
            None
        }
    }
}
