//! The containers of one host, whichever way they are isolated: their folders, their keepers, their processes.

mod asking;
mod container;
mod grace;
mod host;
mod record;
mod transfer;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{CancellationToken, Poke, TaskTracker};
use garden::{
    GardenError, Handle, Input, Process, ProcessId, ProcessSignal, ProcessSpec, Result, Tar,
    WindowSize,
};
use parking_lot::Mutex;
use shim::wire::{self, Reply, Request, Window};

use crate::follow::follow;
use crate::keeper::{Program, refused};
use crate::watch::Watches;
use container::watch_keeper;
use record::{load, make_process_folder};
use transfer::Writer;

pub use container::{Container, Life};
pub use host::{capacity, lock, memory_mb, remove_tree, text, to_the_end};
pub use record::{Record, make_keeper_folders, save};

/// Between asking processes to end and ending them.
const PATIENCE: Duration = Duration::from_secs(10);

/// All of them. Backends make containers and remove what is theirs around them; the rest is here.
pub struct Containers {
    root: PathBuf,
    pub program: Program,
    watches: Watches,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    all: Mutex<HashMap<Handle, Slot>>,
    /// Somebody's grace time has changed.
    grace: Poke,
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
        let (all, grace) = (Mutex::default(), Poke::default());
        Ok(Containers { root, program, watches, tasks, stop, all, grace })
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
        let record = container.record();
        self.all.lock().insert(record.handle, Slot::Ready(container));
        if record.spec.grace_time.is_some() {
            self.grace.poke();
        }
    }

    pub fn get(&self, handle: &Handle) -> Result<Arc<Container>> {
        match self.all.lock().get(handle) {
            Some(Slot::Ready(container)) => {
                container.touch();
                Ok(container.clone())
            }
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
        let record = container.record();
        make_process_folder(dir, id, record.owner)
            .map_err(|error| GardenError::failed("making a process's folder", error))?;
        let watched = self
            .watches
            .watch(dir)
            .map_err(|error| GardenError::failed("watching output", error))?;
        let run = asking::run(index, &record.spec.env, spec);
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
            let _used = container.hold();
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
        let signal = signal.number();
        container.ask(&Request::Kill(wire::Kill { index, signal })).await.map(drop)
    }

    pub async fn input(&self, handle: &Handle, id: &ProcessId) -> Result<Input> {
        let container = self.get(handle)?;
        let (index, _) = container.process(handle, id)?;
        let fail = |error| GardenError::failed("asking for a process's input", error);
        let (reply, passed) = container.ask_for(&Request::Input(index)).await.map_err(fail)?;
        match (reply, passed) {
            (Reply::Done(()), Some(end)) => Ok(Box::pin(Writer::new(end).map_err(fail)?)),
            (Reply::Refused(refusal), _) => Err(refused(refusal, Some((handle, id)))),
            _ => Err(GardenError::NoInput(id.clone(), handle.clone())),
        }
    }

    pub async fn close_input(&self, handle: &Handle, id: &ProcessId) -> Result<()> {
        match self.ask_about(handle, id, Request::CloseInput).await {
            Err(GardenError::NoInput(..)) if self.has_ended(handle, id)? => Ok(()),
            result => result,
        }
    }

    fn has_ended(&self, handle: &Handle, id: &ProcessId) -> Result<bool> {
        Ok(self.get(handle)?.process(handle, id)?.1.join(shim::EXIT).exists())
    }

    pub async fn resize(&self, handle: &Handle, id: &ProcessId, size: WindowSize) -> Result<()> {
        let window = Window { columns: size.columns, rows: size.rows };
        self.ask_about(handle, id, |index| Request::Resize(wire::Resize { index, window })).await
    }

    async fn ask_about(
        &self,
        handle: &Handle,
        id: &ProcessId,
        request: impl FnOnce(u32) -> Request,
    ) -> Result<()> {
        let container = self.get(handle)?;
        let (index, _) = container.process(handle, id)?;
        match container.ask(&request(index)).await? {
            Reply::Refused(refusal) => Err(refused(refusal, Some((handle, id)))),
            Reply::Done(()) | Reply::Running(_) => Ok(()),
        }
    }

    pub async fn stop(&self, handle: &Handle, kill: bool) -> Result<()> {
        let container = self.get(handle)?;
        let _used = container.hold();
        if !kill {
            let gently = container.ask(&Request::KillAll(libc::SIGTERM));
            if let Ok(answer) = tokio::time::timeout(PATIENCE, gently).await {
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
        let set = |record: &mut Record| _ = record.spec.properties.insert(key.into(), value.into());
        self.get(handle)?.change(set)
    }

    pub fn remove_property(&self, handle: &Handle, key: &str) -> Result<()> {
        let mut removed = None;
        let container = self.get(handle)?;
        container.change(|record| removed = record.spec.properties.remove(key))?;
        let unknown = || GardenError::UnknownProperty(key.into(), handle.clone());
        removed.map(drop).ok_or_else(unknown)
    }

    pub fn set_grace_time(&self, handle: &Handle, grace: Option<Duration>) -> Result<()> {
        self.get(handle)?.change(|record| record.spec.grace_time = grace)?;
        self.grace.poke();
        Ok(())
    }

    /// Ends this program's part; containers live on.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
