//! The shells of the brain, played: writer, converger, auctioneer and retirer around the real decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auction::Weights;
use base::Timestamp;
use bbs::Timings;
use bbs::simulation::{Brain, Command, Commit, Remedy, Rows, Slot};
use diego::bbs::ErrorKind;
use diego::cell::LrpStart;
use diego::task::State as TaskState;
use diego::{BbsError, CellState, Event as Change, InstanceGuid, LrpKey, TaskGuid, Work};

use crate::client::DOMAIN;
use crate::world::{BrainAsk, CellAsk, Event, MS, Reply, SECOND, Said, Then, World};

/// Work that a cell did not take is offered again at once so often.
const ATTEMPTS: u32 = 3;
/// Tries in a row to have an instance stopped.
const STOPS: u32 = 5;
/// Rounds of convergence leave the others some time.
const PAUSE: u64 = 20 * MS;

/// A call and the cell that made it, if it was one.
type Asker = (u64, Option<usize>);

#[derive(Default)]
pub(crate) struct BrainSim {
    pub life: u64,
    /// What is in memory; `None` while it is down.
    pub brain: Option<Brain>,
    pub rows: Rows,
    inbox: Vec<(Option<Asker>, BrainAsk)>,
    committing: Option<Committing>,
    alarm: Option<u64>,
    last_round: u64,
    lrps: BTreeMap<Slot, u32>,
    tasks: BTreeMap<TaskGuid, u32>,
    poked: bool,
    rounds: u64,
    round: Option<Round>,
    stopping: BTreeSet<InstanceGuid>,
    /// Until when the domain was fresh at most, as far as any brain ever heard.
    pub fresh_until: Timestamp,
}

struct Committing {
    commit: Commit,
    calls: Vec<Option<Asker>>,
}

struct Round {
    number: u64,
    lrps: BTreeMap<Slot, u32>,
    tasks: BTreeMap<TaskGuid, u32>,
    work: Work,
    waiting: usize,
    states: Vec<CellState>,
    placed: bool,
}

impl World {
    pub fn brain_up(&mut self) {
        if self.brain.brain.is_some() {
            return;
        }
        let timings = Timings::default();
        let until = self.wall() + timings.cell_grace;
        let brain = Brain::load(&self.brain.rows, timings, until);
        self.note(|| "brain begins".to_owned());
        self.check_loaded(&brain);
        let (lrps, tasks, retired) = brain.unfinished();
        self.brain.brain = Some(brain);
        self.request(lrps, tasks);
        retired.into_iter().for_each(|guid| self.see_off(guid, 0));
        self.alarm(0);
    }

    /// Everything in memory is gone; what was being written may have come through.
    pub fn brain_down(&mut self) {
        let rows = std::mem::take(&mut self.brain.rows);
        let before = std::mem::take(&mut self.brain);
        self.brain.rows = rows;
        self.brain.life = before.life + 1;
        self.brain.fresh_until = before.fresh_until;
        if let Some(committing) = before.committing
            && self.chance.in_thousand(500)
        {
            self.brain.rows.store(&committing.commit);
        }
        self.note(|| "brain dies".to_owned());
    }

    pub fn brain_asked(&mut self, call: u64, cell: Option<usize>, ask: BrainAsk) {
        if self.brain.brain.is_none() {
            let nobody = BbsError::new(ErrorKind::Unreachable, "connection refused");
            return self.answer(call, cell, Err(nobody));
        }
        self.brain.inbox.push((Some((call, cell)), ask));
        self.write();
    }

    fn tell(&mut self, command: Command) {
        self.brain.inbox.push((None, BrainAsk::Do(command)));
        self.write();
    }

    /// Takes all that is queued, unless a commit is under way.
    fn write(&mut self) {
        if self.brain.committing.is_some() || self.brain.brain.is_none() {
            return;
        }
        let (mut commands, mut calls) = (Vec::new(), Vec::new());
        for (call, ask) in std::mem::take(&mut self.brain.inbox) {
            match self.read_or_command(ask) {
                Ok(command) => {
                    self.watch(&command);
                    commands.push(command);
                    calls.push(call);
                }
                Err(reply) => {
                    if let Some((call, cell)) = call {
                        self.answer(call, cell, reply);
                    }
                }
            }
        }
        if commands.is_empty() {
            return;
        }
        let wall = self.wall();
        let Some(brain) = &mut self.brain.brain else { return };
        let commit = brain.batch(commands, wall);
        let committing = Committing { commit, calls };
        if committing.commit.is_empty() {
            return self.settle(committing);
        }
        self.brain.committing = Some(committing);
        let delay = if self.weather.slow_disk_until > self.now {
            self.chance.range(50 * MS, 4 * SECOND)
        } else {
            self.chance.range(MS, 8 * MS)
        };
        self.at(delay, Event::Committed { life: self.brain.life });
    }

    /// Reads are answered at once: nothing is under way that is not stored.
    fn read_or_command(&mut self, ask: BrainAsk) -> Result<Command, Reply> {
        let wall = self.wall();
        let brain = self.brain.brain.as_mut().expect("only a brain that is up is asked");
        Err(Ok(match ask {
            BrainAsk::Do(command) => return Ok(command),
            BrainAsk::Announce(presence, ttl) => {
                if !brain.renew(&presence, wall, wall + ttl) {
                    return Ok(Command::Announce(presence, ttl));
                }
                Said::Done
            }
            BrainAsk::Lrps(filter) => Said::Lrps(brain.actual_lrps(&filter)),
            BrainAsk::Tasks(filter) => Said::Tasks(brain.tasks(&filter)),
            BrainAsk::Task(guid) => match brain.task(&guid) {
                Some(task) => Said::Task(Box::new(task)),
                None => {
                    let error = BbsError::new(ErrorKind::ResourceNotFound, "no such task");
                    return Err(Err(error));
                }
            },
        }))
    }

    /// What the invariants need to know of commands.
    fn watch(&mut self, command: &Command) {
        let wall = self.wall();
        match command {
            Command::UpsertDomain { ttl, .. } => {
                let until = ttl.map_or(Timestamp::from_nanos(i64::MAX), |ttl| wall + ttl);
                self.brain.fresh_until = self.brain.fresh_until.max(until);
            }
            Command::DeleteTask(guid) | Command::Remedy(Remedy::DeleteTask(guid)) => {
                self.client.may_be_gone.insert(guid.clone());
            }
            _ => {}
        }
    }

    pub fn committed(&mut self, life: u64) {
        if life != self.brain.life {
            return;
        }
        let Some(committing) = self.brain.committing.take() else { return };
        let refused = !self.weather.calm && self.chance.in_thousand(5);
        if refused {
            // Whether it is on disk nobody knows.
            if self.chance.in_thousand(500) {
                self.brain.rows.store(&committing.commit);
            }
            if let Some(brain) = &mut self.brain.brain {
                brain.undo(committing.commit);
            }
            self.note(|| "a commit is refused".to_owned());
            for (call, cell) in committing.calls.into_iter().flatten() {
                let error = BbsError::new(ErrorKind::Unknown, "the change was not stored");
                self.answer(call, cell, Err(error));
            }
        } else {
            self.brain.rows.store(&committing.commit);
            if let Some(brain) = &mut self.brain.brain {
                brain.stored(&committing.commit);
            }
            self.settle(committing);
        }
        self.write();
    }

    fn settle(&mut self, committing: Committing) {
        let Committing { commit, calls } = committing;
        for change in &commit.events {
            self.changed(change);
        }
        self.request(commit.auction, commit.auction_tasks);
        for (call, answer) in calls.into_iter().zip(commit.answers) {
            if let Some((call, cell)) = call {
                self.answer(call, cell, answer.map(Said::Answer));
            }
        }
        for guid in commit.retired {
            self.see_off(guid, 0);
        }
        for (cell, task) in commit.cancels {
            if let Some(cell) = self.place_of(cell.as_str()) {
                self.ask_cell(cell, CellAsk::Cancel(task), Then::Nothing);
            }
        }
        if commit.converge {
            self.alarm(0);
        }
        if let Some(due) = commit.due {
            self.alarm(self.until(due));
        }
    }

    fn changed(&mut self, change: &Change) {
        self.note(|| told(change));
        if let Change::TaskRemoved { task } = change
            && matches!(task.state, TaskState::Pending | TaskState::Running { .. })
        {
            self.wrong.push(format!("task {} was removed before its end", task.task_guid));
        }
    }

    fn until(&self, due: Timestamp) -> u64 {
        due.since(self.wall()).as_nanos() as u64
    }

    /// A round of convergence no later than that.
    fn alarm(&mut self, after: u64) {
        let at = (self.now + after.min(30 * SECOND)).max(self.brain.last_round + PAUSE);
        if self.brain.alarm.is_none_or(|alarm| at < alarm) {
            self.brain.alarm = Some(at);
            self.at(at - self.now, Event::Converge { life: self.brain.life, at });
        }
    }

    pub fn converge(&mut self, life: u64, at: u64) {
        if life != self.brain.life || self.brain.alarm != Some(at) {
            return;
        }
        self.brain.alarm = None;
        self.brain.last_round = self.now;
        let wall = self.wall();
        let Some(brain) = &self.brain.brain else { return };
        let (remedies, next) = brain.converge(wall);
        let fresh = self.brain.fresh_until > wall;
        let (mut lrps, mut tasks, mut stops) = (Vec::new(), Vec::new(), Vec::new());
        for remedy in remedies {
            self.note(|| format!("remedy {remedy:?}"));
            match remedy {
                Remedy::Auction(slot) => lrps.push(slot),
                Remedy::AuctionTask(guid) => tasks.push(guid),
                Remedy::StopAgain(guid) => stops.push(guid),
                Remedy::CallBack(_) => {}
                change => {
                    if matches!(change, Remedy::Retire(_)) && !fresh {
                        self.wrong.push(format!("{change:?} while {DOMAIN} was stale"));
                    }
                    self.brain.inbox.push((None, BrainAsk::Do(Command::Remedy(change))));
                }
            }
        }
        self.write();
        self.request(lrps, tasks);
        stops.into_iter().for_each(|guid| self.see_off(guid, 0));
        let next = next.map_or(30 * SECOND, |next| self.until(next));
        self.alarm(next);
    }

    fn request(&mut self, lrps: Vec<Slot>, tasks: Vec<TaskGuid>) {
        for slot in lrps {
            self.brain.lrps.entry(slot).or_insert(0);
        }
        for guid in tasks {
            self.brain.tasks.entry(guid).or_insert(0);
        }
        self.poke_auction();
    }

    fn poke_auction(&mut self) {
        let waits = !self.brain.lrps.is_empty() || !self.brain.tasks.is_empty();
        if waits && !self.brain.poked && self.brain.round.is_none() {
            self.brain.poked = true;
            self.at(0, Event::Auction { life: self.brain.life });
        }
    }

    pub fn auction(&mut self, life: u64) {
        if life != self.brain.life {
            return;
        }
        self.brain.poked = false;
        let lrps = std::mem::take(&mut self.brain.lrps);
        let tasks = std::mem::take(&mut self.brain.tasks);
        let wall = self.wall();
        let Some(brain) = &self.brain.brain else { return };
        let work = brain.lot(lrps.keys(), tasks.keys());
        if work.lrps.is_empty() && work.tasks.is_empty() {
            return;
        }
        let present = brain.present(wall);
        let ids: Vec<_> = present.iter().filter(|cell| !cell.evacuating).collect();
        let places: Vec<usize> =
            ids.iter().filter_map(|cell| self.place_of(cell.cell_id.as_str())).collect();
        self.brain.rounds += 1;
        let number = self.brain.rounds;
        let (waiting, states) = (places.len(), Vec::new());
        self.brain.round =
            Some(Round { number, lrps, tasks, work, waiting, states, placed: false });
        for cell in places {
            self.ask_cell(cell, CellAsk::State, Then::State { life, round: number });
        }
        if waiting == 0 {
            self.place();
        }
    }

    pub fn told_state(&mut self, life: u64, number: u64, reply: Reply) {
        if life != self.brain.life {
            return;
        }
        let Some(round) = self.round(number).filter(|round| !round.placed) else { return };
        round.waiting -= 1;
        let mut first = false;
        if let Ok(Said::State(state)) = reply {
            first = round.states.is_empty();
            round.states.push(*state);
        }
        if round.waiting == 0 {
            self.place();
        } else if first {
            self.at(SECOND, Event::RoundOver { life, round: number, placed: false });
        }
    }

    fn round(&mut self, number: u64) -> Option<&mut Round> {
        self.brain.round.as_mut().filter(|round| round.number == number)
    }

    fn place(&mut self) {
        let life = self.brain.life;
        let Some(round) = &mut self.brain.round else { return };
        round.placed = true;
        let work = std::mem::take(&mut round.work);
        let outcome = auction::place(&round.states, work, &Weights::default());
        let number = round.number;
        round.waiting = outcome.placed.len();
        for (key, why) in outcome.failed_lrps {
            self.tell(Command::FailLrp(key, why));
        }
        for (guid, reason) in outcome.failed_tasks {
            self.tell(Command::RejectTask { guid, by: None, reason });
        }
        let handed = outcome.placed.len();
        for (cell, work) in outcome.placed {
            let Some(place) = self.place_of(cell.as_str()) else { continue };
            let lrps = work.lrps.iter().map(LrpStart::key).collect();
            let tasks = work.tasks.iter().map(|task| task.task_guid.clone()).collect();
            let then = Then::Performed { life, round: number, lrps, tasks };
            self.ask_cell(place, CellAsk::Perform(Arc::new(work)), then);
        }
        if handed == 0 {
            self.brain.round = None;
            self.poke_auction();
        } else {
            self.at(SECOND, Event::RoundOver { life, round: number, placed: true });
        }
    }

    /// Nobody waits for slow cells any longer.
    pub fn round_over(&mut self, life: u64, number: u64, placed: bool) {
        if life != self.brain.life {
            return;
        }
        match self.round(number) {
            Some(round) if round.placed && placed => {
                self.brain.round = None;
                self.poke_auction();
            }
            Some(round) if !round.placed && !placed => self.place(),
            _ => {}
        }
    }

    pub fn performed(
        &mut self,
        life: u64,
        number: u64,
        lrps: Vec<LrpKey>,
        tasks: Vec<TaskGuid>,
        reply: Reply,
    ) {
        if life != self.brain.life {
            return;
        }
        let (lrps, tasks) = match reply {
            Ok(Said::Refused(refused)) => (refused.lrps, refused.tasks),
            // Whether it acted is not known.
            _ => (lrps, tasks),
        };
        for key in lrps {
            let slot = (key.process_guid.clone(), key.index);
            let before = self.round(number).and_then(|round| round.lrps.get(&slot).copied());
            let attempts = before.unwrap_or(ATTEMPTS) + 1;
            if attempts < ATTEMPTS {
                self.brain.lrps.insert(slot, attempts);
            } else {
                self.tell(Command::FailLrp(key, "insufficient resources".to_owned()));
            }
        }
        for guid in tasks {
            let before = self.round(number).and_then(|round| round.tasks.get(&guid).copied());
            let attempts = before.unwrap_or(ATTEMPTS) + 1;
            if attempts < ATTEMPTS {
                self.brain.tasks.insert(guid, attempts);
            } else {
                let reason = "insufficient resources".to_owned();
                self.tell(Command::RejectTask { guid, by: None, reason });
            }
        }
        if let Some(round) = self.round(number) {
            round.waiting = round.waiting.saturating_sub(1);
            if round.waiting == 0 {
                self.brain.round = None;
            }
        }
        self.poke_auction();
    }

    pub fn see_off(&mut self, guid: InstanceGuid, tries: u32) {
        if tries == 0 && !self.brain.stopping.insert(guid.clone()) {
            return;
        }
        let going = self.brain.brain.as_ref().and_then(|brain| brain.retiring(&guid));
        let place = going.and_then(|(cell, _)| self.place_of(cell.as_str()));
        let Some(cell) = place.filter(|_| tries < STOPS) else {
            self.brain.stopping.remove(&guid);
            return;
        };
        let then = Then::Stopped { life: self.brain.life, guid: guid.clone(), tries };
        self.ask_cell(cell, CellAsk::Stop(guid), then);
    }

    pub fn told_stop(&mut self, life: u64, guid: InstanceGuid, tries: u32, reply: Reply) {
        if life != self.brain.life {
            return;
        }
        if reply.is_ok() {
            self.brain.stopping.remove(&guid);
        } else {
            let wait = (200 * MS) << tries.min(4);
            self.at(wait, Event::SeeOff { life, guid, tries: tries + 1 });
        }
    }
}

fn told(change: &Change) -> String {
    let lrp = |lrp: &diego::ActualLrp| {
        let by = lrp.instance().map(|by| format!(" {}@{}", by.instance_guid, by.cell_id));
        format!("{} {:?} {}{}", lrp.key, lrp.presence, lrp.state.name(), by.unwrap_or_default())
    };
    match change {
        Change::ActualLrpCreated { actual_lrp } => format!("+ {}", lrp(actual_lrp)),
        Change::ActualLrpChanged { before, after } => {
            format!("~ {} -> {}", lrp(before), lrp(after))
        }
        Change::ActualLrpRemoved { actual_lrp } => format!("- {}", lrp(actual_lrp)),
        Change::TaskCreated { task } => format!("+ task {}", task.task_guid),
        Change::TaskChanged { after, .. } => {
            format!("~ task {} {:?}", after.task_guid, after.state)
        }
        Change::TaskRemoved { task } => format!("- task {}", task.task_guid),
        Change::DesiredLrpCreated { desired_lrp } => {
            format!("+ desired {} {}", desired_lrp.process_guid, desired_lrp.instances)
        }
        Change::DesiredLrpChanged { after, .. } => {
            format!("~ desired {} {}", after.process_guid, after.instances)
        }
        Change::DesiredLrpRemoved { desired_lrp } => {
            format!("- desired {}", desired_lrp.process_guid)
        }
        other => format!("{other:?}"),
    }
}
