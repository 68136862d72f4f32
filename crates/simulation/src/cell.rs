//! A cell, played: containers that run nothing, announced, compared and evacuated as the real one does it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use diego::bbs::{ActualLrpFilter, ErrorKind, Evacuation, TaskFilter};
use diego::cell::{LrpHeld, Refused, Resources, TaskHeld};
use diego::desired_lrp::RunInfo;
use diego::sim::SimCell;
use diego::{
    ActualLrp, BbsError, CellPresence, CellState, InstanceGuid, InstanceKey, LrpKey, NetInfo,
    Presence, ProcessGuid, TaskGuid, Work,
};
use executor::{LogTags, Outcome, State};
use rep::simulation::{judged, lrp, lrp_view, task, task_view};

use bbs::simulation::Command;

use crate::lane::{Lane, Seen};
use crate::world::{BrainAsk, CellAsk, Event, MS, Reply, SECOND, Said, Then, World};

const TTL: Duration = Duration::from_secs(15);
/// Reserved and not begun.
pub(crate) const RESERVATION: u64 = 60 * SECOND;
/// What found no other place by then is stopped.
const EVACUATION: u64 = 90 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    Evacuating { until: u64 },
}

#[derive(Clone, Debug)]
pub(crate) enum Owner {
    Lrp(LrpKey, InstanceGuid),
    /// With how often it was rejected before.
    Task(TaskGuid, u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub owner: Owner,
    pub state: State,
    pub resources: Resources,
    /// What to run is known in this life of the cell.
    pub work: bool,
    /// Its recipe is on the cell's disk.
    pub begun: bool,
    /// How often the run of its task was asked for in this life of the cell.
    pub asks: u32,
    /// What its log lines carry.
    pub tags: LogTags,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Create,
    Run,
    End,
    Stopped,
    Expire,
}

pub(crate) struct CellSim {
    pub up: bool,
    pub life: u64,
    pub mode: Mode,
    pub presence: CellPresence,
    pub containers: BTreeMap<String, Container>,
    pub seen: BTreeMap<String, Seen>,
    pub lanes: BTreeMap<String, Lane>,
    /// No message passes until then.
    pub cut_until: u64,
    instances: u64,
}

impl CellSim {
    pub fn new(number: usize, memory_mb: u64) -> CellSim {
        let capacity = Resources { memory_mb, disk_mb: 10_000, containers: 12 };
        CellSim {
            up: false,
            life: 0,
            mode: Mode::Open,
            presence: SimCell::presence(
                &format!("cell-{number}"),
                &format!("z{}", number % 2),
                capacity,
            ),
            containers: BTreeMap::new(),
            seen: BTreeMap::new(),
            lanes: BTreeMap::new(),
            cut_until: 0,
            instances: 0,
        }
    }

    pub fn used(&self) -> Resources {
        let held = self.containers.values().map(|container| &container.resources);
        held.fold(Resources::default(), |sum, one| Resources {
            memory_mb: sum.memory_mb + one.memory_mb,
            disk_mb: sum.disk_mb + one.disk_mb,
            containers: sum.containers + one.containers,
        })
    }

    pub fn available(&self) -> Resources {
        let (total, used) = (self.presence.capacity, self.used());
        Resources {
            memory_mb: total.memory_mb.saturating_sub(used.memory_mb),
            disk_mb: total.disk_mb.saturating_sub(used.disk_mb),
            containers: total.containers.saturating_sub(used.containers),
        }
    }

    fn state(&self) -> CellState {
        let (mut lrps, mut tasks, mut starting) = (Vec::new(), Vec::new(), 0);
        for container in self.containers.values() {
            let resources = container.resources;
            starting += u32::from(matches!(
                container.state,
                State::Reserved | State::Initializing | State::Created
            ));
            match &container.owner {
                Owner::Lrp(key, guid) => {
                    lrps.push(LrpHeld { key: key.clone(), instance_guid: guid.clone(), resources })
                }
                Owner::Task(guid, _) => tasks.push(TaskHeld { task_guid: guid.clone(), resources }),
            }
        }
        let (presence, available) = (self.presence.clone(), self.available());
        CellState { presence, available, lrps, tasks, starting, layers: Vec::new() }
    }

    pub fn instance(&self, guid: &InstanceGuid) -> InstanceKey {
        InstanceKey { instance_guid: guid.clone(), cell_id: self.presence.cell_id.clone() }
    }
}

impl World {
    pub fn place_of(&self, id: &str) -> Option<usize> {
        self.cells.iter().position(|cell| cell.presence.cell_id.as_str() == id)
    }

    /// The cell begins, with what its disk and its host kept.
    pub fn cell_up(&mut self, cell: usize) {
        let it = &mut self.cells[cell];
        (it.up, it.mode, it.presence.evacuating) = (true, Mode::Open, false);
        let life = it.life;
        let going: Vec<_> = it
            .containers
            .iter()
            .filter_map(|(handle, container)| {
                let stage = match (&container.state, &container.owner) {
                    (State::Initializing, _) => Stage::Create,
                    (State::Created, _) => Stage::Run,
                    (State::Running { .. }, Owner::Task(..)) => Stage::End,
                    _ => return None,
                };
                Some((handle.clone(), stage))
            })
            .collect();
        self.note(|| format!("cell-{cell} begins"));
        for (handle, stage) in going {
            let after = self.chance.range(5 * MS, 2 * SECOND);
            self.at(after, Event::Progress { cell, life, handle, stage });
        }
        self.poke_all(cell);
        self.announce(cell, life);
        self.at(0, Event::Compare { cell, life });
    }

    /// The program ends and leaves containers running.
    pub fn cell_down(&mut self, cell: usize, down: u64) {
        let it = &mut self.cells[cell];
        it.up = false;
        it.life += 1;
        it.lanes.clear();
        it.seen.clear();
        it.containers.retain(|_, container| container.begun);
        it.containers.values_mut().for_each(|container| container.work = false);
        let life = it.life;
        self.at(down, Event::CellUp { cell, life });
    }

    /// The whole machine goes down: nothing runs on.
    pub fn machine_down(&mut self, cell: usize, wiped: bool, down: u64) {
        self.cell_down(cell, down);
        let it = &mut self.cells[cell];
        if wiped {
            it.containers.clear();
        }
        for container in it.containers.values_mut() {
            if matches!(container.state, State::Created | State::Running { .. }) {
                container.state = State::Completed(failed("missing garden container"));
            }
        }
    }

    pub fn announce(&mut self, cell: usize, life: u64) {
        let it = &self.cells[cell];
        if it.up && it.life == life {
            let ask = BrainAsk::Announce(it.presence.clone(), TTL);
            self.ask_brain(Some(cell), ask, Then::Announced { cell, life });
        }
    }

    pub fn cell_asked(&mut self, call: u64, cell: usize, ask: CellAsk) {
        if !self.cells[cell].up {
            return;
        }
        let said = match ask {
            CellAsk::State => Said::State(Box::new(self.cells[cell].state())),
            CellAsk::Perform(work) => Said::Refused(self.perform(cell, &work)),
            CellAsk::Stop(guid) => {
                self.stop_container(cell, guid.as_str());
                Said::Done
            }
            CellAsk::Update(guid, update) => {
                if let Some(held) = self.cells[cell].containers.get_mut(guid.as_str()) {
                    let tags = update.metric_tags;
                    held.tags.replace(LogTags { tags, version: update.modification_tag });
                }
                Said::Done
            }
            CellAsk::Cancel(guid) => {
                self.stop_container(cell, guid.as_str());
                Said::Done
            }
        };
        self.answer(call, Some(cell), Ok(said));
    }

    fn perform(&mut self, cell: usize, work: &Arc<Work>) -> Refused {
        let mut refused = Refused::default();
        for start in &work.lrps {
            let it = &mut self.cells[cell];
            it.instances += 1;
            let handle = format!("i{}-{}-{}", cell, it.instances, start.key());
            let owner = Owner::Lrp(start.key(), handle.as_str().into());
            let tags = LogTags {
                tags: start.desired.metric_tags.clone(),
                version: start.desired.modification_tag.clone(),
            };
            if !self.reserve(cell, handle, owner, &start.desired.run, tags) {
                refused.lrps.push(start.key());
            }
        }
        for task in &work.tasks {
            let handle = task.task_guid.to_string();
            let owner = Owner::Task(task.task_guid.clone(), task.rejection_count);
            let known = self.cells[cell].containers.contains_key(&handle);
            let (run, tags) = (&task.definition.run, LogTags::default());
            if !known && !self.reserve(cell, handle, owner, run, tags) {
                refused.tasks.push(task.task_guid.clone());
            }
        }
        refused
    }

    fn reserve(
        &mut self,
        cell: usize,
        handle: String,
        owner: Owner,
        run: &RunInfo,
        tags: LogTags,
    ) -> bool {
        let it = &mut self.cells[cell];
        let (wanted, free) = (Resources::of(run), it.available());
        let fits = wanted.memory_mb <= free.memory_mb
            && wanted.disk_mb <= free.disk_mb
            && wanted.containers <= free.containers;
        if it.mode != Mode::Open || !fits {
            return false;
        }
        let container = Container {
            owner,
            state: State::Reserved,
            resources: wanted,
            work: true,
            begun: false,
            asks: 0,
            tags,
        };
        it.containers.insert(handle.clone(), container);
        let life = it.life;
        self.check_room(cell);
        self.note(|| format!("cell-{cell} reserves {handle}"));
        self.at(
            RESERVATION,
            Event::Progress { cell, life, handle: handle.clone(), stage: Stage::Expire },
        );
        self.poke(cell, &handle);
        true
    }

    pub fn begin(&mut self, cell: usize, handle: &str) {
        let after = self.chance.range(3 * MS, 300 * MS);
        let life = self.cells[cell].life;
        let Some(container) = self.cells[cell].containers.get_mut(handle) else { return };
        if !std::mem::take(&mut container.work) {
            return;
        }
        if container.state == State::Reserved {
            (container.begun, container.state) = (true, State::Initializing);
            let handle = handle.to_owned();
            self.at(
                after,
                Event::Progress { cell, life, handle: handle.clone(), stage: Stage::Create },
            );
            self.poke(cell, &handle);
        }
    }

    pub fn stop_container(&mut self, cell: usize, handle: &str) {
        let after = self.chance.range(5 * MS, 500 * MS);
        let life = self.cells[cell].life;
        let Some(container) = self.cells[cell].containers.get_mut(handle) else { return };
        if container.begun {
            let handle = handle.to_owned();
            self.at(after, Event::Progress { cell, life, handle, stage: Stage::Stopped });
        } else if container.state == State::Reserved {
            container.state = State::Completed(stopped());
            self.poke(cell, handle);
        }
    }

    pub fn progress(&mut self, cell: usize, life: u64, handle: &str, stage: Stage) {
        if self.cells[cell].life != life {
            return;
        }
        let calm = self.weather.calm;
        let breaks = !calm && self.chance.in_thousand(30);
        let Some(container) = self.cells[cell].containers.get_mut(handle) else { return };
        let next = match (stage, &container.state) {
            (Stage::Expire, State::Reserved) => State::Completed(failed("expired container")),
            (Stage::Create, State::Initializing) if breaks => {
                let outcome = failed("failed to create container");
                State::Completed(Outcome { retryable: true, ..outcome })
            }
            (Stage::Create, State::Initializing) => State::Created,
            (Stage::Run, State::Created) => State::Running { net: net(cell), routable: true },
            (Stage::End, State::Running { .. }) => State::Completed(Outcome::default()),
            (Stage::Stopped, State::Initializing | State::Created | State::Running { .. }) => {
                State::Completed(stopped())
            }
            _ => return,
        };
        container.state = next.clone();
        let owner = container.owner.clone();
        self.note(|| format!("cell-{cell} {handle} is {}", next.name()));
        let (again, most) = match (&next, &owner) {
            (State::Created, _) => (Some(Stage::Run), 300 * MS),
            (State::Running { .. }, Owner::Task(guid, _)) => {
                self.starts += 1;
                let runs = self.runs.entry(guid.clone()).or_default();
                *runs += 1;
                if *runs > 1 {
                    self.wrong.push(format!("task {guid} runs a second time, on cell-{cell}"));
                }
                (Some(Stage::End), 10 * SECOND)
            }
            (State::Running { .. }, _) => {
                self.starts += 1;
                (None, 0)
            }
            _ => (None, 0),
        };
        if let Some(stage) = again {
            let after = self.chance.range(MS, most);
            self.at(after, Event::Progress { cell, life, handle: handle.to_owned(), stage });
        }
        self.poke(cell, handle);
    }

    /// The brain's records of this cell, then what it knows of the cell's containers elsewhere, then tasks.
    pub fn compare(&mut self, cell: usize, life: u64) {
        if !self.cells[cell].up || self.cells[cell].life != life {
            return;
        }
        let cell_id = Some(self.cells[cell].presence.cell_id.clone());
        let filter = ActualLrpFilter { cell_id: cell_id.clone(), ..ActualLrpFilter::default() };
        self.ask_brain(Some(cell), BrainAsk::Lrps(filter), Then::Compared { cell, life });
        let filter = TaskFilter { cell_id, ..TaskFilter::default() };
        self.ask_brain(Some(cell), BrainAsk::Tasks(filter), Then::ComparedTasks { cell, life });
        self.at(30 * SECOND, Event::Compare { cell, life });
    }

    pub fn compared(&mut self, cell: usize, life: u64, reply: Reply) {
        let (true, Ok(Said::Lrps(records))) = (self.cells[cell].life == life, reply) else {
            return;
        };
        for record in &records {
            self.settle_missing(cell, record);
        }
        let known: BTreeSet<&LrpKey> = records.iter().map(|record| &record.key).collect();
        let held = self.cells[cell].containers.values();
        let elsewhere: BTreeSet<ProcessGuid> = held
            .filter_map(|container| match &container.owner {
                Owner::Lrp(key, _) if !known.contains(key) => Some(key.process_guid.clone()),
                _ => None,
            })
            .collect();
        if elsewhere.is_empty() {
            return self.note_lrps(cell, &records);
        }
        let process_guids = Some(elsewhere.into_iter().collect());
        let filter = ActualLrpFilter { process_guids, ..ActualLrpFilter::default() };
        self.ask_brain(
            Some(cell),
            BrainAsk::Lrps(filter),
            Then::ComparedMore { cell, life, records },
        );
    }

    pub fn compared_more(
        &mut self,
        cell: usize,
        life: u64,
        mut records: Vec<ActualLrp>,
        reply: Reply,
    ) {
        if let (true, Ok(Said::Lrps(more))) = (self.cells[cell].life == life, reply) {
            records.extend(more);
            self.note_lrps(cell, &records);
        }
    }

    fn settle_missing(&mut self, cell: usize, record: &ActualLrp) {
        let it = &self.cells[cell];
        let cell_id = &it.presence.cell_id;
        let Some(by) = record.instance().filter(|by| by.cell_id == *cell_id) else { return };
        if it.containers.contains_key(by.instance_guid.as_str()) {
            return;
        }
        if lrp::missing(&lrp_view(Some(record), cell_id, &by.instance_guid)).is_empty() {
            return;
        }
        let (key, by) = (record.key.clone(), by.clone());
        let command = match record.presence {
            Presence::Evacuating => Command::Evacuate(key, by, Evacuation::Stopped),
            Presence::Ordinary | Presence::Suspect => Command::Remove(key, by),
        };
        self.ask_brain(Some(cell), BrainAsk::Do(command), Then::Nothing);
    }

    fn note_lrps(&mut self, cell: usize, records: &[ActualLrp]) {
        let it = &self.cells[cell];
        let cell_id = it.presence.cell_id.clone();
        let found: Vec<_> = it
            .containers
            .iter()
            .filter_map(|(handle, container)| match &container.owner {
                Owner::Lrp(key, guid) => {
                    let view = judged(records, key, &cell_id, guid);
                    let idle = lrp::lrp_step(&container.state, "", &view).is_empty();
                    (!idle).then(|| (handle.clone(), view))
                }
                Owner::Task(..) => None,
            })
            .collect();
        for (handle, view) in found {
            self.cells[cell].seen.insert(handle.clone(), Seen::Lrp(view));
            self.poke(cell, &handle);
        }
    }

    pub fn compared_tasks(&mut self, cell: usize, life: u64, reply: Reply) {
        let (true, Ok(Said::Tasks(records))) = (self.cells[cell].life == life, reply) else {
            return;
        };
        let cell_id = self.cells[cell].presence.cell_id.clone();
        let mut here = BTreeSet::new();
        for record in &records {
            let view = task_view(Some(record), &cell_id);
            here.insert(record.task_guid.to_string());
            if self.cells[cell].containers.contains_key(record.task_guid.as_str()) {
                self.note_task(cell, record.task_guid.as_str(), view);
            } else if task::is_missing(view) {
                let command = Command::CompleteTask {
                    guid: record.task_guid.clone(),
                    by: record.attempt_by(cell_id.clone()),
                    failure: Some("task container does not exist".to_owned()),
                    result: String::new(),
                };
                self.ask_brain(Some(cell), BrainAsk::Do(command), Then::Nothing);
            }
        }
        let others: Vec<TaskGuid> = self.cells[cell]
            .containers
            .iter()
            .filter_map(|(handle, container)| match &container.owner {
                Owner::Task(guid, _) if !here.contains(handle) => Some(guid.clone()),
                _ => None,
            })
            .collect();
        for task in others {
            let then = Then::ComparedTask { cell, life, task: task.clone() };
            self.ask_brain(Some(cell), BrainAsk::Task(task), then);
        }
    }

    pub fn compared_task(&mut self, cell: usize, life: u64, task: &TaskGuid, reply: Reply) {
        if self.cells[cell].life != life {
            return;
        }
        let cell_id = self.cells[cell].presence.cell_id.clone();
        let view = match reply {
            Ok(Said::Task(record)) => task_view(Some(&record), &cell_id),
            Err(BbsError { kind: ErrorKind::ResourceNotFound, .. }) => task::View::None,
            _ => return,
        };
        self.note_task(cell, task.as_str(), view);
    }

    fn note_task(&mut self, cell: usize, handle: &str, view: task::View) {
        let Some(container) = self.cells[cell].containers.get(handle) else { return };
        if !task::task_step(&container.state, view).is_empty() {
            self.cells[cell].seen.insert(handle.to_owned(), Seen::Task(view));
            self.poke(cell, handle);
        }
    }

    /// The cell is told to go; it comes back empty some time after.
    pub fn evacuate(&mut self, cell: usize) {
        let until = self.now + EVACUATION;
        let it = &mut self.cells[cell];
        if !it.up || it.mode != Mode::Open {
            return;
        }
        (it.mode, it.presence.evacuating) = (Mode::Evacuating { until }, true);
        let life = it.life;
        self.note(|| format!("cell-{cell} evacuates"));
        let presence = self.cells[cell].presence.clone();
        self.ask_brain(Some(cell), BrainAsk::Announce(presence, TTL), Then::Nothing);
        self.evacuate_more(cell, life);
    }

    pub fn evacuate_more(&mut self, cell: usize, life: u64) {
        let it = &self.cells[cell];
        let Mode::Evacuating { until } = it.mode else { return };
        if it.life != life || !it.up {
            return;
        }
        if it.containers.is_empty() {
            let command = Command::Retract(it.presence.cell_id.clone());
            self.ask_brain(Some(cell), BrainAsk::Do(command), Then::Nothing);
            let down = self.chance.range(SECOND, 40 * SECOND);
            return self.cell_down(cell, down);
        }
        if until <= self.now {
            let all: Vec<_> = it.containers.keys().cloned().collect();
            all.iter().for_each(|handle| self.stop_container(cell, handle));
        }
        self.poke_all(cell);
        self.at(10 * SECOND, Event::Evacuate { cell, life });
    }

    pub fn poke_all(&mut self, cell: usize) {
        let all: Vec<_> = self.cells[cell].containers.keys().cloned().collect();
        all.iter().for_each(|handle| self.poke(cell, handle));
    }
}

pub(crate) fn failed(reason: &str) -> Outcome {
    Outcome { failed: true, reason: reason.to_owned(), stopped: false, retryable: false }
}

fn stopped() -> Outcome {
    Outcome { stopped: true, ..failed("stopped") }
}

fn net(cell: usize) -> NetInfo {
    let last = u8::try_from(cell).unwrap_or(u8::MAX);
    NetInfo {
        address: [10, 0, 0, last].into(),
        instance_address: [10, 1, 0, last].into(),
        ports: Vec::new(),
    }
}
