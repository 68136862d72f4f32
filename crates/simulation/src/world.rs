//! Time, the network and who is asked what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Timestamp;
use bbs::simulation::{Answer, Command, Count};
use diego::bbs::{ActualLrpFilter, ErrorKind, TaskFilter};
use diego::cell::{LrpUpdate, Refused};
use diego::{
    ActualLrp, BbsError, CellPresence, CellState, InstanceGuid, LrpKey, ProcessGuid, Task,
    TaskGuid, Work,
};

use crate::Report;
use crate::brain::{BrainSim, Store};
use crate::cell::{CellSim, Stage};
use crate::chance::Chance;
use crate::client::{Client, Op};
use crate::lane::LaneCall;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1000 * MS;
/// Whoever is asked answers within this or is not heard.
const PATIENCE: u64 = 10 * SECOND;
/// Whoever is told to look elsewhere waits so long.
const NEXT: u64 = 100 * MS;
/// The client never wants more at once.
pub(crate) const MOST_INSTANCES: u32 = 16;
/// What a brain says, or nobody, when surely nothing happened and another one may be asked.
pub(crate) const NOT_LEADING: &str = "this brain does not lead";
pub(crate) const REFUSED: &str = "connection refused";
/// When all began.
const EPOCH: Timestamp = Timestamp::from_secs(1_700_000_000);

#[derive(Clone, Debug)]
pub(crate) enum BrainAsk {
    Do(Command),
    Announce(CellPresence, Duration),
    Lrps(ActualLrpFilter),
    Tasks(TaskFilter),
    Task(TaskGuid),
}

#[derive(Clone, Debug)]
pub(crate) enum CellAsk {
    State,
    Perform(Arc<Work>),
    Stop(InstanceGuid),
    Update(InstanceGuid, LrpUpdate),
    Cancel(TaskGuid),
}

#[derive(Clone, Debug)]
pub(crate) enum Said {
    Done,
    Answer(Answer),
    Lrps(Vec<ActualLrp>),
    Tasks(Vec<Task>),
    Task(Box<Task>),
    State(Box<CellState>),
    Refused(Refused),
}

pub(crate) type Reply = Result<Said, BbsError>;

/// Who waits for an answer, in which of its lives.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    Nothing,
    Lane { cell: usize, life: u64, handle: String, call: LaneCall },
    Announced { cell: usize, life: u64 },
    Compared { cell: usize, life: u64 },
    ComparedMore { cell: usize, life: u64, records: Vec<ActualLrp> },
    ComparedTasks { cell: usize, life: u64 },
    ComparedTask { cell: usize, life: u64, task: TaskGuid },
    State { life: u64, number: u64, tries: usize, presence: Arc<CellPresence> },
    Aside { life: u64, number: u64, presence: Arc<CellPresence> },
    Performed { life: u64, hand: u64 },
    Stopped { life: u64, guid: InstanceGuid, tries: u32 },
    Tagged { life: u64, process: ProcessGuid, index: u32 },
    Client(Op),
}

/// Somebody waits for an answer. Who asks a brain tries the next when one does not lead.
struct Call {
    then: Then,
    brain: usize,
    ask: Option<(Option<usize>, BrainAsk)>,
    /// It is asked again soon.
    again: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    ToBrain {
        call: u64,
        brain: usize,
        cell: Option<usize>,
        ask: BrainAsk,
    },
    /// It has arrived, and waits for a brain that is frozen.
    Lies {
        life: u64,
        call: u64,
        cell: Option<usize>,
        ask: BrainAsk,
    },
    ToCell {
        call: u64,
        cell: usize,
        ask: CellAsk,
    },
    Answer {
        call: u64,
        reply: Reply,
    },
    Timeout {
        call: u64,
    },
    AskNext {
        call: u64,
    },
    BrainUp {
        b: usize,
    },
    Look {
        life: u64,
    },
    Take {
        life: u64,
        count: Count,
    },
    Renew {
        life: u64,
    },
    Stored {
        life: u64,
    },
    Committed {
        life: u64,
    },
    Converge {
        life: u64,
        at: u64,
    },
    Auction {
        life: u64,
    },
    AskOver {
        life: u64,
        number: u64,
        tries: usize,
        first: bool,
    },
    AskAgain {
        life: u64,
        number: u64,
    },
    HandsOver {
        life: u64,
        number: u64,
    },
    AsideOver {
        life: u64,
        number: u64,
    },
    SeeOff {
        life: u64,
        guid: InstanceGuid,
        tries: u32,
    },
    Announce {
        cell: usize,
        life: u64,
    },
    Compare {
        cell: usize,
        life: u64,
    },
    Wake {
        cell: usize,
        life: u64,
        handle: String,
        token: u64,
    },
    Progress {
        cell: usize,
        life: u64,
        handle: String,
        stage: Stage,
    },
    Evacuate {
        cell: usize,
        life: u64,
    },
    CellUp {
        cell: usize,
        life: u64,
    },
    ClientTurn,
    ClientSend(Op),
    Fault,
    Calm,
}

/// How bad the network and the disk are just now; times are virtual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub calm: bool,
    pub lossy_until: u64,
    pub slow_disk_until: u64,
    pub client_silent_until: u64,
}

pub(crate) struct World {
    pub seed: u64,
    pub now: u64,
    pub chance: Chance,
    pub weather: Weather,
    pub store: Store,
    pub brains: Vec<BrainSim>,
    /// How many lives brains had.
    pub lives: u64,
    pub last_hand: u64,
    /// Until when the domain was fresh at most, as far as any brain ever heard.
    pub fresh_until: Timestamp,
    /// The cells together have just the room that all instances need.
    pub tight: bool,
    pub cells: Vec<CellSim>,
    pub client: Client,
    /// How often the code of a task began to run.
    pub runs: BTreeMap<TaskGuid, u32>,
    pub starts: u64,
    pub wrong: Vec<String>,
    pub calm_since: u64,
    /// Who is told that there is no room while there is some, since when.
    pub hungry: BTreeMap<LrpKey, (u64, String)>,
    origin: Instant,
    /// Which brain each cell, or the client, asks first.
    hints: BTreeMap<Option<usize>, usize>,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    calls: BTreeMap<u64, Call>,
    last_call: u64,
    hash: u64,
    trace: Option<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, traced: bool) -> World {
        let mut chance = Chance::new(seed);
        let (count, tight) = (chance.range(2, 6) as usize, chance.in_thousand(400));
        let room = if tight { (MOST_INSTANCES as u64).div_ceil(count as u64) * 100 } else { 1000 };
        let cells = (0..count).map(|number| CellSim::new(number, room)).collect();
        let brains = (0..chance.range(1, 3)).map(|_| BrainSim::new()).collect();
        World {
            seed,
            now: 0,
            chance,
            weather: Weather::default(),
            store: Store::default(),
            brains,
            lives: 0,
            last_hand: 0,
            fresh_until: Timestamp::ZERO,
            tight,
            cells,
            client: Client::default(),
            runs: BTreeMap::new(),
            starts: 0,
            wrong: Vec::new(),
            calm_since: 0,
            hungry: BTreeMap::new(),
            origin: Instant::now(),
            hints: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            calls: BTreeMap::new(),
            last_call: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: traced.then(Vec::new),
        }
    }

    pub fn run(mut self) -> Report {
        (0..self.brains.len()).for_each(|b| self.brain_up(b));
        for cell in 0..self.cells.len() {
            self.cell_up(cell);
        }
        self.at(100 * MS, Event::ClientTurn);
        self.at(SECOND, Event::Fault);
        let trouble = self.chance.range(20, 150) * SECOND;
        self.at(trouble, Event::Calm);
        let mut events = 0;
        // Calm ends the run by emptying the queue.
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.now = time;
            events += 1;
            self.mix(time);
            self.mix(event.tag());
            self.handle(event);
            if !self.wrong.is_empty() {
                break;
            }
        }
        self.hash_end();
        Report {
            seed: self.seed,
            hash: self.hash,
            events,
            starts: self.starts,
            wrong: self.wrong,
            trace: self.trace.unwrap_or_default(),
        }
    }

    /// Nothing more happens.
    pub fn end(&mut self) {
        self.queue.clear();
    }

    pub fn mix(&mut self, what: u64) {
        self.hash = (self.hash ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3}s {}", self.now as f64 / SECOND as f64, what()));
        }
    }

    /// The time that a clock shows which is so far off.
    pub fn true_time(&self, off: i64) -> Timestamp {
        Timestamp::from_nanos(EPOCH.as_nanos() + self.now as i64 + off)
    }

    /// By a clock that nobody sets.
    pub fn instant(&self) -> Instant {
        self.origin + Duration::from_nanos(self.now)
    }

    pub fn at(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    pub fn ask_brain(&mut self, cell: Option<usize>, ask: BrainAsk, then: Then) {
        let brain = self.hints.get(&cell).copied().unwrap_or(0);
        let kept = (self.brains.len() > 1).then(|| (cell, ask.clone()));
        let call = self.expect(Call { then, brain, ask: kept, again: false });
        self.send_to_brain(call, brain, cell, &ask);
    }

    fn send_to_brain(&mut self, call: u64, brain: usize, cell: Option<usize>, ask: &BrainAsk) {
        for _ in 0..self.copies(cell) {
            if let Some(delay) = self.delay(cell) {
                self.at(delay, Event::ToBrain { call, brain, cell, ask: ask.clone() });
            }
        }
    }

    pub fn ask_cell(&mut self, cell: usize, ask: CellAsk, then: Then) {
        let call = self.expect(Call { then, brain: 0, ask: None, again: false });
        for _ in 0..self.copies(Some(cell)) {
            if let Some(delay) = self.delay(Some(cell)) {
                self.at(delay, Event::ToCell { call, cell, ask: ask.clone() });
            }
        }
    }

    pub fn answer(&mut self, call: u64, cell: Option<usize>, reply: Reply) {
        if let Some(delay) = self.delay(cell) {
            self.at(delay, Event::Answer { call, reply });
        }
    }

    fn expect(&mut self, call: Call) -> u64 {
        self.last_call += 1;
        self.calls.insert(self.last_call, call);
        self.at(PATIENCE, Event::Timeout { call: self.last_call });
        self.last_call
    }

    /// Only between cells and brain are messages doubled: a client's request has no name by which to know it again.
    fn copies(&mut self, cell: Option<usize>) -> usize {
        1 + usize::from(!self.weather.calm && cell.is_some() && self.chance.in_thousand(20))
    }

    /// `None` when the message gets lost.
    fn delay(&mut self, cell: Option<usize>) -> Option<u64> {
        if cell.is_some_and(|cell| self.cells[cell].cut_until > self.now) {
            return None;
        }
        let usual = self.chance.range(MS / 5, 4 * MS);
        if self.weather.calm {
            return Some(usual);
        }
        let lossy = self.weather.lossy_until > self.now;
        let lost = if lossy { 250 } else { 10 };
        if self.chance.in_thousand(lost) {
            return None;
        }
        match self.chance.range(0, 1000) {
            // So late that whoever asked has given up; a client's connection is gone by then.
            0..3 if cell.is_some() => Some(self.chance.range(SECOND, 15 * SECOND)),
            0..40 => Some(self.chance.range(usual, SECOND)),
            _ => Some(usual),
        }
    }

    /// The brain that an event happens to. What happens to a cell or in the store waits for no brain.
    fn happens_to(&self, event: &Event) -> Option<usize> {
        match event {
            Event::ToBrain { brain, .. } => Some(*brain),
            Event::Answer { call, .. } | Event::Timeout { call } => {
                self.brain_of(self.calls.get(call)?.then.brain_life()?)
            }
            Event::Lies { life, .. }
            | Event::Look { life }
            | Event::Take { life, .. }
            | Event::Renew { life }
            | Event::Committed { life }
            | Event::Converge { life, .. }
            | Event::Auction { life }
            | Event::AskOver { life, .. }
            | Event::AskAgain { life, .. }
            | Event::HandsOver { life, .. }
            | Event::AsideOver { life, .. }
            | Event::SeeOff { life, .. } => self.brain_of(*life),
            _ => None,
        }
    }

    fn handle(&mut self, event: Event) {
        let thaw = self.happens_to(&event).map_or(0, |b| self.brains[b].frozen_until);
        if thaw > self.now {
            let event = match event {
                Event::ToBrain { call, brain, cell, ask } => {
                    Event::Lies { life: self.brains[brain].life, call, cell, ask }
                }
                event => event,
            };
            return self.at(thaw - self.now, event);
        }
        match event {
            Event::ToBrain { call, brain, cell, ask } => self.brain_asked(call, brain, cell, ask),
            Event::Lies { life, call, cell, ask } => {
                if let Some(b) = self.brain_of(life) {
                    self.brain_asked(call, b, cell, ask);
                }
            }
            Event::ToCell { call, cell, ask } => self.cell_asked(call, cell, ask),
            Event::Answer { call, reply } => self.go_on(call, reply),
            Event::Timeout { call } => {
                let late = BbsError::new(ErrorKind::Unreachable, "no answer in time");
                self.go_on(call, Err(late));
            }
            Event::AskNext { call } => self.ask_next(call),
            Event::BrainUp { b } => self.brain_up(b),
            Event::Look { life } => self.look(life),
            Event::Take { life, count } => self.take(life, count),
            Event::Renew { life } => self.renew(life),
            Event::Stored { life } => self.stored(life),
            Event::Committed { life } => self.committed(life),
            Event::Converge { life, at } => self.converge(life, at),
            Event::Auction { life } => self.auction(life),
            Event::AskOver { life, number, tries, first } => {
                self.ask_over(life, (number, tries), first)
            }
            Event::AskAgain { life, number } => self.ask_again(life, number),
            Event::HandsOver { life, number } => self.hands_over(life, number),
            Event::AsideOver { life, number } => self.aside_over(life, number),
            Event::SeeOff { life, guid, tries } => {
                if let Some(b) = self.brain_of(life) {
                    self.see_off(b, guid, tries);
                }
            }
            Event::Announce { cell, life } => self.announce(cell, life),
            Event::Compare { cell, life } => self.compare(cell, life),
            Event::Wake { cell, life, handle, token } => self.wake(cell, life, &handle, token),
            Event::Progress { cell, life, handle, stage } => {
                self.progress(cell, life, &handle, stage)
            }
            Event::Evacuate { cell, life } => self.evacuate_more(cell, life),
            Event::CellUp { cell, life } => {
                if self.cells[cell].life == life && !self.cells[cell].up {
                    self.cell_up(cell);
                }
            }
            Event::ClientTurn => self.client_turn(),
            Event::ClientSend(op) => self.client_send(op),
            Event::Fault => self.fault(),
            Event::Calm => self.calm(),
        }
    }

    /// The first answer counts; later ones find nobody. An answer that only says to look elsewhere is none.
    fn go_on(&mut self, call: u64, reply: Reply) {
        let count = self.brains.len();
        if let (Some(known), Err(error)) = (self.calls.get_mut(&call), &reply)
            && let Some((asker, _)) = &known.ask
        {
            let elsewhere = error.message == NOT_LEADING || error.message == REFUSED;
            if elsewhere && known.again {
                return;
            }
            if elsewhere || error.kind == ErrorKind::Unreachable {
                known.brain = (known.brain + 1) % count;
                self.hints.insert(*asker, known.brain);
            }
            if elsewhere {
                known.again = true;
                return self.at(NEXT, Event::AskNext { call });
            }
        }
        let Some(Call { then, .. }) = self.calls.remove(&call) else { return };
        match then {
            Then::Nothing => {}
            Then::Lane { cell, life, handle, call } => {
                if self.cells[cell].life == life {
                    self.lane_heard(cell, &handle, call, reply);
                }
            }
            Then::Announced { cell, life } => {
                let wait = if reply.is_ok() { 5 * SECOND } else { SECOND };
                self.at(wait, Event::Announce { cell, life });
            }
            Then::Compared { cell, life } => self.compared(cell, life, reply),
            Then::ComparedMore { cell, life, records } => {
                self.compared_more(cell, life, records, reply)
            }
            Then::ComparedTasks { cell, life } => self.compared_tasks(cell, life, reply),
            Then::ComparedTask { cell, life, task } => self.compared_task(cell, life, &task, reply),
            Then::State { life, number, tries, presence } => {
                self.told_state(life, (number, tries), presence, reply)
            }
            Then::Aside { life, number, presence } => {
                self.told_aside(life, number, presence, reply)
            }
            Then::Performed { life, hand } => self.performed(life, hand, reply),
            Then::Stopped { life, guid, tries } => self.told_stop(life, guid, tries, reply),
            Then::Tagged { life, process, index } => self.told_tags(life, &process, index, &reply),
            Then::Client(op) => self.client_heard(op, reply),
        }
    }

    fn ask_next(&mut self, call: u64) {
        let Some(known) = self.calls.get_mut(&call) else { return };
        known.again = false;
        let (brain, Some((cell, ask))) = (known.brain, known.ask.clone()) else { return };
        self.send_to_brain(call, brain, cell, &ask);
    }
}

impl Then {
    /// The life of the brain that waits, if it is one.
    fn brain_life(&self) -> Option<u64> {
        match self {
            Then::State { life, .. }
            | Then::Aside { life, .. }
            | Then::Performed { life, .. }
            | Then::Stopped { life, .. }
            | Then::Tagged { life, .. } => Some(*life),
            _ => None,
        }
    }
}

impl Event {
    fn tag(&self) -> u64 {
        match self {
            Event::ToBrain { cell, .. } => 100 + cell.map_or(99, |cell| cell as u64),
            Event::Lies { .. } => 24,
            Event::ToCell { cell, .. } => 200 + *cell as u64,
            Event::Answer { reply, .. } => 1 + u64::from(reply.is_ok()),
            Event::Timeout { .. } => 3,
            Event::Committed { .. } => 4,
            Event::Converge { .. } => 5,
            Event::Auction { .. } => 6,
            Event::AskOver { .. } | Event::AskAgain { .. } => 7,
            Event::HandsOver { .. } | Event::AsideOver { .. } => 20,
            Event::SeeOff { .. } => 8,
            Event::BrainUp { .. } => 9,
            Event::Look { .. } | Event::Take { .. } | Event::Renew { .. } => 21,
            Event::Stored { .. } => 22,
            Event::AskNext { .. } => 23,
            Event::Announce { .. } => 10,
            Event::Compare { .. } => 11,
            Event::Wake { .. } => 12,
            Event::Progress { .. } => 13,
            Event::Evacuate { .. } => 14,
            Event::CellUp { .. } => 15,
            Event::ClientTurn => 16,
            Event::ClientSend(_) => 17,
            Event::Fault => 18,
            Event::Calm => 19,
        }
    }
}
