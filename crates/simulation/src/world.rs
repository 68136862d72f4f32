//! Time, the network and who is asked what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use bbs::simulation::{Answer, Command};
use diego::bbs::{ActualLrpFilter, ErrorKind, TaskFilter};
use diego::cell::Refused;
use diego::{
    ActualLrp, BbsError, CellPresence, CellState, InstanceGuid, LrpKey, Task, TaskGuid, Work,
};

use crate::Report;
use crate::brain::BrainSim;
use crate::cell::{CellSim, Stage};
use crate::chance::Chance;
use crate::client::{Client, Op};
use crate::lane::LaneCall;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1000 * MS;
/// Whoever is asked answers within this or is not heard.
const PATIENCE: u64 = 10 * SECOND;
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
    State { life: u64, round: u64 },
    Performed { life: u64, round: u64, lrps: Vec<LrpKey>, tasks: Vec<TaskGuid> },
    Stopped { life: u64, guid: InstanceGuid, tries: u32 },
    Client(Op),
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    ToBrain { call: u64, cell: Option<usize>, ask: BrainAsk },
    ToCell { call: u64, cell: usize, ask: CellAsk },
    Answer { call: u64, reply: Reply },
    Timeout { call: u64 },
    Committed { life: u64 },
    Converge { life: u64, at: u64 },
    Auction { life: u64 },
    RoundOver { life: u64, round: u64, placed: bool },
    SeeOff { life: u64, guid: InstanceGuid, tries: u32 },
    BrainUp,
    Announce { cell: usize, life: u64 },
    Compare { cell: usize, life: u64 },
    Wake { cell: usize, life: u64, handle: String, token: u64 },
    Progress { cell: usize, life: u64, handle: String, stage: Stage },
    Evacuate { cell: usize, life: u64 },
    CellUp { cell: usize, life: u64 },
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
    pub brain: BrainSim,
    pub cells: Vec<CellSim>,
    pub client: Client,
    /// How often the code of a task began to run.
    pub runs: BTreeMap<TaskGuid, u32>,
    pub starts: u64,
    pub wrong: Vec<String>,
    /// How far the brain's clock is off.
    pub clock_off: i64,
    pub calm_since: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    calls: BTreeMap<u64, Then>,
    last_call: u64,
    hash: u64,
    trace: Option<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, traced: bool) -> World {
        let mut chance = Chance::new(seed);
        let cells = (0..chance.range(2, 6) as usize).map(CellSim::new).collect();
        World {
            seed,
            now: 0,
            chance,
            weather: Weather::default(),
            brain: BrainSim::default(),
            cells,
            client: Client::default(),
            runs: BTreeMap::new(),
            starts: 0,
            wrong: Vec::new(),
            clock_off: 0,
            calm_since: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            calls: BTreeMap::new(),
            last_call: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: traced.then(Vec::new),
        }
    }

    pub fn run(mut self) -> Report {
        self.brain_up();
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

    /// The brain's clock on the wall.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_nanos(EPOCH.as_nanos() + self.now as i64 + self.clock_off)
    }

    pub fn at(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    pub fn ask_brain(&mut self, cell: Option<usize>, ask: BrainAsk, then: Then) {
        let call = self.expect(then);
        for _ in 0..self.copies(cell) {
            if let Some(delay) = self.delay(cell) {
                self.at(delay, Event::ToBrain { call, cell, ask: ask.clone() });
            }
        }
    }

    pub fn ask_cell(&mut self, cell: usize, ask: CellAsk, then: Then) {
        let call = self.expect(then);
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

    fn expect(&mut self, then: Then) -> u64 {
        self.last_call += 1;
        self.calls.insert(self.last_call, then);
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

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToBrain { call, cell, ask } => self.brain_asked(call, cell, ask),
            Event::ToCell { call, cell, ask } => self.cell_asked(call, cell, ask),
            Event::Answer { call, reply } => self.go_on(call, reply),
            Event::Timeout { call } => {
                let late = BbsError::new(ErrorKind::Unreachable, "no answer in time");
                self.go_on(call, Err(late));
            }
            Event::Committed { life } => self.committed(life),
            Event::Converge { life, at } => self.converge(life, at),
            Event::Auction { life } => self.auction(life),
            Event::RoundOver { life, round, placed } => self.round_over(life, round, placed),
            Event::SeeOff { life, guid, tries } if life == self.brain.life => {
                self.see_off(guid, tries)
            }
            Event::SeeOff { .. } => {}
            Event::BrainUp => self.brain_up(),
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

    /// The first answer counts; later ones find nobody.
    fn go_on(&mut self, call: u64, reply: Reply) {
        let Some(then) = self.calls.remove(&call) else { return };
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
            Then::State { life, round } => self.told_state(life, round, reply),
            Then::Performed { life, round, lrps, tasks } => {
                self.performed(life, round, lrps, tasks, reply)
            }
            Then::Stopped { life, guid, tries } => self.told_stop(life, guid, tries, reply),
            Then::Client(op) => self.client_heard(op, reply),
        }
    }
}

impl Event {
    fn tag(&self) -> u64 {
        match self {
            Event::ToBrain { cell, .. } => 100 + cell.map_or(99, |cell| cell as u64),
            Event::ToCell { cell, .. } => 200 + *cell as u64,
            Event::Answer { reply, .. } => 1 + u64::from(reply.is_ok()),
            Event::Timeout { .. } => 3,
            Event::Committed { .. } => 4,
            Event::Converge { .. } => 5,
            Event::Auction { .. } => 6,
            Event::RoundOver { .. } => 7,
            Event::SeeOff { .. } => 8,
            Event::BrainUp => 9,
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
