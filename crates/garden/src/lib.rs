//! Containers, as the seam between whoever runs things and whoever isolates them. This crate knows no app and no LRP;
//! what a caller must remember about a container travels as opaque properties.

pub mod contract;
mod egress;
mod error;
pub mod fake;
mod process;
mod spec;

use std::pin::Pin;

use async_trait::async_trait;
use tokio::io::AsyncRead;

pub use egress::{EgressRule, PortRange, Protocol};
pub use error::GardenError;
pub use process::{Exit, Output, Process, ProcessSignal, ProcessSpec, Stream};
pub use spec::{
    BindMount, Capacity, ContainerInfo, ContainerSpec, Limits, Metrics, PortMapping, Properties,
    Rootfs,
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

/// Runs containers and knows nothing of apps. `guardian` has the Linux and the process backend, `fake` is in memory.
#[async_trait]
pub trait Garden: Send + Sync {
    /// What this host can hold in all.
    async fn capacity(&self) -> Result<Capacity>;

    /// All or nothing: on error no root file system, cgroup, namespace or address is left behind.
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo>;

    /// Kills what runs and removes every trace. Destroying an unknown handle succeeds, so callers may retry blindly.
    async fn destroy(&self, handle: &Handle) -> Result<()>;

    /// Every container there is, also those made before this program started.
    async fn containers(&self) -> Result<Vec<ContainerInfo>>;

    async fn info(&self, handle: &Handle) -> Result<ContainerInfo>;

    /// Starts a process. Its output and exit outlive this program: see [`Garden::attach`].
    async fn run(&self, handle: &Handle, spec: ProcessSpec) -> Result<Process>;

    /// Takes up a process again after a restart of this program. Output starts at the byte `from`
    /// ([`Output::end`] of the last piece that was dealt with; 0 for all that is kept).
    async fn attach(&self, handle: &Handle, process: &ProcessId, from: u64) -> Result<Process>;

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

    async fn set_property(&self, handle: &Handle, key: &str, value: &str) -> Result<()>;
}
