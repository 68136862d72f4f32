//! The containers of one host, whichever way they are isolated: their folders, their keepers, their processes.
#![expect(unsafe_code, reason = "registering a descriptor")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use base::{Backoff, CancellationToken, TaskTracker, Timestamp};
use garden::{
    ContainerInfo, ContainerSpec, GardenError, Handle, PortMapping, Process, ProcessId,
    ProcessSignal, ProcessSpec, Properties, Result, Tar,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use shim::PROCESSES;
use shim::wire::{self, Reply, Request};
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::follow::follow;
use crate::keeper::{self, Program, refused};
use crate::watch::Watches;

/// The file that makes a folder a container.
const RECORD: &str = "container.json";
const NAME: &str = "id";
/// Ended processes whose output and exit are kept; then the one that ended first is forgotten.
const ENDED_KEPT: usize = 64;
/// Between asking processes to end and ending them.
const GRACE: Duration = Duration::from_secs(10);

/// What a container must be known by after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its number among this host's containers; folder, ids and address follow from it.
    pub index: u32,
    pub handle: Handle,
    pub spec: ContainerSpec,
    pub ports: Vec<PortMapping>,
    pub host_ip: std::net::Ipv4Addr,
    pub container_ip: std::net::Ipv4Addr,
    pub created_at: Timestamp,
    /// The host's id for the container's root, which owns what the keeper writes.
    pub owner: u32,
}

/// Whether a container's keeper lives, and whether its end was asked for.
#[derive(Clone, Default)]
pub struct Life {
    end: CancellationToken,
    removed: Arc<AtomicBool>,
}

impl Life {
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    pub fn removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }
}

/// One container with a living keeper.
pub struct Container {
    pub dir: PathBuf,
    record: Mutex<Record>,
    folder: OwnedFd,
    pub keeper_pid: i32,
    keeper: OwnedFd,
    life: Life,
    processes: Mutex<Processes>,
}

#[derive(Default)]
struct Processes {
    known: BTreeMap<ProcessId, u32>,
    ended: VecDeque<ProcessId>,
    next: u32,
}

/// All of them. Backends make containers and remove what is theirs around them; the rest is here.
pub struct Containers {
    root: PathBuf,
    pub program: Program,
    watches: Watches,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    all: Mutex<HashMap<Handle, Slot>>,
}

enum Slot {
    /// Being made or removed.
    Busy,
    Ready(Arc<Container>),
}

impl Containers {
    pub fn open(state: &Path) -> anyhow::Result<Containers> {
        let root = state.join("c");
        fs::create_dir_all(&root)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let watches = Watches::start(&tasks, stop.clone())?;
        let program = Program::install(state)?;
        Ok(Containers { root, program, watches, tasks, stop, all: Mutex::default() })
    }

    pub fn folder(&self, index: u32) -> PathBuf {
        self.root.join(index.to_string())
    }

    /// Takes up what an earlier life of this program left running. Answers the folders nobody keeps any more.
    pub async fn recover(&self) -> io::Result<Vec<(u32, Option<Record>)>> {
        let mut dead = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let Some(index) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let record = load(&entry.path());
            let found = match &record {
                Some(record) => Container::find(entry.path(), record.clone()).await.ok(),
                None => None,
            };
            match found {
                Some(container) => self.put(container),
                None => dead.push((index, record)),
            }
        }
        Ok(dead)
    }

    /// Reserves the handle, until [`Containers::put`] or [`Containers::release`]. Those being made and removed count too.
    pub fn reserve(&self, handle: &Handle, most: u32) -> Result<()> {
        let mut all = self.all.lock();
        if all.contains_key(handle) {
            return Err(GardenError::HandleTaken(handle.clone()));
        }
        if all.len() >= most as usize {
            return Err(GardenError::Exhausted("containers"));
        }
        all.insert(handle.clone(), Slot::Busy);
        Ok(())
    }

    pub fn release(&self, handle: &Handle) {
        self.all.lock().remove(handle);
    }

    pub fn put(&self, container: Arc<Container>) {
        self.tasks.spawn(watch_keeper(container.clone(), self.stop.clone()));
        let handle = container.record.lock().handle.clone();
        self.all.lock().insert(handle, Slot::Ready(container));
    }

    pub fn get(&self, handle: &Handle) -> Result<Arc<Container>> {
        match self.all.lock().get(handle) {
            Some(Slot::Ready(container)) => Ok(container.clone()),
            _ => Err(GardenError::UnknownContainer(handle.clone())),
        }
    }

    pub fn all(&self) -> Vec<Arc<Container>> {
        let all = self.all.lock();
        all.values()
            .filter_map(|slot| {
                if let Slot::Ready(container) = slot { Some(container.clone()) } else { None }
            })
            .collect()
    }

    /// Takes a container away from everybody else, who from now on sees none; its handle stays taken until [`Containers::release`].
    pub fn take(&self, handle: &Handle) -> Option<Arc<Container>> {
        let mut all = self.all.lock();
        match all.get(handle) {
            Some(Slot::Ready(container)) => {
                let container = container.clone();
                all.insert(handle.clone(), Slot::Busy);
                Some(container)
            }
            _ => None,
        }
    }

    pub async fn run(&self, handle: &Handle, spec: ProcessSpec) -> Result<Process> {
        let container = self.get(handle)?;
        let id = spec.id.clone().unwrap_or_else(ProcessId::random);
        let (index, dir) = container.admit(&id)?;
        let started = self.start(&container, handle, &id, index, &dir, spec).await;
        started.inspect_err(|_| container.forget(&id))
    }

    async fn start(
        &self,
        container: &Arc<Container>,
        handle: &Handle,
        id: &ProcessId,
        index: u32,
        dir: &Path,
        spec: ProcessSpec,
    ) -> Result<Process> {
        let owner = container.record.lock().owner;
        make_process_folder(dir, id, owner)
            .map_err(|error| GardenError::failed("making a process's folder", error))?;
        let watched = self
            .watches
            .watch(dir)
            .map_err(|error| GardenError::failed("watching output", error))?;
        let env = merge(&container.record.lock().spec.env, &spec.env);
        let run = wire::Run {
            index,
            path: spec.path,
            args: spec.args,
            env,
            dir: spec.dir,
            user: spec.user,
            nofile: spec.nofile.unwrap_or(0),
        };
        match container.ask(&Request::Run(run)).await? {
            Reply::Refused(refusal) => return Err(refused(refusal, Some((handle, id)))),
            Reply::Done(()) | Reply::Running(_) => {}
        }
        Ok(self.follow(container, id, dir, 0, watched))
    }

    fn follow(
        &self,
        container: &Arc<Container>,
        id: &ProcessId,
        dir: &Path,
        from: u64,
        watched: crate::watch::Watched,
    ) -> Process {
        let (process, follower) = follow(id.clone(), dir, from, watched, container.life.clone());
        let (container, id, stop) = (container.clone(), id.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = follower => container.note_end(&id),
                () = stop.cancelled() => {}
            }
        });
        process
    }

    pub async fn attach(&self, handle: &Handle, id: &ProcessId, from: u64) -> Result<Process> {
        let container = self.get(handle)?;
        let dir = container.process(handle, id)?.1;
        let watched = self
            .watches
            .watch(&dir)
            .map_err(|error| GardenError::failed("watching output", error))?;
        Ok(self.follow(&container, id, &dir, from, watched))
    }

    pub async fn signal(
        &self,
        handle: &Handle,
        id: &ProcessId,
        signal: ProcessSignal,
    ) -> Result<()> {
        let container = self.get(handle)?;
        let (index, _) = container.process(handle, id)?;
        let signal = match signal {
            ProcessSignal::Terminate => libc::SIGTERM,
            ProcessSignal::Kill => libc::SIGKILL,
        };
        container.ask(&Request::Kill(wire::Kill { index, signal })).await.map(drop)
    }

    pub async fn stop(&self, handle: &Handle, kill: bool) -> Result<()> {
        let container = self.get(handle)?;
        if !kill {
            let gently = container.ask(&Request::KillAll(libc::SIGTERM));
            if let Ok(answer) = tokio::time::timeout(GRACE, gently).await {
                return answer.map(drop);
            }
        }
        container.ask(&Request::KillAll(libc::SIGKILL)).await.map(drop)
    }

    pub async fn stream_in(&self, handle: &Handle, path: &str, user: &str, tar: Tar) -> Result<()> {
        self.get(handle)?.unpack(path, user, tar).await
    }

    pub async fn stream_out(&self, handle: &Handle, path: &str, user: &str) -> Result<Tar> {
        let (tar, done) = self.get(handle)?.pack(path, user).await?;
        self.tasks.spawn(done);
        Ok(tar)
    }

    pub fn set_property(&self, handle: &Handle, key: &str, value: &str) -> Result<()> {
        let container = self.get(handle)?;
        let mut record = container.record.lock();
        record.spec.properties.insert(key.into(), value.into());
        save(&container.dir, &record)
            .map_err(|error| GardenError::failed("keeping a property", error))
    }

    /// Ends this program's part; containers live on.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Container {
    /// The container whose keeper listens in `dir`.
    pub async fn find(dir: PathBuf, record: Record) -> io::Result<Arc<Container>> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&dir, flags, Mode::empty())?;
        let stream = keeper::connect(folder.as_fd()).await?;
        let pid = stream.peer_cred()?.pid().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the keeper hides its process"))?;
        // While the connection stands, the process that listens has not ended, so the number is its own.
        let keeper = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK)?;
        let running = match keeper::exchange(stream, &wire::encode(&Request::List(()))).await? {
            Reply::Running(running) => running,
            _ => return Err(io::Error::other("an answer to another question")),
        };
        let processes = Mutex::new(find_processes(&dir, &running)?);
        let (record, life) = (Mutex::new(record), Life::default());
        let keeper_pid = pid.as_raw_nonzero().get();
        Ok(Arc::new(Container { dir, record, folder, keeper_pid, keeper, life, processes }))
    }

    pub fn record(&self) -> Record {
        self.record.lock().clone()
    }

    /// Its number and limit, when it has one.
    pub fn disk_limit(&self) -> Option<(u32, u64)> {
        let record = self.record.lock();
        let bytes = record.spec.limits.disk_bytes;
        (bytes > 0).then_some((record.index, bytes))
    }

    pub fn info(&self) -> ContainerInfo {
        let record = self.record.lock();
        ContainerInfo {
            handle: record.handle.clone(),
            host_ip: record.host_ip,
            container_ip: record.container_ip,
            ports: record.ports.clone(),
            properties: Properties::clone(&record.spec.properties),
            processes: self.processes.lock().known.keys().cloned().collect(),
            created_at: record.created_at,
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reply> {
        let answer = keeper::ask(self.folder.as_fd(), request).await;
        answer.map_err(|error| GardenError::failed("asking the container's keeper", error))
    }

    /// A number for a new process.
    fn admit(&self, id: &ProcessId) -> Result<(u32, PathBuf)> {
        let mut processes = self.processes.lock();
        if processes.known.contains_key(id) {
            return Err(GardenError::failed(
                "naming a process",
                format!("process {id} exists already"),
            ));
        }
        let index = processes.next;
        processes.next += 1;
        processes.known.insert(id.clone(), index);
        Ok((index, self.process_folder(index)))
    }

    fn process(&self, handle: &Handle, id: &ProcessId) -> Result<(u32, PathBuf)> {
        let index = self.processes.lock().known.get(id).copied();
        let index = index.ok_or_else(|| GardenError::UnknownProcess(id.clone(), handle.clone()))?;
        Ok((index, self.process_folder(index)))
    }

    fn process_folder(&self, index: u32) -> PathBuf {
        self.dir.join(PROCESSES).join(index.to_string())
    }

    fn forget(&self, id: &ProcessId) {
        if let Some(index) = self.processes.lock().known.remove(id) {
            // What is left goes with the container.
            let _ = fs::remove_dir_all(self.process_folder(index));
        }
    }

    fn note_end(&self, id: &ProcessId) {
        let oldest = {
            let mut processes = self.processes.lock();
            if !processes.ended.contains(id) {
                processes.ended.push_back(id.clone());
            }
            if processes.ended.len() > ENDED_KEPT { processes.ended.pop_front() } else { None }
        };
        if let Some(id) = oldest {
            self.forget(&id);
        }
    }

    async fn unpack(&self, path: &str, user: &str, mut tar: Tar) -> Result<()> {
        let (theirs, ours) = pipe().map_err(|error| GardenError::failed("making a pipe", error))?;
        let mut ours = tokio::net::unix::pipe::Sender::from_owned_fd(ours)
            .map_err(|error| GardenError::failed("making a pipe", error))?;
        let stream = wire::Stream { path: path.into(), user: user.into() };
        let request = Request::Unpack(stream);
        let asked = keeper::ask_with(self.folder.as_fd(), &request, theirs);
        let send = async {
            let sent = tokio::io::copy(&mut tar, &mut ours).await;
            drop(ours);
            sent
        };
        let (mut asked, mut send) = (std::pin::pin!(asked), std::pin::pin!(send));
        let (reply, sent) = tokio::select! {
            // Whoever unpacks reads to the end, so an answer before it is a refusal.
            reply = &mut asked => (reply, Ok(0)),
            sent = &mut send => (asked.await, sent),
        };
        match reply.map_err(|error| GardenError::failed("asking the container's keeper", error))? {
            // Its reason is the better one: a broken pipe only follows from it.
            Reply::Refused(refusal) => Err(refused(refusal, None)),
            _ => sent.map(drop).map_err(|error| GardenError::failed("reading the archive", error)),
        }
    }

    /// The archive; an error on the way shows as one at its end. The future must be run beside it.
    async fn pack(
        self: Arc<Container>,
        path: &str,
        user: &str,
    ) -> Result<(Tar, impl Future<Output = ()> + use<>)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let fail = |error| GardenError::failed("packing", error);
        let (ours, theirs) = pipe().map_err(fail)?;
        let mut ours = tokio::net::unix::pipe::Receiver::from_owned_fd(ours).map_err(fail)?;
        let request = Request::Pack(wire::Stream { path: path.into(), user: user.into() });
        let asking = async move { keeper::ask_with(self.folder.as_fd(), &request, theirs).await };
        let mut asking = Box::pin(asking);
        // Nothing to pack shows before the first byte, as an error of this call.
        let mut first = vec![0; 512];
        let mut early = None;
        let got = loop {
            tokio::select! {
                got = ours.read(&mut first) => break got.map_err(fail)?,
                reply = &mut asking, if early.is_none() => {
                    if let Reply::Refused(refusal) = reply.map_err(fail)? {
                        return Err(refused(refusal, None));
                    }
                    early = Some(());
                }
            }
        };
        if got == 0
            && early.is_none()
            && let Reply::Refused(refusal) = (&mut asking).await.map_err(fail)?
        {
            return Err(refused(refusal, None));
        }
        let (mut inner, outer) = tokio::io::duplex(64 * 1024);
        let done = async move {
            // A reader who goes away before the end wants no more; the packer then ends by a broken pipe.
            let copied = async {
                inner.write_all(&first[..got]).await?;
                tokio::io::copy(&mut ours, &mut inner).await
            };
            if let Err(error) = copied.await {
                warn!(%error, "an archive was not read to its end");
            }
            drop(ours);
            if got > 0
                && early.is_none()
                && let Ok(Reply::Refused(refusal)) = asking.await
            {
                warn!(why = %refusal.what, "an archive ends early");
            }
        };
        Ok((Box::pin(outer), done))
    }

    /// Kills the keeper and with it everything inside; returns when nothing of it is left.
    pub async fn end(&self, isolated: bool) -> io::Result<()> {
        self.life.removed.store(true, Ordering::SeqCst);
        if !isolated {
            // Without a namespace the keeper's death would leave its children alive.
            let _ = keeper::ask(self.folder.as_fd(), &Request::KillAll(libc::SIGKILL)).await;
        }
        match rustix::process::pidfd_send_signal(&self.keeper, rustix::process::Signal::KILL) {
            Err(rustix::io::Errno::SRCH) => {}
            result => result?,
        }
        wait_end(&self.keeper).await?;
        self.life.end.cancel();
        Ok(())
    }
}

/// Tells followers that the keeper, and with it every process, has ended.
async fn watch_keeper(container: Arc<Container>, stop: CancellationToken) {
    tokio::select! {
        ended = wait_end(&container.keeper) => match ended {
            Ok(()) => container.life.end.cancel(),
            Err(error) => warn!(%error, "the end of a container cannot be seen"),
        },
        () = stop.cancelled() => {}
        () = container.life.ended() => {}
    }
}

async fn wait_end(keeper: &OwnedFd) -> io::Result<()> {
    // A copy, since others may wait too and each descriptor can be waited for once.
    let keeper = keeper.try_clone()?;
    // SAFETY: the descriptor is owned here for as long as it is registered.
    let keeper = unsafe { AsyncFd::register_with_interest(keeper, tokio::io::Interest::READABLE) }?;
    keeper.readable().await.map(drop)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    // Blocking for the one who unpacks; this side makes its own end non-blocking.
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((read, write))
}

fn load(dir: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(dir.join(RECORD)).ok()?).ok()
}

/// Replaces the record whole.
pub fn save(dir: &Path, record: &Record) -> io::Result<()> {
    let new = dir.join("container.json.new");
    fs::write(&new, serde_json::to_vec(record)?)?;
    fs::rename(new, dir.join(RECORD))
}

/// The folders a keeper needs to begin with. It writes as `owner`.
pub fn make_keeper_folders(dir: &Path, owner: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let processes = dir.join(PROCESSES);
    fs::create_dir(&processes)?;
    own(&processes, owner)
}

fn make_process_folder(dir: &Path, id: &ProcessId, owner: u32) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::write(dir.join(NAME), id.as_str())?;
    own(dir, owner)
}

/// Hands a file over to a container's id; what is of the platform's own user stays.
pub fn own(path: &Path, owner: u32) -> io::Result<()> {
    if owner == 0 { Ok(()) } else { std::os::unix::fs::chown(path, Some(owner), Some(owner)) }
}

/// Known are those that run and those that left an exit; a folder with neither was never run.
fn find_processes(dir: &Path, running: &[u32]) -> io::Result<Processes> {
    let mut processes = Processes::default();
    for entry in fs::read_dir(dir.join(PROCESSES))? {
        let path = entry?.path();
        let Some(index) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        processes.next = processes.next.max(index + 1);
        let id = fs::read_to_string(path.join(NAME)).ok();
        match id {
            Some(id) if running.contains(&index) || path.join(shim::EXIT).exists() => {
                processes.known.insert(ProcessId::from(id), index);
            }
            _ => fs::remove_dir_all(&path)?,
        }
    }
    Ok(processes)
}

/// Held as long as this program uses the state folder. A program just killed may leave a child that still holds it for
/// the moment it takes to become another program.
pub async fn lock(state: &Path) -> anyhow::Result<OwnedFd> {
    use rustix::fs::{FlockOperation, Mode, OFlags};
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let lock = rustix::fs::open(state.join("lock"), flags, Mode::from_raw_mode(0o600))
        .context("opening the lock")?;
    let mut tries = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
    for _ in 0..10 {
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(lock);
        }
        tokio::time::sleep(tries.step()).await;
    }
    anyhow::bail!("another platform uses {}", state.display())
}

/// A path as the shim takes it.
pub fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| GardenError::failed("reading a path", format!("{path:?} is not UTF-8")))
}

pub fn host_memory_mb() -> io::Result<u64> {
    let content = fs::read_to_string("/proc/meminfo")?;
    let line =
        content.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    line.and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok())
        .map(|kilobytes| kilobytes >> 10)
        .ok_or_else(|| io::Error::other("/proc/meminfo does not say"))
}

/// Making and removing go on to their end when the caller goes away in the middle.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work)
        .await
        .map_err(|error| GardenError::failed("working on a container", error))?
}

/// Removes what is there, also folders that somebody closed to their owner.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path);
            fs::remove_dir_all(path)
        }
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn open_folders(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    // What cannot be opened shows again when it cannot be removed.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(path) else { return };
    let folders =
        entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.for_each(|folder| open_folders(&folder.path()));
}

/// One environment out of two; the later value of a name wins, in the earlier one's place.
fn merge(base: &[(String, String)], over: &[(String, String)]) -> Vec<String> {
    let mut merged: Vec<(&str, &str)> = Vec::with_capacity(base.len() + over.len());
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (key, value) in base.iter().chain(over) {
        match places.get(key.as_str()) {
            Some(place) => merged[*place].1 = value,
            None => {
                places.insert(key, merged.len());
                merged.push((key, value));
            }
        }
    }
    merged.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_value_wins() {
        let pairs = |text: &str| -> Vec<(String, String)> {
            text.split(' ')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.into(), value.into()))
                .collect()
        };
        assert_eq!(merge(&pairs("A=1 B=2 A=3"), &pairs("C=4 B=5")), ["A=3", "B=5", "C=4"]);
    }

    #[test]
    fn folders_without_process_or_exit_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        for (index, id, exit) in [(0, "done", true), (1, "runs", false), (4, "never", false)] {
            let folder = dir.path().join(PROCESSES).join(index.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(NAME), id).unwrap();
            if exit {
                fs::write(folder.join(shim::EXIT), "status 0\n").unwrap();
            }
        }
        let found = find_processes(dir.path(), &[1]).unwrap();
        assert_eq!(found.known.keys().map(ProcessId::as_str).collect::<Vec<_>>(), ["done", "runs"]);
        assert_eq!(found.next, 5);
    }
}
