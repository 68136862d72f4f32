//! One container with a living keeper.
#![expect(unsafe_code, reason = "registering a descriptor")]

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::CancellationToken;
use garden::{ContainerInfo, GardenError, Handle, ProcessId, Result, Snapshot};
use parking_lot::Mutex;
use shim::PROCESSES;
use shim::wire::{self, Reply, Request};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;
use tracing::warn;

use super::grace::Use;
use super::record::{Processes, Record, find_processes, save};
use crate::keeper;

/// Ended processes whose output and exit are kept; then the one that ended first is forgotten.
const ENDED_KEPT: usize = 64;

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
    pub(super) life: Life,
    processes: Mutex<Processes>,
    used: Use,
    /// Held by whoever changes what the container has; in between nobody may destroy it.
    pub changes: tokio::sync::Mutex<()>,
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
        let (used, changes) = (Use::begin(), tokio::sync::Mutex::default());
        Ok(Arc::new(Container {
            dir,
            record,
            folder,
            keeper_pid,
            keeper,
            life,
            processes,
            used,
            changes,
        }))
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
        self.record.lock().info(self.processes.lock().known.keys().cloned().collect())
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot { spec: self.record().spec, info: self.info() }
    }

    /// Keeps what has changed, on disk first.
    pub fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.record.lock();
        let mut changed = record.clone();
        change(&mut changed);
        save(&self.dir, &changed)
            .map_err(|error| GardenError::failed("keeping the container's record", error))?;
        *record = changed;
        Ok(())
    }

    /// Somebody has named it.
    pub fn touch(&self) {
        self.used.touch();
    }

    /// It is in use until what this answers is dropped.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.used.begin_hold();
        Hold(self.clone())
    }

    /// Until when it stays if it is left alone; `None` without a grace time.
    pub(super) fn stays(&self, now: Instant) -> Option<Instant> {
        let grace = self.record.lock().spec.grace_time?;
        Some(self.used.until(grace, now))
    }

    pub(super) async fn ask(&self, request: &Request) -> Result<Reply> {
        let answer = keeper::ask(self.folder.as_fd(), request).await;
        answer.map_err(|error| GardenError::failed("asking the container's keeper", error))
    }

    /// A question whose answer may hand over a descriptor.
    pub(super) async fn ask_for(&self, request: &Request) -> io::Result<(Reply, Option<OwnedFd>)> {
        keeper::ask_for(self.folder.as_fd(), request).await
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// A number for a new process.
    pub(super) fn admit(&self, id: &ProcessId) -> Result<(u32, PathBuf)> {
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

    pub(super) fn process(&self, handle: &Handle, id: &ProcessId) -> Result<(u32, PathBuf)> {
        let index = self.processes.lock().known.get(id).copied();
        let index = index.ok_or_else(|| GardenError::UnknownProcess(id.clone(), handle.clone()))?;
        Ok((index, self.process_folder(index)))
    }

    fn process_folder(&self, index: u32) -> PathBuf {
        self.dir.join(PROCESSES).join(index.to_string())
    }

    pub(super) fn forget(&self, id: &ProcessId) {
        if let Some(index) = self.processes.lock().known.remove(id) {
            // What is left goes with the container.
            let _ = fs::remove_dir_all(self.process_folder(index));
        }
    }

    pub(super) fn note_end(&self, id: &ProcessId) {
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

/// Keeps a container from its grace time's end.
pub struct Hold(Arc<Container>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.used.end_hold();
    }
}

/// Tells followers that the keeper, and with it every process, has ended.
pub(super) async fn watch_keeper(container: Arc<Container>, stop: CancellationToken) {
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
