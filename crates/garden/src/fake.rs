//! Containers that are remembered and nothing more: no user code runs. A test says what processes print and how they end.

mod acting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use base::Clock;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until};

use crate::{
    Capacity, ContainerInfo, ContainerSpec, EgressRule, Exit, Garden, GardenError, Handle, Input,
    Limits, Metrics, PortMapping, Process, ProcessId, ProcessSignal, ProcessSpec, Result, Snapshot,
    Stream, Tar, WindowSize,
};
use acting::Acting;

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
    /// It says what it reads, and ends with 0 when its input is closed.
    Echo,
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
    /// When a call last named it.
    named: Instant,
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

    /// Lets go of a container once nobody has named it for its grace time.
    fn keep_time(&self, handle: &Handle) {
        let (shared, handle): (Weak<Shared>, Handle) = (Arc::downgrade(&self.0), handle.clone());
        tokio::spawn(async move {
            loop {
                let Some(until) = shared.upgrade().and_then(|shared| {
                    shared.state.lock().containers.get(&handle).and_then(Container::stays)
                }) else {
                    return;
                };
                if until <= Instant::now() {
                    if let Some(shared) = shared.upgrade() {
                        shared.state.lock().containers.remove(&handle);
                    }
                    return;
                }
                sleep_until(until).await;
            }
        });
    }

    fn fails(&self, call: Call) -> Result<()> {
        let next = self.0.state.lock().failures.get_mut(&call).and_then(VecDeque::pop_front);
        next.map_or(Ok(()), Err)
    }
}

impl State {
    fn container(&mut self, handle: &Handle) -> Result<&mut Container> {
        let found = self.containers.get_mut(handle);
        let container = found.ok_or_else(|| GardenError::UnknownContainer(handle.clone()))?;
        container.named = Instant::now();
        Ok(container)
    }

    /// One port on the host that nobody has yet.
    fn free_port(&mut self, asked_port: u16) -> PortMapping {
        self.next_port += 1;
        while self.has_port(self.next_port) {
            self.next_port += 1;
        }
        PortMapping { asked_port, container_port: asked_port, host_port: self.next_port }
    }

    fn has_port(&self, port: u16) -> bool {
        let mut ports = self.containers.values().flat_map(|container| &container.info.ports);
        ports.any(|mapped| mapped.host_port == port)
    }

    fn acting(&mut self, handle: &Handle, process: &ProcessId) -> Option<&mut Acting> {
        self.containers.get_mut(handle)?.processes.get_mut(process)
    }
}

impl Container {
    /// Until when it stays if nobody names it; `None` without a grace time.
    fn stays(&self) -> Option<Instant> {
        let now = Instant::now();
        let used = self.processes.values().any(Acting::is_followed);
        self.spec.grace_time.map(|grace| if used { now + grace } else { self.named + grace })
    }

    fn process(&self, handle: &Handle, process: &ProcessId) -> Result<&Acting> {
        self.processes
            .get(process)
            .ok_or_else(|| GardenError::UnknownProcess(process.clone(), handle.clone()))
    }

    fn process_mut(&mut self, handle: &Handle, process: &ProcessId) -> Result<&mut Acting> {
        self.processes
            .get_mut(process)
            .ok_or_else(|| GardenError::UnknownProcess(process.clone(), handle.clone()))
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
        spec.egress.iter().try_for_each(|rule| rule.ranges().map(drop))?;
        state.made += 1;
        let ports = spec.ports.iter().map(|asked| state.free_port(*asked)).collect();
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
        let (named, brief) = (Instant::now(), spec.grace_time.is_some());
        let container = Container { spec, info: info.clone(), processes, files, metrics, named };
        state.containers.insert(handle.clone(), container);
        drop(state);
        if brief {
            self.keep_time(&handle);
        }
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

    async fn remove_property(&self, handle: &Handle, key: &str) -> Result<()> {
        let removed = self.0.state.lock().container(handle)?.info.properties.remove(key);
        let unknown = || GardenError::UnknownProperty(key.into(), handle.clone());
        removed.map(drop).ok_or_else(unknown)
    }

    async fn input(&self, handle: &Handle, process: &ProcessId) -> Result<Input> {
        let mut state = self.0.state.lock();
        let input = state.container(handle)?.process(handle, process)?.input();
        input.ok_or_else(|| GardenError::NoInput(process.clone(), handle.clone()))
    }

    async fn close_input(&self, handle: &Handle, process: &ProcessId) -> Result<()> {
        let mut state = self.0.state.lock();
        let closed = state.container(handle)?.process(handle, process)?.close_input();
        let none = || GardenError::NoInput(process.clone(), handle.clone());
        closed.then_some(()).ok_or_else(none)
    }

    async fn resize(&self, handle: &Handle, process: &ProcessId, size: WindowSize) -> Result<()> {
        let mut state = self.0.state.lock();
        let spec = &mut state.container(handle)?.process_mut(handle, process)?.spec;
        let none = || GardenError::NoInput(process.clone(), handle.clone());
        spec.tty.as_mut().map(|now| *now = size).ok_or_else(none)
    }

    async fn set_limits(&self, handle: &Handle, limits: Limits) -> Result<()> {
        self.0.state.lock().container(handle)?.spec.limits = limits;
        Ok(())
    }

    async fn net_in(
        &self,
        handle: &Handle,
        port: u16,
        host_port: Option<u16>,
    ) -> Result<PortMapping> {
        let mut state = self.0.state.lock();
        state.container(handle)?;
        let mapping = match host_port {
            Some(taken) if state.has_port(taken) => return Err(GardenError::PortTaken(taken)),
            Some(host_port) => PortMapping { asked_port: port, container_port: port, host_port },
            None => state.free_port(port),
        };
        state.container(handle)?.info.ports.push(mapping);
        Ok(mapping)
    }

    async fn net_out(&self, handle: &Handle, rules: Vec<EgressRule>) -> Result<()> {
        let mut state = self.0.state.lock();
        let container = state.container(handle)?;
        rules.iter().try_for_each(|rule| rule.ranges().map(drop))?;
        container.spec.egress.extend(rules);
        Ok(())
    }

    async fn set_grace_time(&self, handle: &Handle, grace: Option<Duration>) -> Result<()> {
        self.0.state.lock().container(handle)?.spec.grace_time = grace;
        self.keep_time(handle);
        Ok(())
    }

    async fn snapshot(&self, handle: &Handle) -> Result<Snapshot> {
        let mut state = self.0.state.lock();
        let container = state.container(handle)?;
        let info = info(container);
        let properties = info.properties.clone();
        Ok(Snapshot { spec: ContainerSpec { properties, ..container.spec.clone() }, info })
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
                Some(contract::ECHO) => Play { output: Vec::new(), end: End::Echo },
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
