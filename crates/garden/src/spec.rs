//! What to make, and what there is.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use base::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{EgressRule, Handle, ProcessId};

pub type Properties = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub handle: Option<Handle>,
    pub rootfs: Rootfs,
    /// Read-only folders laid over the root file system, later ones on top; each is rooted at `/` and shared by all
    /// containers that name it. Their files belong to unshifted ids (0 is the container's root, 2000 is vcap).
    pub layers: Vec<PathBuf>,
    pub mounts: Vec<BindMount>,
    /// The base of every process's environment.
    pub env: Vec<(String, String)>,
    pub limits: Limits,
    /// Ports inside that get a port on the host.
    pub ports: Vec<u16>,
    /// Public addresses and the cell's own name service are always decided by these rules, private ones denied unless named.
    pub egress: Vec<EgressRule>,
    pub properties: Properties,
    /// No user namespace and no dropped capabilities.
    pub privileged: bool,
    /// See [`crate::Garden::set_grace_time`].
    #[serde(default)]
    pub grace_time: Option<Duration>,
}

/// A stack as it lies on the cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// The bottom folder, rooted at `/`.
    pub lower: PathBuf,
    /// Host folders that belong to it, such as the host's `/usr`.
    pub binds: Vec<BindMount>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub writable: bool,
}

/// Zero means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub memory_bytes: u64,
    /// The writable layer.
    pub disk_bytes: u64,
    /// cgroup v1's unit: 1024 is one fair share.
    pub cpu_shares: u64,
    pub pids: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    pub handle: Handle,
    pub host_ip: Ipv4Addr,
    /// Equal to `host_ip` where the backend has no network of its own.
    pub container_ip: Ipv4Addr,
    pub ports: Vec<PortMapping>,
    pub properties: Properties,
    pub processes: Vec<ProcessId>,
    pub created_at: Timestamp,
}

/// `container_port` is what the process must listen on: backends without networks of their own choose one themselves,
/// so it can differ from the port that was asked for, which is `asked_port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub asked_port: u16,
    pub container_port: u16,
    pub host_port: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub memory_mb: u64,
    pub disk_mb: u64,
    pub containers: u64,
}

/// What a container uses; 0 where the backend cannot count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// What counts towards the limit, as Cloud Foundry's garden counts its `total_usage_towards_limit`: memory of
    /// processes, and files in memory but for those that nobody has looked at lately.
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// CPU time spent since the container was made.
    pub cpu_nanos: u64,
    /// CPU time it has been entitled to since then: the part of the host's cores that goes with its part of the memory.
    #[serde(default)]
    pub cpu_entitlement_nanos: u64,
    /// Since the container was made.
    #[serde(default)]
    pub age: Duration,
    pub pids: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

/// What a garden keeps of a container: how it was made, with every change since, and what it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub spec: ContainerSpec,
    pub info: ContainerInfo,
}
