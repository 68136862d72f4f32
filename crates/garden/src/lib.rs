//! Containers, as the seam between whoever runs things and whoever isolates them. This crate knows no app and no LRP;
//! what a caller must remember about a container travels as opaque properties.

pub mod contract;
mod egress;
mod error;
pub mod fake;
mod process;
mod spec;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

pub use egress::{EgressRule, PortRange, Protocol};
pub use error::GardenError;
pub use process::{
    Exit, Output, Process, ProcessSignal, ProcessSpec, ResourceLimits, Stream, WindowSize,
};
pub use spec::{
    BindMount, Capacity, ContainerInfo, ContainerSpec, Limits, Metrics, PortMapping, Properties,
    Rootfs, Snapshot,
};

base::guid! {
    /// Names a container on its cell; chosen by the caller.
    Handle
    /// Names a process in its container; chosen by the caller.
    ProcessId
}

pub type Result<T> = std::result::Result<T, GardenError>;

/// A tar archive on its way in or out.
pub type Tar = Pin<Box<dyn AsyncRead + Send>>;

/// Where a process reads from. Dropping it closes nothing: others may hold it too.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Runs containers and knows nothing of apps. `guardian` has the Linux and the process backend, `fake` is in memory.
/// Every call that names a container it does not have ends with [`GardenError::UnknownContainer`], but for
/// [`Garden::destroy`]; [`contract`] has a case for each promise.
#[async_trait]
pub trait Garden: Send + Sync {
    /// What this host can hold in all.
    async fn capacity(&self) -> Result<Capacity>;

    /// All or nothing: on error no root file system, cgroup, namespace or address is left behind. A handle that is
    /// taken is [`GardenError::HandleTaken`], a full host [`GardenError::Exhausted`].
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo>;

    /// Kills what runs and removes every trace. Destroying an unknown handle succeeds, so callers may retry blindly.
    async fn destroy(&self, handle: &Handle) -> Result<()>;

    /// Every container there is, also those made before this program started. Listing keeps none from its grace time's end.
    async fn containers(&self) -> Result<Vec<ContainerInfo>>;

    /// Those that have all of these properties, with these values.
    async fn containers_with(&self, properties: &Properties) -> Result<Vec<ContainerInfo>> {
        let mut found = self.containers().await?;
        found.retain(|one| {
            properties.iter().all(|(key, value)| one.properties.get(key) == Some(value))
        });
        Ok(found)
    }

    async fn info(&self, handle: &Handle) -> Result<ContainerInfo>;

    /// Each by itself: one that cannot be told about does not hide the others.
    async fn bulk_info(&self, handles: &[Handle]) -> BTreeMap<Handle, Result<ContainerInfo>> {
        let mut all = BTreeMap::new();
        for handle in handles {
            all.insert(handle.clone(), self.info(handle).await);
        }
        all
    }

    /// Starts a process. Its output and exit outlive this program: see [`Garden::attach`].
    async fn run(&self, handle: &Handle, spec: ProcessSpec) -> Result<Process>;

    /// Takes up a process again after a restart of this program. Output starts at the byte `from`
    /// ([`Output::end`] of the last piece that was dealt with; 0 for all that is kept).
    async fn attach(&self, handle: &Handle, process: &ProcessId, from: u64) -> Result<Process>;

    /// Where a process reads from that was started with [`ProcessSpec::stdin`] or [`ProcessSpec::tty`], also after a
    /// restart of this program; of any other process, and of one that has ended, it is [`GardenError::NoInput`].
    async fn input(&self, handle: &Handle, process: &ProcessId) -> Result<Input> {
        Err(GardenError::NoInput(process.clone(), handle.clone()))
    }

    /// The process reads an end of file once it has read what was written. On a terminal that is the character its user
    /// would type, and more may follow. Closing what is closed, or what has ended, is no error.
    async fn close_input(&self, handle: &Handle, process: &ProcessId) -> Result<()> {
        Err(GardenError::NoInput(process.clone(), handle.clone()))
    }

    /// Tells a process on a terminal of its new size; [`GardenError::NoInput`] where there is no terminal.
    async fn resize(&self, handle: &Handle, process: &ProcessId, _: WindowSize) -> Result<()> {
        Err(GardenError::NoInput(process.clone(), handle.clone()))
    }

    /// Signals one process and its children where the backend can tell them. A process that has ended is no error.
    async fn signal(
        &self,
        handle: &Handle,
        process: &ProcessId,
        signal: ProcessSignal,
    ) -> Result<()>;

    /// SIGTERM to every process, then SIGKILL to what is left after 10 s. With `kill`, SIGKILL at once. Returns when all have ended.
    async fn stop(&self, handle: &Handle, kill: bool) -> Result<()>;

    /// Unpacks `tar` below `path`, as `user`, from inside the container: no entry can reach outside of it.
    async fn stream_in(&self, handle: &Handle, path: &str, user: &str, tar: Tar) -> Result<()>;

    /// Packs `path` (a file, or a folder with all below it) as `user` sees it from inside the container.
    async fn stream_out(&self, handle: &Handle, path: &str, user: &str) -> Result<Tar>;

    async fn metrics(&self, handle: &Handle) -> Result<Metrics>;

    /// Each by itself, as [`Garden::bulk_info`].
    async fn bulk_metrics(&self, handles: &[Handle]) -> BTreeMap<Handle, Result<Metrics>> {
        let mut all = BTreeMap::new();
        for handle in handles {
            all.insert(handle.clone(), self.metrics(handle).await);
        }
        all
    }

    /// What holds now.
    async fn limits(&self, handle: &Handle) -> Result<Limits> {
        Ok(self.snapshot(handle).await?.spec.limits)
    }

    /// All of them, at once and while everything runs. Memory below what is in use may end a process. Where the host
    /// cannot change one, none is changed: [`GardenError::Unsupported`]. A backend that limits nothing only remembers them.
    async fn set_limits(&self, _: &Handle, _: Limits) -> Result<()> {
        Err(GardenError::Unsupported("changing limits"))
    }

    /// Maps one more port; `host_port` is chosen when it is not given, and [`GardenError::PortTaken`] when somebody has it.
    async fn net_in(&self, _: &Handle, _port: u16, _host_port: Option<u16>) -> Result<PortMapping> {
        Err(GardenError::Unsupported("mapping another port"))
    }

    /// Allows this too, from now on; all or nothing. A backend without networks of its own only remembers it.
    async fn net_out(&self, _: &Handle, _: Vec<EgressRule>) -> Result<()> {
        Err(GardenError::Unsupported("allowing more traffic"))
    }

    async fn properties(&self, handle: &Handle) -> Result<Properties> {
        Ok(self.info(handle).await?.properties)
    }

    /// One that is not set is [`GardenError::UnknownProperty`].
    async fn property(&self, handle: &Handle, key: &str) -> Result<String> {
        let value = self.properties(handle).await?.remove(key);
        value.ok_or_else(|| GardenError::UnknownProperty(key.into(), handle.clone()))
    }

    async fn set_property(&self, handle: &Handle, key: &str, value: &str) -> Result<()>;

    /// One that is not set is [`GardenError::UnknownProperty`].
    async fn remove_property(&self, handle: &Handle, _key: &str) -> Result<()> {
        self.info(handle).await?;
        Err(GardenError::Unsupported("removing a property"))
    }

    /// For so long a container may be left alone: named by no call, with no process being followed. Then it is
    /// destroyed. `None` lets it be, which is how containers begin unless [`ContainerSpec::grace_time`] says otherwise.
    async fn set_grace_time(&self, _: &Handle, _: Option<Duration>) -> Result<()> {
        Err(GardenError::Unsupported("grace times"))
    }

    /// Everything that a garden which is started anew goes on with, with all changes since the container was made.
    async fn snapshot(&self, _: &Handle) -> Result<Snapshot> {
        Err(GardenError::Unsupported("snapshots"))
    }
}
