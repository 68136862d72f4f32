//! Containers that are remembered and nothing more: no user code runs. A test says what processes print and how they end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use base::Clock;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};

use crate::{
    Capacity, ContainerInfo, ContainerSpec, Exit, Garden, GardenError, Handle, Metrics, Output,
    PortMapping, Process, ProcessId, ProcessSignal, ProcessSpec, Result, Stream, Tar,
};

/// What a process does.
#[derive(Clone, Debug, Default)]
pub struct Play {
    pub output: Vec<(Stream, String)>,
    pub end: End,
}

/// When and how it ends.
#[derive(Clone, Debug, Default)]
pub enum End {
    /// When it has said all.
    At(Exit),
    /// By the first signal, or by [`FakeGarden::finish`].
    #[default]
    WhenTold,
    /// As [`End::WhenTold`], but only SIGKILL ends it.
    WhenKilled,
    /// It does not even start.
    Never(NoStart),
}

/// Why a process does not start.
#[derive(Clone, Copy, Debug)]
pub enum NoStart {
    NoProgram,
    NoUser,
}

/// The calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Create,
    Destroy,
    Run,
    StreamIn,
    StreamOut,
    Metrics,
}

type Script = Box<dyn Fn(&Handle, &ProcessSpec) -> Play + Send + Sync>;

/// See the module. Clones share everything, as a restarted program shares its host's containers.
#[derive(Clone)]
pub struct FakeGarden(Arc<Shared>);

struct Shared {
    script: Script,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    capacity: Capacity,
    containers: BTreeMap<Handle, Container>,
    failures: HashMap<Call, VecDeque<GardenError>>,
    made: u32,
    next_port: u16,
}

struct Container {
    spec: ContainerSpec,
    info: ContainerInfo,
    processes: BTreeMap<ProcessId, Acting>,
    files: HashMap<String, Bytes>,
    metrics: Metrics,
}

struct Acting {
    spec: ProcessSpec,
    end: End,
    pieces: watch::Sender<Vec<Output>>,
    exit: watch::Sender<Option<Exit>>,
}

impl FakeGarden {
    /// Every process does what `script` says.
    pub fn new(
        clock: Clock,
        script: impl Fn(&Handle, &ProcessSpec) -> Play + Send + Sync + 'static,
    ) -> FakeGarden {
        let capacity = Capacity { memory_mb: 16_384, disk_mb: 65_536, containers: 250 };
        let state = Mutex::new(State { capacity, next_port: 61_000, ..State::default() });
        FakeGarden(Arc::new(Shared { script: Box::new(script), clock, state }))
    }

    pub fn set_capacity(&self, capacity: Capacity) {
        self.0.state.lock().capacity = capacity;
    }

    /// The next such call fails so; several wait in line.
    pub fn fail(&self, call: Call, error: GardenError) {
        self.0.state.lock().failures.entry(call).or_default().push_back(error);
    }

    /// Lets a running process say something.
    pub fn say(&self, handle: &Handle, process: &ProcessId, stream: Stream, text: &str) {
        if let Some(acting) = self.0.state.lock().acting(handle, process) {
            acting.say(stream, text);
        }
    }

    /// Ends a process.
    pub fn finish(&self, handle: &Handle, process: &ProcessId, exit: Exit) {
        if let Some(acting) = self.0.state.lock().acting(handle, process) {
            acting.end(exit);
        }
    }

    pub fn set_metrics(&self, handle: &Handle, metrics: Metrics) {
        if let Some(container) = self.0.state.lock().containers.get_mut(handle) {
            container.metrics = metrics;
        }
    }

    /// What a container was made from.
    pub fn spec(&self, handle: &Handle) -> Option<ContainerSpec> {
        self.0.state.lock().containers.get(handle).map(|container| container.spec.clone())
    }

    /// What was run in it.
    pub fn ran(&self, handle: &Handle) -> Vec<ProcessSpec> {
        let state = self.0.state.lock();
        let processes = state.containers.get(handle).map(|container| container.processes.values());
        processes.into_iter().flatten().map(|acting| acting.spec.clone()).collect()
    }

    fn fails(&self, call: Call) -> Result<()> {
        let next = self.0.state.lock().failures.get_mut(&call).and_then(VecDeque::pop_front);
        next.map_or(Ok(()), Err)
    }
}

impl State {
    fn container(&mut self, handle: &Handle) -> Result<&mut Container> {
        self.containers.get_mut(handle).ok_or_else(|| GardenError::UnknownContainer(handle.clone()))
    }

    fn acting(&mut self, handle: &Handle, process: &ProcessId) -> Option<&mut Acting> {
        self.containers.get_mut(handle)?.processes.get_mut(process)
    }
}

impl Container {
    fn process(&self, handle: &Handle, process: &ProcessId) -> Result<&Acting> {
        self.processes
            .get(process)
            .ok_or_else(|| GardenError::UnknownProcess(process.clone(), handle.clone()))
    }
}

impl Acting {
    fn begin(spec: &ProcessSpec, play: Play) -> Acting {
        let (pieces, exit) = (watch::Sender::new(Vec::new()), watch::Sender::new(None));
        let acting = Acting { spec: spec.clone(), end: play.end, pieces, exit };
        play.output.iter().for_each(|(stream, text)| acting.say(*stream, text));
        if let End::At(exit) = &acting.end {
            acting.end(exit.clone());
        }
        acting
    }

    fn say(&self, stream: Stream, text: &str) {
        if self.exit.borrow().is_some() || text.is_empty() {
            return;
        }
        self.pieces.send_modify(|pieces| {
            let end = pieces.last().map_or(0, |piece| piece.end) + text.len() as u64;
            pieces.push(Output {
                stream,
                data: Bytes::copy_from_slice(text.as_bytes()),
                end,
                lost: 0,
            });
        });
    }

    fn end(&self, exit: Exit) {
        self.exit.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(exit);
            first
        });
        // Readers look again.
        self.pieces.send_modify(|_| ());
    }

    fn signal(&self, signal: ProcessSignal) {
        match (signal, &self.end) {
            (ProcessSignal::Kill, _) => self.end(Exit::Signal(9)),
            (ProcessSignal::Terminate, End::WhenKilled) => {}
            (ProcessSignal::Terminate, _) => self.end(Exit::Signal(15)),
        }
    }

    fn follow(&self, id: ProcessId, from: u64) -> Process {
        let (output, receiver) = mpsc::channel(16);
        let (mut pieces, exit) = (self.pieces.subscribe(), self.exit.subscribe());
        let ended = exit.clone();
        tokio::spawn(async move {
            let mut position = from;
            loop {
                let done = ended.borrow().is_some();
                let next =
                    pieces.borrow_and_update().iter().find(|piece| piece.end > position).cloned();
                match next {
                    Some(mut piece) => {
                        let begin = piece.end - piece.data.len() as u64;
                        piece.data = piece.data.slice(position.saturating_sub(begin) as usize..);
                        position = piece.end;
                        if output.send(piece).await.is_err() {
                            return;
                        }
                    }
                    None if done => return,
                    None => {
                        if pieces.changed().await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Process { id, output: receiver, exit }
    }
}

#[async_trait]
impl Garden for FakeGarden {
    async fn capacity(&self) -> Result<Capacity> {
        Ok(self.0.state.lock().capacity)
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        self.fails(Call::Create)?;
        let mut state = self.0.state.lock();
        let handle = spec.handle.clone().unwrap_or_else(Handle::random);
        if state.containers.contains_key(&handle) {
            return Err(GardenError::HandleTaken(handle));
        }
        if state.containers.len() as u64 >= state.capacity.containers {
            return Err(GardenError::Exhausted("containers"));
        }
        state.made += 1;
        let mut port = |asked: &u16| {
            state.next_port += 1;
            PortMapping { asked_port: *asked, container_port: *asked, host_port: state.next_port }
        };
        let ports = spec.ports.iter().map(&mut port).collect();
        let info = ContainerInfo {
            handle: handle.clone(),
            host_ip: Ipv4Addr::LOCALHOST,
            container_ip: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 254, 0, 1)) + state.made),
            ports,
            properties: spec.properties.clone(),
            processes: Vec::new(),
            created_at: self.0.clock.now(),
        };
        let (processes, files, metrics) = (BTreeMap::new(), HashMap::new(), Metrics::default());
        state
            .containers
            .insert(handle, Container { spec, info: info.clone(), processes, files, metrics });
        Ok(info)
    }

    async fn destroy(&self, handle: &Handle) -> Result<()> {
        self.fails(Call::Destroy)?;
        self.0.state.lock().containers.remove(handle);
        Ok(())
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        Ok(self.0.state.lock().containers.values().map(info).collect())
    }

    async fn info(&self, handle: &Handle) -> Result<ContainerInfo> {
        Ok(info(self.0.state.lock().container(handle)?))
    }

    async fn run(&self, handle: &Handle, spec: ProcessSpec) -> Result<Process> {
        self.fails(Call::Run)?;
        let mut state = self.0.state.lock();
        let container = state.container(handle)?;
        let id = spec.id.clone().unwrap_or_else(ProcessId::random);
        if container.processes.contains_key(&id) {
            return Err(GardenError::failed(
                "naming a process",
                format!("process {id} exists already"),
            ));
        }
        let play = (self.0.script)(handle, &spec);
        match play.end {
            End::Never(NoStart::NoProgram) => {
                return Err(GardenError::ExecutableNotFound(spec.path));
            }
            End::Never(NoStart::NoUser) => return Err(GardenError::UnknownUser(spec.user)),
            _ => {}
        }
        let acting = Acting::begin(&spec, play);
        let process = acting.follow(id.clone(), 0);
        container.processes.insert(id, acting);
        Ok(process)
    }

    async fn attach(&self, handle: &Handle, process: &ProcessId, from: u64) -> Result<Process> {
        let mut state = self.0.state.lock();
        Ok(state.container(handle)?.process(handle, process)?.follow(process.clone(), from))
    }

    async fn signal(
        &self,
        handle: &Handle,
        process: &ProcessId,
        signal: ProcessSignal,
    ) -> Result<()> {
        self.0.state.lock().container(handle)?.process(handle, process)?.signal(signal);
        Ok(())
    }

    async fn stop(&self, handle: &Handle, kill: bool) -> Result<()> {
        let mut state = self.0.state.lock();
        for acting in state.container(handle)?.processes.values() {
            acting.signal(if kill { ProcessSignal::Kill } else { ProcessSignal::Terminate });
            // What ignores the first signal has its 10 s behind it: the fake's time is not spent in waiting.
            acting.signal(ProcessSignal::Kill);
        }
        Ok(())
    }

    async fn stream_in(
        &self,
        handle: &Handle,
        path: &str,
        _user: &str,
        mut tar: Tar,
    ) -> Result<()> {
        self.fails(Call::StreamIn)?;
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes)
            .await
            .map_err(|error| GardenError::failed("reading the archive", error))?;
        self.0.state.lock().container(handle)?.files.insert(path.into(), bytes.into());
        Ok(())
    }

    /// What was streamed in at the same path.
    async fn stream_out(&self, handle: &Handle, path: &str, _user: &str) -> Result<Tar> {
        self.fails(Call::StreamOut)?;
        let found = self.0.state.lock().container(handle)?.files.get(path).cloned();
        let bytes = found.ok_or_else(|| GardenError::FileNotFound(path.into()))?;
        Ok(Box::pin(std::io::Cursor::new(bytes)))
    }

    async fn metrics(&self, handle: &Handle) -> Result<Metrics> {
        self.fails(Call::Metrics)?;
        Ok(self.0.state.lock().container(handle)?.metrics)
    }

    async fn set_property(&self, handle: &Handle, key: &str, value: &str) -> Result<()> {
        self.0.state.lock().container(handle)?.info.properties.insert(key.into(), value.into());
        Ok(())
    }
}

fn info(container: &Container) -> ContainerInfo {
    ContainerInfo {
        processes: container.processes.keys().cloned().collect(),
        ..container.info.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    fn garden() -> FakeGarden {
        FakeGarden::new(Clock::system(), |_, spec| {
            let say = |stream, text: &str| (stream, text.to_owned());
            match spec.args.get(1).map(String::as_str) {
                Some(contract::SPEAK) => {
                    let output = vec![
                        say(Stream::Stdout, "one\n"),
                        say(Stream::Stderr, "two\n"),
                        say(Stream::Stdout, "three\n"),
                    ];
                    Play { output, end: End::At(Exit::Status(7)) }
                }
                Some(contract::WAIT) => {
                    Play { output: vec![say(Stream::Stdout, "ready\n")], end: End::WhenTold }
                }
                Some(contract::STUBBORN) => {
                    Play { output: vec![say(Stream::Stdout, "ready\n")], end: End::WhenKilled }
                }
                _ => Play { output: Vec::new(), end: End::Never(NoStart::NoProgram) },
            }
        })
    }

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        contract::life(&garden(), &contract::Fixture::default()).await;
    }

    #[tokio::test]
    async fn a_test_directs_it() {
        let garden = garden();
        let handle = Handle::from("one");
        garden.fail(Call::Create, GardenError::Exhausted("patience"));
        let spec = ContainerSpec { handle: Some(handle.clone()), ..ContainerSpec::default() };
        assert!(matches!(
            garden.create(spec.clone()).await,
            Err(GardenError::Exhausted("patience"))
        ));
        garden.create(spec).await.unwrap();
        let mut process = garden.run(&handle, contract::sh("", contract::WAIT)).await.unwrap();
        garden.say(&handle, &process.id, Stream::Stderr, "ouch");
        garden.finish(&handle, &process.id, Exit::OutOfMemory(137));
        assert_eq!(contract::text(&mut process).await, "ready\n!ouch");
        assert_eq!(process.wait().await, Some(Exit::OutOfMemory(137)));
        assert_eq!(garden.ran(&handle).len(), 1);
    }
}
