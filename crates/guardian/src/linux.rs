//! Containers that are isolated: every namespace, an id range, limits, filtered system calls and a network of their own.
//! It needs root, and a host on which [`check()`] finds nothing missing.

mod cgroups;
mod check;
mod config;
mod descriptors;
pub(crate) mod disk;
mod dns;
mod egress;
mod netlink;
mod network;
mod nft;
mod ports;
mod seccomp;
mod spares;
mod watcher;

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use anyhow::{Context, bail};
use async_trait::async_trait;
use garden::{
    Capacity, ContainerInfo, ContainerSpec, Garden, GardenError, Handle, Limits, Metrics, Process,
    ProcessId, ProcessSignal, ProcessSpec, Result, Tar,
};
use shim::wire::{Bind, Blob, Isolation, Rootfs, Start};
use tracing::{info, warn};

pub use check::{Check, check};
pub use config::{Config, DiskLimits, Network};

use crate::containers::{
    Container, Containers, Record, host_memory_mb, lock, make_keeper_folders, remove_tree, save,
    text, to_the_end,
};
use crate::furnish::{self, Identity};
use cgroups::Layout;
use disk::Disk;
use network::Wiring;
use nft::{Member, Nft};
use ports::HostPorts;
use spares::{Spare, Spares, patiently};
use watcher::Watcher;

/// Ids a container has.
const IDS: u32 = 65_536;

/// See the module.
pub struct LinuxGarden(Arc<Inner>);

struct Inner {
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
        let inner = Arc::new(Inner::open(config, containers, lock).await?);
        let (tasks, stop) = (&inner.containers.tasks, &inner.containers.stop);
        dns::serve(&inner.config, names, tasks, stop);
        tasks.spawn(inner.spares.clone().refill(stop.clone()));
        if inner.disk.must_be_watched() && inner.config.disk_limits == DiskLimits::Best {
            // Weak, so that watching does not keep what it watches.
            let (watching, stop) = (Arc::downgrade(&inner), inner.containers.stop.clone());
            inner.containers.tasks.spawn(async move {
                tokio::select! {
                    () = watch_disk(watching) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        Ok(LinuxGarden(inner))
    }

    /// What is done about containers that write too much, in an operator's words.
    pub fn disk_limits(&self) -> &'static str {
        self.0.disk.limits()
    }

    /// Ends this program's part. With `remove`, nothing of any container or of the platform is left on the host; without,
    /// containers run on and the next [`LinuxGarden::open`] finds them.
    pub async fn shutdown(&self, remove: bool) -> anyhow::Result<()> {
        let inner = &self.0;
        if remove {
            let all = inner.containers.all();
            futures::future::join_all(
                all.iter().map(|one| inner.clone().destroy(one.record().handle)),
            )
            .await;
        }
        inner.containers.close().await;
        let spares = inner.spares.clone();
        tokio::task::spawn_blocking(move || spares.drain()).await?;
        if remove {
            inner.nft.delete_table().await.context("removing the packet filter's table")?;
            give_back(&inner.spares, &inner.disk)?;
        }
        Ok(())
    }
}

impl Drop for LinuxGarden {
    fn drop(&mut self) {
        self.0.containers.stop.cancel();
    }
}

/// What belongs to the platform rather than to a container, once there is no container.
fn give_back(spares: &Spares, disk: &Disk) -> anyhow::Result<()> {
    spares.wiring.clear_host().context("taking the host's address away")?;
    spares.layout.remove_parent(&spares.parent).context("removing the control groups")?;
    disk.close().context("removing writable layers")
}

/// Finds what lives and clears what does not. Answers the packet filter's members.
async fn take_up(
    containers: &Containers,
    spares: &Arc<Spares>,
    disk: &Disk,
    ports: &HostPorts,
) -> anyhow::Result<Vec<Member>> {
    let dead = containers.recover().await.context("looking for containers")?;
    let alive: Vec<Record> = containers.all().iter().map(|container| container.record()).collect();
    let lives = |index: u32| alive.iter().any(|record| record.index == index);
    let mut left: Vec<u32> = dead.iter().map(|(index, _)| *index).collect();
    left.extend(
        spares.layout.children(&spares.parent).iter().filter_map(|name| name.parse::<u32>().ok()),
    );
    left.extend(spares.wiring.interfaces());
    left.extend(disk.indexes());
    left.sort_unstable();
    left.dedup();
    for index in left.into_iter().filter(|index| !lives(*index)) {
        info!(index, "clearing away what is left of a container");
        spares.clear(index);
        disk.remove(index).context("removing a writable layer")?;
        remove_tree(&containers.folder(index)).context("removing a container's folder")?;
    }
    for record in &alive {
        spares.occupy(record.index);
        record.ports.iter().for_each(|port| ports.occupy(port.host_port));
    }
    alive
        .iter()
        .map(|record| member(record).context("reading a container's egress rules"))
        .collect()
}

/// Kills whoever is beyond its limit; its owner sees the processes end.
async fn watch_disk(inner: Weak<Inner>) {
    let mut watcher = Watcher::default();
    loop {
        tokio::time::sleep(watcher::EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        let all = inner.containers.all();
        let limits: Vec<_> = all.iter().filter_map(|one| one.disk_limit()).collect();
        let Ok(about) = rustix::fs::statvfs(inner.disk.root()) else { continue };
        let free = about.f_bfree.saturating_mul(about.f_frsize);
        if !watcher.is_due(free, &limits) {
            continue;
        }
        let counting = inner.clone();
        let counted = tokio::task::spawn_blocking(move || {
            let beyond = watcher.beyond(free, &limits, |index| counting.disk.used(index));
            (watcher, beyond)
        });
        let Ok((after, beyond)) = counted.await else { return };
        watcher = after;
        for record in
            all.iter().map(|one| one.record()).filter(|record| beyond.contains(&record.index))
        {
            warn!(handle = %record.handle, "killing a container that has written more than it may");
            if let Err(error) = inner.containers.stop(&record.handle, true).await {
                warn!(handle = %record.handle, %error, "killing a container");
            }
        }
    }
}

fn member(record: &Record) -> std::result::Result<Member, egress::BadDestination> {
    let chain = egress::chain(&record.spec.egress)?;
    Ok(Member { address: record.container_ip, chain, ports: record.ports.clone() })
}

impl Inner {
    async fn open(config: Config, containers: Containers, lock: OwnedFd) -> anyhow::Result<Inner> {
        let layout = Layout::find().context("looking for control groups")?;
        let wiring = Wiring { network: config.network, prefix: config.interface_prefix() };
        let (program, count) = (containers.program.clone(), config.indexes());
        let spares =
            Arc::new(Spares::new(layout, wiring, config.name(), program, config.spares, count));
        let disk = Disk::open(&config).context("opening the disk of writable layers")?;
        let ports = HostPorts::new(config.host_ports.clone());
        let filters = seccomp::filters()
            .context("compiling the system call filters")?
            .into_iter()
            .map(Blob)
            .collect();
        let prepared = async {
            spares.layout.make_parent(&spares.parent).context("making the control groups")?;
            spares
                .wiring
                .prepare_host()
                .context("giving the host its address among the containers")?;
            let members = take_up(&containers, &spares, &disk, &ports).await?;
            let (tasks, stop) = (&containers.tasks, containers.stop.clone());
            Nft::open(&config, &members, tasks, stop)
                .await
                .context("making the packet filter's table")
        };
        match prepared.await {
            Ok(nft) => {
                Ok(Inner { config, containers, spares, nft, disk, ports, filters, _lock: lock })
            }
            Err(error) => {
                containers.close().await;
                if containers.all().is_empty() {
                    // The reason it failed is told, rather than what cannot be taken back because of it.
                    let _ = give_back(&spares, &disk);
                }
                Err(error)
            }
        }
    }

    async fn create(self: Arc<Self>, mut spec: ContainerSpec) -> Result<ContainerInfo> {
        let handle = spec.handle.get_or_insert_with(Handle::random).clone();
        self.containers.reserve(&handle, self.config.max_containers)?;
        let made = self.clone().make(handle.clone(), spec).await;
        match made {
            Ok(container) => {
                let info = container.info();
                self.containers.put(container);
                Ok(info)
            }
            Err(error) => {
                self.containers.release(&handle);
                Err(error)
            }
        }
    }

    async fn make(self: Arc<Self>, handle: Handle, spec: ContainerSpec) -> Result<Arc<Container>> {
        let chain = egress::chain(&spec.egress)
            .map_err(|error| GardenError::failed("reading egress rules", error))?;
        let Spare { index, shim } = self.spares.take().await?;
        let container_ip = self.config.network.container(index);
        let ports = match self.ports.allocate(&spec.ports) {
            Ok(ports) => ports,
            Err(error) => {
                drop(shim);
                self.clear(index).await;
                return Err(error);
            }
        };
        let record = Record {
            index,
            handle,
            ports: ports.clone(),
            host_ip: self.config.host_ip,
            container_ip,
            created_at: self.config.clock.now(),
            owner: if spec.privileged { 0 } else { self.config.first_id + index * IDS },
            spec,
        };
        let member = Member { address: container_ip, chain, ports };
        let (inner, building) = (self.clone(), record.clone());
        let built = tokio::task::spawn_blocking(move || inner.build(&building, shim));
        let (built, joined) = tokio::join!(built, self.nft.add(&member));
        let built = built
            .map_err(|error| GardenError::failed("making a container", error))
            .and_then(|built| built);
        let made = match (built, &joined) {
            (Ok(()), Ok(())) => Container::find(self.containers.folder(index), record)
                .await
                .map_err(|error| GardenError::failed("finding the container just made", error)),
            (Ok(()), Err(error)) => {
                Err(GardenError::failed("filtering packets", error.to_string()))
            }
            (Err(error), _) => Err(error),
        };
        if made.is_err() {
            if joined.is_ok() {
                self.leave_filter(&member).await;
            }
            self.clear(index).await;
            self.ports.release(&member.ports);
        }
        made
    }

    /// Everything on disk, the limits, and then the container itself.
    fn build(&self, record: &Record, shim: crate::keeper::Waiting) -> Result<()> {
        let fail = |what: &'static str| move |error| GardenError::failed(what, error);
        let dir = self.containers.folder(record.index);
        make_keeper_folders(&dir, record.owner).map_err(fail("making the container's folder"))?;
        fs::create_dir(dir.join("root")).map_err(fail("making the container's folder"))?;
        let layers: Vec<_> =
            std::iter::once(&record.spec.rootfs.lower).chain(&record.spec.layers).collect();
        for number in 0..layers.len() {
            fs::create_dir(dir.join(format!("l{number}")))
                .map_err(fail("making the container's folder"))?;
        }
        let Limits { disk_bytes, .. } = record.spec.limits;
        let layer = self
            .disk
            .create(record.index, disk_bytes)
            .map_err(fail("making the writable layer"))?;
        let hostname = furnish::hostname(record.handle.as_str());
        let identity = Identity {
            hostname: &hostname,
            hosts: furnish::hosts(record.container_ip, &hostname),
            resolv_conf: format!("nameserver {}\n", self.config.network.gateway()),
            owner: Some(record.owner),
        };
        furnish::furnish(&layer.upper, &identity).map_err(fail("filling the writable layer"))?;
        let group = self.spares.group(record.index);
        group.limit(&record.spec.limits).map_err(fail("limiting the container"))?;
        save(&dir, record).map_err(fail("keeping the container's record"))?;
        let start = self.start(record, &dir, hostname, &layers, &layer, &group)?;
        shim.start(&start)
    }

    fn start(
        &self,
        record: &Record,
        dir: &std::path::Path,
        hostname: String,
        layers: &[&std::path::PathBuf],
        layer: &disk::Layer,
        group: &cgroups::Group,
    ) -> Result<Start> {
        let shifted = record.owner > 0;
        let binds = record.spec.rootfs.binds.iter().chain(&record.spec.mounts).map(|bind| {
            Ok(Bind {
                source: text(&bind.source)?,
                target: text(&bind.target)?,
                writable: bind.writable,
                shifted,
            })
        });
        let cgroups = group.shown().into_iter().map(|(source, target)| {
            Ok(Bind { source: text(&source)?, target, writable: false, shifted: false })
        });
        Ok(Start {
            isolation: Isolation::Full(record.owner),
            dir: text(dir)?,
            hostname,
            rootfs: Rootfs {
                layers: layers.iter().map(|layer| text(layer)).collect::<Result<_>>()?,
                upper: self.seen_from_folder(&layer.upper)?,
                work: self.seen_from_folder(&layer.work)?,
                binds: binds.collect::<Result<_>>()?,
                cgroups: cgroups.collect::<Result<_>>()?,
            },
            oom_file: group.oom_file().map(|path| text(&path)).transpose()?,
            capabilities: if shifted { seccomp::CAPABILITIES } else { u64::MAX },
            filters: if shifted { self.filters.clone() } else { Vec::new() },
            segment_bytes: self.config.output_bytes / 2,
        })
    }

    /// As seen from a container's folder: containers can read the options of their own root, and learn no host path there.
    fn seen_from_folder(&self, path: &std::path::Path) -> Result<String> {
        let below = path.strip_prefix(&self.config.state_dir);
        below.map_or_else(|_| text(path), |below| text(&std::path::Path::new("../..").join(below)))
    }

    async fn destroy(self: Arc<Self>, handle: Handle) -> Result<()> {
        let Some(container) = self.containers.take(&handle) else { return Ok(()) };
        let record = container.record();
        let ended = container
            .end(true)
            .await
            .map_err(|error| GardenError::failed("ending the container", error));
        if let Err(error) = ended {
            self.containers.put(container);
            return Err(error);
        }
        if let Ok(member) = member(&record) {
            self.leave_filter(&member).await;
        }
        self.clear(record.index).await;
        self.ports.release(&record.ports);
        self.containers.release(&handle);
        Ok(())
    }

    async fn leave_filter(&self, member: &Member) {
        if let Err(error) = self.nft.remove(member).await {
            warn!(%error, address = %member.address, "a container stays in the packet filter");
        }
    }

    /// Takes away everything of a number and gives it back.
    async fn clear(self: &Arc<Self>, index: u32) {
        let inner = self.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            inner.spares.clear(index);
            let folder = inner.containers.folder(index);
            patiently(|| inner.disk.remove(index))?;
            remove_tree(&folder)?;
            inner.spares.release(index);
            std::io::Result::Ok(())
        });
        match cleared.await {
            Ok(Ok(())) => {}
            // The number stays taken until the next start, which tries again.
            Ok(Err(error)) => warn!(index, %error, "a container's files stay behind"),
            Err(error) => warn!(index, %error, "clearing a container away"),
        }
    }

    fn capacity(&self) -> Result<Capacity> {
        let memory_mb = match self.config.memory_mb {
            Some(memory_mb) => memory_mb,
            None => {
                host_memory_mb().map_err(|error| GardenError::failed("counting memory", error))?
            }
        };
        let disk_mb = match self.config.disk_mb {
            Some(disk_mb) => disk_mb,
            None => rustix::fs::statvfs(&self.config.state_dir)
                .map(|about| about.f_bavail.saturating_mul(about.f_frsize) >> 20)
                .map_err(|error| {
                    GardenError::failed("counting disk", std::io::Error::from(error))
                })?,
        };
        Ok(Capacity { memory_mb, disk_mb, containers: self.config.max_containers.into() })
    }

    fn metrics(&self, handle: &Handle) -> Result<Metrics> {
        let record = self.containers.get(handle)?.record();
        let (rx_bytes, tx_bytes) = self.spares.wiring.traffic(record.index);
        let disk_bytes = self.disk.used(record.index);
        Ok(Metrics { disk_bytes, rx_bytes, tx_bytes, ..self.spares.group(record.index).metrics() })
    }
}

#[async_trait]
impl Garden for LinuxGarden {
    async fn capacity(&self) -> Result<Capacity> {
        self.0.capacity()
    }

    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo> {
        to_the_end(self.0.clone().create(spec)).await
    }

    async fn destroy(&self, handle: &Handle) -> Result<()> {
        to_the_end(self.0.clone().destroy(handle.clone())).await
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        Ok(self.0.containers.all().iter().map(|container| container.info()).collect())
    }

    async fn info(&self, handle: &Handle) -> Result<ContainerInfo> {
        Ok(self.0.containers.get(handle)?.info())
    }

    async fn run(&self, handle: &Handle, spec: ProcessSpec) -> Result<Process> {
        self.0.containers.run(handle, spec).await
    }

    async fn attach(&self, handle: &Handle, process: &ProcessId, from: u64) -> Result<Process> {
        self.0.containers.attach(handle, process, from).await
    }

    async fn signal(
        &self,
        handle: &Handle,
        process: &ProcessId,
        signal: ProcessSignal,
    ) -> Result<()> {
        self.0.containers.signal(handle, process, signal).await
    }

    async fn stop(&self, handle: &Handle, kill: bool) -> Result<()> {
        self.0.containers.stop(handle, kill).await
    }

    async fn stream_in(&self, handle: &Handle, path: &str, user: &str, tar: Tar) -> Result<()> {
        self.0.containers.stream_in(handle, path, user, tar).await
    }

    async fn stream_out(&self, handle: &Handle, path: &str, user: &str) -> Result<Tar> {
        self.0.containers.stream_out(handle, path, user).await
    }

    async fn metrics(&self, handle: &Handle) -> Result<Metrics> {
        let (inner, handle) = (self.0.clone(), handle.clone());
        let counted = tokio::task::spawn_blocking(move || inner.metrics(&handle)).await;
        counted.map_err(|error| GardenError::failed("counting", error))?
    }

    async fn set_property(&self, handle: &Handle, key: &str, value: &str) -> Result<()> {
        self.0.containers.set_property(handle, key, value)
    }
}
