//! The auctioneer without its shell: what it believes of the cells, what waits, and every decision of a round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use auction::Weights;
use base::Timestamp;
use diego::cell::{Refused, Resources};
use diego::{BbsError, CellId, CellPresence, CellState, TaskGuid, Work};

use super::{Brain, Command, Commit, Slot};
use crate::auctioneer::{Asking, Floor, Lot, Move, Requests, Unplaced};

pub const MORE_TRIES: usize = crate::auctioneer::MORE_TRIES;

pub struct Auctioneer {
    floor: Floor,
    requests: Requests,
    moves: Vec<Move>,
}

/// One round: what it was asked for, and when it began.
pub struct Round {
    tried: Arc<Requests>,
    lot: Lot,
    began: Instant,
}

/// One asking of cells.
pub struct Question(Asking);

/// What a round tried, for when its hand-outs come back.
#[derive(Clone)]
pub struct Tried(Arc<Requests>);

impl Auctioneer {
    pub fn new(weights: &Weights) -> Auctioneer {
        Auctioneer { floor: Floor::new(weights), requests: Requests::default(), moves: Vec::new() }
    }

    pub fn request(&mut self, lrps: Vec<Slot>, tasks: Vec<TaskGuid>) {
        self.requests.add(lrps, tasks);
    }

    pub fn waits(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Takes note of what a commit changed on cells; the cells that are gone.
    pub fn moved(&mut self, commit: &mut Commit) -> Vec<CellId> {
        let gone = |change: &Move| match change {
            Move::CellGone(cell) => Some(cell.clone()),
            _ => None,
        };
        let gone = commit.moves.iter().filter_map(gone).collect();
        self.moves.append(&mut commit.moves);
        gone
    }

    fn catch_up(&mut self) {
        for change in std::mem::take(&mut self.moves) {
            self.floor.apply(change);
        }
        let (lrps, tasks) = self.floor.stranded();
        self.requests.add(lrps, tasks);
    }

    /// Begins with all that waits; `None` when nothing does any more.
    pub fn begin(&mut self, brain: &Brain, wall: Timestamp, now: Instant) -> Option<Round> {
        let tried = Arc::new(std::mem::take(&mut self.requests));
        self.catch_up();
        let lot = Lot::of(&brain.state, &tried, wall);
        (lot.count() > 0).then_some(Round { tried, lot, began: now })
    }

    /// Whom to ask before work is placed, and how long the first answer may take.
    pub fn question(
        &mut self,
        round: &Round,
        timeout: Duration,
        patience: Duration,
        now: Instant,
    ) -> Option<(Question, Duration, Vec<Arc<CellPresence>>)> {
        let (asking, cells) = Asking::of_unknown(&mut self.floor, &round.lot.present, now)?;
        let first = asking.first(timeout, patience);
        Some((Question(asking), first, cells))
    }

    /// Whom to ask aside.
    pub fn question_aside(
        &mut self,
        most: usize,
        now: Instant,
    ) -> Option<(Question, Vec<Arc<CellPresence>>)> {
        let (asking, cells) = Asking::of_due(&mut self.floor, now, most)?;
        Some((Question(asking), cells))
    }

    /// Whether it is the first usable answer.
    pub fn heard(
        &mut self,
        question: &mut Question,
        brain: &Brain,
        presence: Arc<CellPresence>,
        answer: Result<CellState, BbsError>,
        now: Instant,
    ) -> bool {
        self.catch_up();
        question.0.heard(&mut self.floor, &brain.state, presence, answer, now)
    }

    /// Whether to ask once more.
    pub fn end(&mut self, question: Question, patience: Duration, now: Instant) -> bool {
        question.0.end(&mut self.floor, patience, now)
    }

    /// Places what still waits: who gets what, and what is recorded. `asked` says that cells were asked since it began.
    pub fn place(
        &mut self,
        brain: &Brain,
        mut round: Round,
        asked: bool,
        wall: Timestamp,
    ) -> (Vec<(CellId, Work)>, Vec<Command>, Tried) {
        if asked {
            self.catch_up();
            round.lot = Lot::of(&brain.state, &round.tried, wall);
        }
        let newest_cell = round.lot.newest_cell;
        let outcome = self.floor.place(round.lot.work);
        let unplaced = Unplaced { lrps: outcome.failed_lrps, tasks: outcome.failed_tasks };
        let mut record = Vec::new();
        if !unplaced.lrps.is_empty() || !unplaced.tasks.is_empty() {
            let more_room =
                self.floor.doubt_unsure(round.began) || brain.state.newest_cell() > newest_cell;
            record = self.requests.settle(&round.tried, unplaced, !more_room);
        }
        (outcome.placed.into_iter().collect(), record, Tried(round.tried))
    }

    /// What a cell did not take, all when it did not answer; what is recorded.
    pub fn handed(&mut self, tried: &Tried, cell: &CellId, refused: Refused) -> Vec<Command> {
        self.requests.handed(&mut self.floor, &tried.0, cell, refused)
    }

    /// Somebody is not there to be given work.
    pub fn doubt(&mut self, cell: &CellId) {
        self.floor.doubt(cell);
    }

    /// What is believed free on a cell.
    pub fn free(&self, cell: &CellId) -> Option<Resources> {
        self.floor.free(cell)
    }
}
