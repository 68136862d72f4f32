//! The auctioneer, played: what it waits for and how long. What it believes, asks and decides is the real one's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bbs::simulation::{MORE_TRIES, Question, Round, Slot, Tried};
use diego::cell::{LrpStart, Refused};
use diego::{BbsError, CellId, CellPresence, CellState, TaskGuid};

use super::writer::unreachable;
use crate::world::{CellAsk, Event, MS, Reply, Said, Then, World};

/// Cells that are asked aside.
const ASIDE: usize = 8;
/// How often a brain without a lease looks whether it is back.
const LOOK: u64 = 20 * MS;

pub(super) struct Running {
    number: u64,
    round: Option<Round>,
    /// Whether cells were asked in this round.
    asked: bool,
    tries: usize,
    stage: Stage,
}

enum Stage {
    Asking {
        question: Question,
        waiting: usize,
        heard: bool,
    },
    /// Nobody answered; soon they are asked again.
    Pausing,
    Handing(BTreeSet<u64>),
}

/// Cells asked while nothing waits for it.
pub(super) struct Aside {
    number: u64,
    question: Question,
    waiting: usize,
}

/// Work that a cell has not answered yet.
pub(super) struct Hand {
    cell: CellId,
    given: Refused,
    tried: Tried,
}

impl World {
    pub(super) fn request(&mut self, b: usize, lrps: Vec<Slot>, tasks: Vec<TaskGuid>) {
        if !lrps.is_empty() || !tasks.is_empty() {
            self.brains[b].auctioneer.request(lrps, tasks);
            self.poke_auction(b);
        }
    }

    fn poke_auction(&mut self, b: usize) {
        let it = &mut self.brains[b];
        if !std::mem::replace(&mut it.poked, true) && it.round.is_none() {
            let life = it.life;
            self.at(0, Event::Auction { life });
        }
    }

    pub fn auction(&mut self, life: u64) {
        let (wall, now) = match self.brain_of(life) {
            Some(b) => (self.wall(b), self.instant()),
            None => return,
        };
        let Some(b) = self.brain_of(life).filter(|b| self.brains[*b].round.is_none()) else {
            return;
        };
        if !self.brains[b].holds(now) {
            return self.at(LOOK, Event::Auction { life });
        }
        let it = &mut self.brains[b];
        it.poked = false;
        let Some(brain) = &it.brain else { return };
        let begun = it.auctioneer.begin(brain, wall, now);
        if let Some(round) = begun {
            it.rounds += 1;
            let (number, round) = (it.rounds, Some(round));
            let stage = Stage::Pausing;
            it.round = Some(Running { number, round, asked: false, tries: 0, stage });
            self.ask_unknown(b);
        } else if it.auctioneer.waits() {
            self.poke_auction(b);
        }
    }

    fn ask_unknown(&mut self, b: usize) {
        let (now, timings) = (self.instant(), self.timings());
        let it = &mut self.brains[b];
        let Some(running) = &mut it.round else { return };
        let Some(round) = &running.round else { return };
        let (timeout, patience) = (timings.cell_timeout, timings.cell_patience);
        let Some((question, first, cells)) = it.auctioneer.question(round, timeout, patience, now)
        else {
            return self.place(b);
        };
        running.asked = true;
        running.stage = Stage::Asking { question, waiting: cells.len(), heard: false };
        let (life, number, tries) = (it.life, running.number, running.tries);
        for presence in cells {
            let then = Then::State { life, number, tries, presence: presence.clone() };
            self.ask_state(&presence, then);
        }
        self.at(nanos(first), Event::AskOver { life, number, tries, first: true });
    }

    fn ask_state(&mut self, presence: &CellPresence, then: Then) {
        let cell = self.place_of(presence.cell_id.as_str()).expect("all cells are of this world");
        self.ask_cell(cell, CellAsk::State, then);
    }

    pub fn told_state(
        &mut self,
        life: u64,
        (number, tries): (u64, usize),
        presence: Arc<CellPresence>,
        reply: Reply,
    ) {
        let now = self.instant();
        let Some(b) = self.brain_of(life) else { return };
        let it = &mut self.brains[b];
        let (Some(brain), Some(running)) = (&it.brain, &mut it.round) else { return };
        let Stage::Asking { question, waiting, heard } = &mut running.stage else { return };
        if (running.number, running.tries) != (number, tries) {
            return;
        }
        let first = it.auctioneer.heard(question, brain, presence, state_of(reply), now);
        *waiting -= 1;
        *heard |= first;
        let (over, stranded) = (*waiting == 0, it.auctioneer.waits());
        if over {
            self.end_asking(b);
        } else if first {
            let patience = nanos(self.timings().cell_patience);
            self.at(patience, Event::AskOver { life, number, tries, first: false });
        }
        if stranded {
            self.poke_auction(b);
        }
    }

    /// Nobody waits for the others any longer. The wait for the first is over only when there was none.
    pub fn ask_over(&mut self, life: u64, (number, tries): (u64, usize), first: bool) {
        let Some(b) = self.brain_of(life) else { return };
        let Some(running) = &self.brains[b].round else { return };
        let same = (running.number, running.tries) == (number, tries);
        if let Stage::Asking { heard, .. } = &running.stage
            && same
            && !(first && *heard)
        {
            self.end_asking(b);
        }
    }

    fn end_asking(&mut self, b: usize) {
        let (now, patience) = (self.instant(), self.timings().cell_patience);
        let it = &mut self.brains[b];
        let Some(running) = &mut it.round else { return };
        let stage = std::mem::replace(&mut running.stage, Stage::Pausing);
        let Stage::Asking { question, .. } = stage else { return };
        let again = it.auctioneer.end(question, patience, now);
        if again && running.tries < MORE_TRIES {
            let wait = (100 * MS) << running.tries;
            running.tries += 1;
            let (life, number) = (it.life, running.number);
            return self.at(wait, Event::AskAgain { life, number });
        }
        self.place(b);
    }

    pub fn ask_again(&mut self, life: u64, number: u64) {
        let Some(b) = self.brain_of(life) else { return };
        let same =
            |running: &Running| running.number == number && matches!(running.stage, Stage::Pausing);
        if self.brains[b].round.as_ref().is_some_and(same) {
            self.ask_unknown(b);
        }
    }

    fn place(&mut self, b: usize) {
        let wall = self.wall(b);
        let it = &mut self.brains[b];
        let (Some(brain), Some(running)) = (&it.brain, &mut it.round) else { return };
        let Some(round) = running.round.take() else { return };
        let (placed, record, tried) = it.auctioneer.place(brain, round, running.asked, wall);
        let (life, number) = (it.life, running.number);
        let mut handed = Vec::new();
        for (cell, work) in placed {
            if !brain.knows(&cell) {
                it.auctioneer.doubt(&cell);
                continue;
            }
            let lrps = work.lrps.iter().map(LrpStart::key).collect();
            let tasks = work.tasks.iter().map(|task| task.task_guid.clone()).collect();
            self.last_hand += 1;
            let given = Refused { lrps, tasks };
            let hand = Hand { cell: cell.clone(), given, tried: tried.clone() };
            it.hands.insert(self.last_hand, hand);
            handed.push((self.last_hand, cell, work));
        }
        running.stage = Stage::Handing(handed.iter().map(|(hand, ..)| *hand).collect());
        let none = handed.is_empty();
        for (hand, cell, work) in handed {
            let place = self.place_of(cell.as_str()).expect("all cells are of this world");
            let then = Then::Performed { life, hand };
            self.ask_cell(place, CellAsk::Perform(Arc::new(work)), then);
        }
        self.tell(b, record);
        if none {
            return self.round_ends(b);
        }
        let patience = nanos(self.timings().cell_patience);
        self.at(patience, Event::HandsOver { life, number });
    }

    /// Slow cells are not waited for; what they answer is heard all the same.
    pub fn hands_over(&mut self, life: u64, number: u64) {
        let Some(b) = self.brain_of(life) else { return };
        let same = |running: &Running| {
            running.number == number && matches!(running.stage, Stage::Handing(_))
        };
        if self.brains[b].round.as_ref().is_some_and(same) {
            self.round_ends(b);
        }
    }

    pub fn performed(&mut self, life: u64, hand: u64, reply: Reply) {
        let Some(b) = self.brain_of(life) else { return };
        let it = &mut self.brains[b];
        let Some(Hand { cell, given, tried }) = it.hands.remove(&hand) else { return };
        let refused = match reply {
            Ok(Said::Refused(refused)) => refused,
            _ => given,
        };
        let record = it.auctioneer.handed(&tried, &cell, refused);
        if it.auctioneer.waits() {
            self.poke_auction(b);
        }
        self.tell(b, record);
        if let Some(Running { stage: Stage::Handing(open), .. }) = &mut self.brains[b].round
            && open.remove(&hand)
            && open.is_empty()
        {
            self.round_ends(b);
        }
    }

    /// A cell is gone, and with it what was on its way there.
    pub(super) fn hands_gone(&mut self, b: usize, cell: &CellId) {
        let life = self.brains[b].life;
        let to_it = self.brains[b].hands.iter().filter(|(_, hand)| hand.cell == *cell);
        let to_it: Vec<u64> = to_it.map(|(hand, _)| *hand).collect();
        for hand in to_it {
            self.performed(life, hand, Err(unreachable("the cell is gone")));
        }
        self.poke_auction(b);
    }

    fn round_ends(&mut self, b: usize) {
        self.brains[b].round = None;
        self.ask_aside(b);
        if std::mem::take(&mut self.brains[b].poked) || self.brains[b].auctioneer.waits() {
            self.poke_auction(b);
        }
    }

    fn ask_aside(&mut self, b: usize) {
        let now = self.instant();
        let it = &mut self.brains[b];
        if it.aside.is_some() {
            return;
        }
        let Some((question, cells)) = it.auctioneer.question_aside(ASIDE, now) else { return };
        let (life, number) = (it.life, it.rounds);
        it.aside = Some(Aside { number, question, waiting: cells.len() });
        for presence in cells {
            let then = Then::Aside { life, number, presence: presence.clone() };
            self.ask_state(&presence, then);
        }
    }

    pub fn told_aside(
        &mut self,
        life: u64,
        number: u64,
        presence: Arc<CellPresence>,
        reply: Reply,
    ) {
        let now = self.instant();
        let Some(b) = self.brain_of(life) else { return };
        let it = &mut self.brains[b];
        let (Some(brain), Some(aside)) = (&it.brain, &mut it.aside) else { return };
        if aside.number != number {
            return;
        }
        let answer = state_of(reply);
        let first = it.auctioneer.heard(&mut aside.question, brain, presence, answer, now);
        aside.waiting -= 1;
        let (over, stranded) = (aside.waiting == 0, it.auctioneer.waits());
        if stranded {
            self.poke_auction(b);
        }
        if over {
            self.aside_over(life, number);
        } else if first {
            let patience = nanos(self.timings().cell_patience);
            self.at(patience, Event::AsideOver { life, number });
        }
    }

    pub fn aside_over(&mut self, life: u64, number: u64) {
        let (now, patience) = (self.instant(), self.timings().cell_patience);
        let Some(b) = self.brain_of(life) else { return };
        let it = &mut self.brains[b];
        if let Some(aside) = it.aside.take_if(|aside| aside.number == number) {
            it.auctioneer.end(aside.question, patience, now);
        }
    }
}

fn state_of(reply: Reply) -> Result<CellState, BbsError> {
    match reply {
        Ok(Said::State(state)) => Ok(*state),
        Ok(_) => Err(unreachable("not an answer to this")),
        Err(error) => Err(error),
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
