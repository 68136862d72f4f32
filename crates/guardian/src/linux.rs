//! Containers that are isolated: every namespace, an id range, limits, filtered system calls and a network of their own.
//! It needs root, and a host on which [`check()`] finds nothing missing.

mod ahead;
mod cgroups;
mod check;
mod config;
mod descriptors;
pub(crate) mod disk;
mod dns;
mod egress;
mod firewall;
mod making;
mod netlink;
mod network;
mod nft;
mod ports;
mod seccomp;
mod spares;
mod take_up;
mod watcher;

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, bail};
use async_trait::async_trait;
use garden::{
    Capacity, ContainerSpec, EgressRule, GardenError, Handle, Limits, Metrics, PortMapping,
    ProcessSpec, Result,
};
use shim::wire::Blob;

pub use check::{Check, check};
pub use config::{Config, DiskLimits, Network};

use crate::containers::{Container, Containers, Record, capacity, lock, memory_mb};
use crate::hosted::{Backend, Hosted};
use disk::Disk;
use nft::{Member, Nft};
use ports::HostPorts;
use spares::Spares;

/// Ids a container has.
const IDS: u32 = 65_536;

/// See the module.
pub type LinuxGarden = Hosted<Linux>;

/// What a host gives to isolated containers.
pub struct Linux {
    config: Config,
    containers: Containers,
    spares: Arc<Spares>,
    nft: Nft,
    disk: Disk,
    ports: HostPorts,
    filters: Vec<Blob>,
    /// Held as long as this program uses the state folder.
    _lock: OwnedFd,
}

impl LinuxGarden {
    /// Takes up the containers an earlier life left running, and clears away what it left broken.
    pub async fn open(mut config: Config) -> anyhow::Result<LinuxGarden> {
        if let Some(missing) = check().into_iter().find(|check| !check.ok) {
            bail!(
                "this host cannot isolate containers: {}: {}: {}",
                missing.name,
                missing.detail,
                missing.remedy
            );
        }
        descriptors::make_room(config.max_containers);
        fs::create_dir_all(&config.state_dir).context("making the state folder")?;
        config.state_dir =
            fs::canonicalize(&config.state_dir).context("finding the state folder")?;
        let lock = lock(&config.state_dir).await?;
        let names = dns::bind(&config)
            .with_context(|| format!("taking {} for this platform's containers", config.network))?;
        let containers = Containers::open(&config.state_dir).context("opening the state folder")?;
        let linux = Arc::new(take_up::open(config, containers, lock).await?);
        let (tasks, stop) = (&linux.containers.tasks, &linux.containers.stop);
        dns::serve(&linux.config, names, tasks, stop);
        tasks.spawn(ahead::refill(linux.clone(), stop.clone()));
        watcher::begin(&linux);
        firewall::open(&linux.config).await;
        Ok(Hosted::new(linux))
    }

    /// What is done about containers that write too much, in an operator's words.
    pub fn disk_limits(&self) -> &'static str {
        self.0.disk.limits()
    }

    /// Ends this program's part. With `remove`, nothing of any container or of the platform is left on the host; without,
    /// containers run on and the next [`LinuxGarden::open`] finds them.
    pub async fn shutdown(&self, remove: bool) -> anyhow::Result<()> {
        let linux = &self.0;
        self.end(remove).await;
        let spares = linux.spares.clone();
        tokio::task::spawn_blocking(move || spares.drain()).await?;
        if remove {
            linux.nft.delete_table().await.context("removing the packet filter's table")?;
            let closed = firewall::close(&linux.config).await;
            closed.context("taking the platform's rules out of the host's firewall")?;
            take_up::give_back(&linux.spares, &linux.disk, &linux.config.state_dir)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Linux {
    fn containers(&self) -> &Containers {
        &self.containers
    }

    fn max_containers(&self) -> u32 {
        self.config.max_containers
    }

    fn is_isolated(&self) -> bool {
        true
    }

    fn capacity(&self) -> Result<Capacity> {
        let Config { state_dir, memory_mb, disk_mb, max_containers, .. } = &self.config;
        capacity(state_dir, *memory_mb, *disk_mb, *max_containers, || self.all_written())
    }

    fn written(&self, container: &Container) -> u64 {
        self.disk.used(container.record().index, container.keeper_pid)
    }

    async fn make(self: Arc<Self>, handle: Handle, spec: ContainerSpec) -> Result<Arc<Container>> {
        making::make(self, handle, spec).await
    }

    async fn unmake(self: Arc<Self>, record: Record) {
        if let Ok(member) = Member::of(&record) {
            self.leave_filter(&member).await;
        }
        self.clear(record.index).await;
        self.ports.release(&record.ports);
    }

    fn metrics(&self, container: &Container) -> Result<Metrics> {
        let record = container.record();
        let (rx_bytes, tx_bytes) = self.spares.wiring.traffic(record.index);
        let disk_bytes = self.written(container);
        let age = self.config.clock.now().since(record.created_at);
        let cores = self.entitled_cores(record.spec.limits.memory_bytes)?;
        let cpu_entitlement_nanos = (age.as_secs_f64() * 1e9 * cores) as u64;
        let counted = self.spares.group(record.index).metrics();
        Ok(Metrics { disk_bytes, rx_bytes, tx_bytes, age, cpu_entitlement_nanos, ..counted })
    }

    fn process(&self, _: &Container, spec: ProcessSpec) -> Result<ProcessSpec> {
        Ok(spec)
    }

    fn path(&self, _: &Container, path: &str) -> String {
        path.into()
    }

    fn limit(&self, record: &Record, limits: &Limits) -> Result<()> {
        let before = record.spec.limits;
        if limits.disk_bytes != before.disk_bytes {
            let set = self.disk.set_limit(record.index, limits.disk_bytes);
            set.map_err(|error| match error.kind() {
                std::io::ErrorKind::Unsupported => {
                    GardenError::Unsupported("changing the limit of a container's disk")
                }
                _ => GardenError::failed("limiting the container's disk", error),
            })?;
        }
        let group = self.spares.group(record.index);
        group.change(&before, limits).map_err(|error| {
            // All or nothing; what was can be again.
            let _ = self.disk.set_limit(record.index, before.disk_bytes);
            GardenError::failed("limiting the container", error)
        })
    }

    async fn map_port(
        &self,
        record: &Record,
        port: u16,
        host_port: Option<u16>,
    ) -> Result<PortMapping> {
        let mapping = match host_port {
            Some(host_port) => self.ports.claim(port, host_port)?,
            None => self.ports.allocate(&[port])?[0],
        };
        self.nft.map_port(record.container_ip, &mapping).await.map_err(|error| {
            self.ports.release(&[mapping]);
            GardenError::failed("filtering packets", error)
        })?;
        Ok(mapping)
    }

    async fn allow(&self, record: &Record, rules: &[EgressRule]) -> Result<()> {
        let after = Member { chain: egress::chain(rules)?, ..Member::of(record)? };
        let changed = self.nft.replace(&Member::of(record)?, &after).await;
        changed.map_err(|error| GardenError::failed("filtering packets", error))
    }
}

impl Linux {
    /// The part of the host's cores that goes with a part of its memory; all of them without a limit.
    fn entitled_cores(&self, memory_bytes: u64) -> Result<f64> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let all = memory_mb(self.config.memory_mb)? << 20;
        let part = if memory_bytes == 0 { 1.0 } else { memory_bytes as f64 / all.max(1) as f64 };
        Ok(cores * part.min(1.0))
    }
}
