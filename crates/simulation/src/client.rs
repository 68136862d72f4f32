//! Whoever desires: it asks until it has an answer, and remembers what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bbs::simulation::Command;
use diego::action::{Action, RunAction};
use diego::bbs::ErrorKind;
use diego::desired_lrp::{DesiredLrpUpdate, RunInfo};
use diego::{BbsError, DesiredLrp, LrpKey, ProcessGuid, TaskDefinition, TaskGuid};

use crate::world::{BrainAsk, Event, MOST_INSTANCES, MS, Reply, SECOND, Then, World};

pub(crate) const DOMAIN: &str = "apps";
const PROCESSES: u64 = 4;
/// Of one process; all together are no more than the cells have room for.
const INSTANCES: u64 = MOST_INSTANCES as u64 / PROCESSES;
const TASKS: u64 = 25;
/// How long the domain stays fresh without another word.
const FRESH: Duration = Duration::from_secs(20);

/// One thing to have done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Fresh,
    Desire(ProcessGuid, u32, u64),
    Update(ProcessGuid, u32),
    Tag(ProcessGuid, u32),
    Remove(ProcessGuid),
    Retire(ProcessGuid, u32),
    Task(TaskGuid),
    Cancel(TaskGuid),
    Resolve(TaskGuid),
    Delete(TaskGuid),
}

/// A process as it was acknowledged last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub instances: u32,
    /// The version of its tags.
    pub tag: u32,
    /// Another one had its name before: an instance of that may have come back, and stays what it was.
    pub reused: bool,
}

#[derive(Default)]
pub(crate) struct Client {
    pub desired: BTreeMap<ProcessGuid, Wanted>,
    /// Processes of which something is asked just now: nobody knows how they stand.
    pub asking: BTreeSet<ProcessGuid>,
    pub acknowledged: BTreeSet<TaskGuid>,
    /// Tasks that somebody may have deleted.
    pub may_be_gone: BTreeSet<TaskGuid>,
    /// Ops that were tried before: the first try may have gone through.
    tried: Vec<Op>,
    removed: BTreeSet<ProcessGuid>,
    tasks: u64,
    tags: u32,
    last_fresh: u64,
}

impl World {
    pub fn client_turn(&mut self) {
        let silent = self.weather.client_silent_until > self.now;
        if !silent && self.now >= self.client.last_fresh + 5 * SECOND {
            self.client.last_fresh = self.now;
            self.client_send(Op::Fresh);
        }
        if !self.weather.calm {
            let op = self.some_op();
            if let Some(op) = op {
                self.client_send(op);
            }
        }
        let most = if self.weather.calm { 5 * SECOND } else { 2 * SECOND };
        let after = self.chance.range(50 * MS, most);
        self.at(after, Event::ClientTurn);
    }

    fn some_op(&mut self) -> Option<Op> {
        let process: ProcessGuid = format!("p{}", self.chance.range(0, PROCESSES)).into();
        let instances = self.chance.range(0, INSTANCES + 1) as u32;
        match self.chance.range(0, 10) {
            0..4 if self.client.asking.contains(&process) => None,
            0..4 => Some(match (self.client.desired.get(&process), self.chance.range(0, 6)) {
                (None, _) => {
                    // On cells without room to spare all must be of one size, or none would fit beside others.
                    let memory_mb = if self.tight { 100 } else { self.chance.range(6, 12) * 10 };
                    Op::Desire(process, instances, memory_mb)
                }
                (Some(_), 0) => Op::Remove(process),
                (Some(_), 1) => Op::Retire(process, instances),
                (Some(_), 2) => {
                    self.client.tags += 1;
                    Op::Tag(process, self.client.tags)
                }
                (Some(_), _) => Op::Update(process, instances),
            }),
            4..7 if self.client.tasks < TASKS => {
                self.client.tasks += 1;
                Some(Op::Task(format!("t{}", self.client.tasks).into()))
            }
            4..8 => {
                let known: Vec<_> = self.client.acknowledged.iter().cloned().collect();
                let task = self.chance.pick(&known)?.clone();
                Some(if self.chance.in_thousand(300) {
                    Op::Cancel(task)
                } else {
                    Op::Resolve(task)
                })
            }
            _ => None,
        }
    }

    pub fn client_send(&mut self, op: Op) {
        if let Some(process) = op.desires() {
            self.client.asking.insert(process.clone());
        }
        let command = match op.clone() {
            Op::Fresh => Command::UpsertDomain { domain: DOMAIN.into(), ttl: Some(FRESH) },
            Op::Desire(process, instances, memory_mb) => {
                Command::Desire(Box::new(lrp(process, instances, memory_mb)))
            }
            Op::Update(process, instances) => {
                let instances = Some(instances);
                Command::Update(process, DesiredLrpUpdate { instances, ..Default::default() })
            }
            Op::Tag(process, version) => {
                let metric_tags = Some(tags(version));
                Command::Update(process, DesiredLrpUpdate { metric_tags, ..Default::default() })
            }
            Op::Remove(process) => Command::RemoveDesired(process),
            Op::Retire(process_guid, index) => {
                Command::Retire(LrpKey { process_guid, index, domain: DOMAIN.into() })
            }
            Op::Task(guid) => {
                let definition = Box::new(TaskDefinition { run: run(150), ..Default::default() });
                Command::DesireTask { guid, domain: DOMAIN.into(), definition }
            }
            Op::Cancel(guid) => Command::CancelTask(guid),
            Op::Resolve(guid) => Command::ResolveTask(guid),
            Op::Delete(guid) => Command::DeleteTask(guid),
        };
        self.ask_brain(None, BrainAsk::Do(command), Then::Client(op));
    }

    pub fn client_heard(&mut self, op: Op, reply: Reply) {
        let passing =
            |error: &BbsError| matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Unknown);
        let tried = self.client.tried.iter().position(|before| *before == op);
        match &reply {
            Err(error) if passing(error) => {
                let once =
                    matches!(op, Op::Fresh | Op::Retire(..) | Op::Cancel(_) | Op::Resolve(_));
                if !once {
                    if tried.is_none() {
                        self.client.tried.push(op.clone());
                    }
                    self.at(300 * MS, Event::ClientSend(op));
                }
                return;
            }
            _ => {}
        }
        if let Some(at) = tried {
            self.client.tried.remove(at);
        }
        let refused = reply.as_ref().err().map(|error| error.kind);
        if op != Op::Fresh {
            self.note(|| format!("client: {op:?} {refused:?}"));
        }
        match (op, refused) {
            (Op::Desire(process, instances, _), None) => self.desired(process, instances),
            (Op::Desire(process, instances, _), Some(ErrorKind::ResourceExists))
                if tried.is_some() =>
            {
                self.desired(process, instances);
            }
            (Op::Update(process, instances), None) => {
                self.acknowledge(process, |wanted| wanted.instances = instances);
            }
            (Op::Tag(process, tag), None) => self.acknowledge(process, |wanted| wanted.tag = tag),
            (Op::Remove(process), None) => self.removed(&process),
            (Op::Remove(process), Some(ErrorKind::ResourceNotFound)) if tried.is_some() => {
                self.removed(&process);
            }
            (op @ (Op::Desire(..) | Op::Update(..) | Op::Tag(..) | Op::Remove(_)), Some(kind)) => {
                self.wrong.push(format!("{op:?} was refused as {kind:?}"));
            }
            (Op::Task(guid), None) => drop(self.client.acknowledged.insert(guid)),
            (Op::Task(guid), Some(ErrorKind::ResourceExists)) if tried.is_some() => {
                self.client.acknowledged.insert(guid);
            }
            (Op::Task(guid), Some(kind)) => {
                self.wrong.push(format!("task {guid} was refused as {kind:?}"));
            }
            (Op::Resolve(guid), None) => self.client_send(Op::Delete(guid)),
            _ => {}
        }
    }

    fn desired(&mut self, process: ProcessGuid, instances: u32) {
        self.client.asking.remove(&process);
        let reused = self.client.removed.contains(&process);
        self.client.desired.insert(process, Wanted { instances, tag: 0, reused });
    }

    fn removed(&mut self, process: &ProcessGuid) {
        self.client.asking.remove(process);
        self.client.desired.remove(process);
        self.client.removed.insert(process.clone());
    }

    fn acknowledge(&mut self, process: ProcessGuid, change: impl FnOnce(&mut Wanted)) {
        self.client.asking.remove(&process);
        change(self.client.desired.entry(process).or_default());
    }
}

impl Op {
    /// The process of which it changes what is desired.
    fn desires(&self) -> Option<&ProcessGuid> {
        match self {
            Op::Desire(process, ..)
            | Op::Update(process, _)
            | Op::Tag(process, _)
            | Op::Remove(process) => Some(process),
            _ => None,
        }
    }
}

/// The tags of one version; the first has none.
pub(crate) fn tags(version: u32) -> BTreeMap<String, String> {
    (version > 0).then(|| ("version".to_owned(), version.to_string())).into_iter().collect()
}

fn run(memory_mb: u64) -> RunInfo {
    let action =
        RunAction { path: "/bin/true".to_owned(), user: "vcap".to_owned(), ..RunAction::default() };
    RunInfo {
        rootfs: "preloaded:base".to_owned(),
        action: Some(Action::Run(action)),
        memory_mb,
        disk_mb: 10,
        ..RunInfo::default()
    }
}

fn lrp(process: ProcessGuid, instances: u32, memory_mb: u64) -> DesiredLrp {
    DesiredLrp {
        process_guid: process,
        domain: DOMAIN.into(),
        instances,
        run: run(memory_mb),
        routes: BTreeMap::new(),
        annotation: String::new(),
        metric_tags: BTreeMap::new(),
        modification_tag: Default::default(),
    }
}
