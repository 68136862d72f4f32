//! Containers where isolation is not to be had: processes of this program's own user, with a folder of their own. Where
//! the host lets ordinary users make namespaces, they at least see their own files and processes; nothing is limited.

mod paths;
mod usage;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use base::Clock;
use garden::{
    Capacity, ContainerInfo, ContainerSpec, Garden, GardenError, Handle, Metrics, PortMapping,
    Process, ProcessId, ProcessSignal, ProcessSpec, Result, Tar,
};
use parking_lot::Mutex;
use shim::wire::{Bind, Isolation, Rootfs, Start};
use tracing::{info, warn};

use crate::containers::{
    Container, Containers, Record, host_memory_mb, lock, make_keeper_folders, remove_tree, save,
    text, to_the_end,
};
use crate::furnish::{self, Identity};
use paths::Paths;

/// The one id inside a rootless container.
const VCAP: u32 = 2000;

/// Everything [`ProcessGarden`] is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub state_dir: PathBuf,
    /// Where processes say they can be reached.
    pub host_ip: Ipv4Addr,
    pub max_containers: u32,
    /// How much of a process's output is kept; the older half gives way.
    pub output_bytes: u64,
    /// Instead of what the host has.
    pub memory_mb: Option<u64>,
    pub disk_mb: Option<u64>,
    /// Do not even try to make namespaces.
    pub plain: bool,
    pub clock: Clock,
}

impl Config {
    /// The usual choices.
    pub fn new(state_dir: PathBuf) -> Config {
        Config {
            state_dir,
            host_ip: Ipv4Addr::LOCALHOST,
            max_containers: 250,
            output_bytes: 4 << 20,
            memory_mb: None,
            disk_mb: None,
            plain: false,
            clock: Clock::system(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rootless,
    Plain,
}

/// See the module.
pub struct ProcessGarden(Arc<Inner>);

struct Inner {
    config: Config,
    kind: Kind,
    containers: Containers,
    numbers: Mutex<Numbers>,
    _lock: OwnedFd,
}

#[derive(Default)]
struct Numbers {
    next: u32,
    ports: HashSet<u16>,
}

impl ProcessGarden {
    /// Takes up what an earlier life left running.
    pub async fn open(mut config: Config) -> anyhow::Result<ProcessGarden> {
        fs::create_dir_all(&config.state_dir).context("making the state folder")?;
        config.state_dir =
            fs::canonicalize(&config.state_dir).context("finding the state folder")?;
        let lock = lock(&config.state_dir).await?;
        let containers = Containers::open(&config.state_dir).context("opening the state folder")?;
        for (index, _) in containers.recover().await.context("looking for containers")? {
            info!(index, "clearing away what is left of a container");
            remove_tree(&containers.folder(index)).context("removing a container's folder")?;
        }
        let mut numbers = Numbers::default();
        for record in containers.all().iter().map(|container| container.record()) {
            numbers.next = numbers.next.max(record.index + 1);
            numbers.ports.extend(record.ports.iter().map(|port| port.host_port));
        }
        let kind = if config.plain || rustix::process::geteuid().is_root() {
            Kind::Plain
        } else {
            probe(&config, &containers).await
        };
        let inner = Inner { config, kind, containers, numbers: Mutex::new(numbers), _lock: lock };
        Ok(ProcessGarden(Arc::new(inner)))
    }

    /// How far containers are kept from the host and each other, in an operator's words.
    pub fn isolation(&self) -> &'static str {
        match self.0.kind {
            Kind::Rootless => "own files and processes; the host's network, no limits",
            Kind::Plain => {
                "none: processes share this host's files, users and network, and have no limits"
            }
        }
    }

    /// Ends this program's part; with `remove`, all containers too.
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
        Ok(())
    }
}

impl Drop for ProcessGarden {
    fn drop(&mut self) {
        self.0.containers.stop.cancel();
    }
}

/// Whether this host lets this user make a container that sees only its own files.
async fn probe(config: &Config, containers: &Containers) -> Kind {
    let dir = config.state_dir.join("probe");
    let tried = async {
        remove_tree(&dir)?;
        make_keeper_folders(&dir, 0)?;
        let lower = dir.join("lower");
        fs::create_dir(&lower)?;
        let record = Record {
            index: 0,
            handle: Handle::from("probe"),
            spec: ContainerSpec {
                rootfs: garden::Rootfs { lower, binds: Vec::new() },
                ..ContainerSpec::default()
            },
            ports: Vec::new(),
            host_ip: config.host_ip,
            container_ip: config.host_ip,
            created_at: config.clock.now(),
            owner: 0,
        };
        let start = rootless(&record, &dir, config)?;
        containers.program.spawn()?.start(&start)?;
        Container::find(dir.clone(), record).await?.end(true).await?;
        anyhow::Ok(())
    };
    let kind = match tried.await {
        Ok(()) => Kind::Rootless,
        Err(error) => {
            info!(error = %format!("{error:#}"), "no namespaces for ordinary users here");
            Kind::Plain
        }
    };
    if let Err(error) = remove_tree(&dir) {
        warn!(%error, "removing a trial container");
    }
    kind
}

impl Inner {
    async fn create(self: Arc<Self>, mut spec: ContainerSpec) -> Result<ContainerInfo> {
        let handle = spec.handle.get_or_insert_with(Handle::random).clone();
        self.containers.reserve(&handle, self.config.max_containers)?;
        let made = self.make(handle.clone(), spec).await;
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

    async fn make(self: &Arc<Self>, handle: Handle, spec: ContainerSpec) -> Result<Arc<Container>> {
        let ports = self.ports(&spec.ports)?;
        let index = {
            let mut numbers = self.numbers.lock();
            numbers.next += 1;
            numbers.next
        };
        let host_ip = self.config.host_ip;
        let created_at = self.config.clock.now();
        let record = Record {
            index,
            handle,
            spec,
            ports,
            host_ip,
            container_ip: host_ip,
            created_at,
            owner: 0,
        };
        let (inner, building) = (self.clone(), record.clone());
        let built = tokio::task::spawn_blocking(move || inner.build(&building)).await;
        let built = built
            .map_err(|error| GardenError::failed("making a container", error))
            .and_then(|built| built);
        let dir = self.containers.folder(index);
        let made = match built {
            Ok(()) => Container::find(dir.clone(), record.clone())
                .await
                .map_err(|error| GardenError::failed("finding the container just made", error)),
            Err(error) => Err(error),
        };
        if made.is_err() {
            self.clear(&record).await;
        }
        made
    }

    fn build(&self, record: &Record) -> Result<()> {
        let fail = |what: &'static str| move |error| GardenError::failed(what, error);
        let dir = self.containers.folder(record.index);
        make_keeper_folders(&dir, 0).map_err(fail("making the container's folder"))?;
        save(&dir, record).map_err(fail("keeping the container's record"))?;
        let start = match self.kind {
            Kind::Rootless => rootless(record, &dir, &self.config)?,
            Kind::Plain => {
                furnish_plain(record, &dir.join("root"))
                    .map_err(fail("filling the container's folder"))?;
                let isolation = Isolation::Plain(());
                Start {
                    isolation,
                    dir: text(&dir)?,
                    segment_bytes: self.config.output_bytes / 2,
                    ..Start::default()
                }
            }
        };
        let shim = self.containers.program.spawn().map_err(fail("starting a shim"))?;
        shim.start(&start)
    }

    /// Free at this moment; nobody can promise more on a network that is shared.
    fn ports(&self, asked: &[u16]) -> Result<Vec<PortMapping>> {
        let mut numbers = self.numbers.lock();
        let mut held = Vec::new();
        let mut mappings = Vec::new();
        for _ in 0..asked.len() + 1000 {
            let Some(asked_port) = asked.get(mappings.len()).copied() else { break };
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))
                .map_err(|error| GardenError::failed("finding a free port", error))?;
            let port = listener
                .local_addr()
                .map_err(|error| GardenError::failed("finding a free port", error))?
                .port();
            // Held until all are found, so that none is found twice.
            held.push(listener);
            if numbers.ports.insert(port) {
                mappings.push(PortMapping { asked_port, container_port: port, host_port: port });
            }
        }
        if mappings.len() == asked.len() {
            Ok(mappings)
        } else {
            Err(GardenError::Exhausted("host ports"))
        }
    }

    async fn destroy(self: Arc<Self>, handle: Handle) -> Result<()> {
        let Some(container) = self.containers.take(&handle) else { return Ok(()) };
        let record = container.record();
        if let Err(error) = container.end(self.kind == Kind::Rootless).await {
            self.containers.put(container);
            return Err(GardenError::failed("ending the container", error));
        }
        self.clear(&record).await;
        self.containers.release(&handle);
        Ok(())
    }

    async fn clear(&self, record: &Record) {
        let folder = self.containers.folder(record.index);
        let removed = tokio::task::spawn_blocking(move || remove_tree(&folder)).await;
        if let Err(error) = removed.map_err(io::Error::from).and_then(|removed| removed) {
            warn!(index = record.index, %error, "a container's files stay behind");
        }
        let mut numbers = self.numbers.lock();
        record.ports.iter().for_each(|port| _ = numbers.ports.remove(&port.host_port));
    }

    /// Where paths of this container really lead; `None` when they lead where they say.
    fn paths(&self, handle: &Handle) -> Result<Option<Paths>> {
        let container = self.containers.get(handle)?;
        Ok((self.kind == Kind::Plain).then(|| {
            let spec = container.record().spec;
            let root = container.dir.join("root");
            let mounts = spec.mounts.iter().map(|mount| mount.target.clone());
            Paths::new(
                &self.config.state_dir,
                &root,
                mounts.chain(spec.layers.iter().flat_map(|layer| own_folders(layer))),
            )
        }))
    }

    fn path(&self, handle: &Handle, path: &str) -> Result<String> {
        Ok(self.paths(handle)?.map_or_else(|| path.to_owned(), |paths| paths.rewrite(path)))
    }

    /// A process as it can run here: with real paths, and what it needs to find its own.
    fn real(&self, handle: &Handle, mut spec: ProcessSpec) -> Result<ProcessSpec> {
        let Some(paths) = self.paths(handle)? else { return Ok(spec) };
        let record = self.containers.get(handle)?.record();
        let mut env = vec![
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
            ("HOME".into(), paths.rewrite("/home/vcap")),
            ("TMPDIR".into(), paths.rewrite("/tmp")),
            ("USER".into(), spec.user.clone()),
            ("CUPOLA_ROOT".into(), text(&self.containers.folder(record.index).join("root"))?),
        ];
        // The container's own environment comes again, since what it says of paths must be rewritten as well.
        let given = record.spec.env.iter().chain(&spec.env);
        env.extend(given.map(|(key, value)| (key.clone(), paths.rewrite(value))));
        spec.env = env;
        spec.path = paths.rewrite(&spec.path);
        spec.args.iter_mut().for_each(|arg| *arg = paths.rewrite(arg));
        spec.dir = paths.rewrite(if spec.dir.is_empty() { "/home/vcap" } else { &spec.dir });
        Ok(spec)
    }

    fn metrics(&self, handle: &Handle) -> Result<Metrics> {
        let container = self.containers.get(handle)?;
        let (memory_bytes, cpu_nanos, pids) = usage::below(container.keeper_pid);
        let folder = if self.kind == Kind::Plain { "root" } else { "upper" };
        let disk_bytes = crate::linux::disk::count(&container.dir.join(folder));
        Ok(Metrics { memory_bytes, disk_bytes, cpu_nanos, pids, ..Metrics::default() })
    }
}

/// A container with its own files and processes, made by an ordinary user.
fn rootless(record: &Record, dir: &Path, config: &Config) -> Result<Start> {
    let fail = |error| GardenError::failed("filling the writable layer", error);
    let layers: Vec<_> =
        std::iter::once(&record.spec.rootfs.lower).chain(&record.spec.layers).collect();
    for folder in (0..layers.len())
        .map(|number| format!("l{number}"))
        .chain(["root", "upper", "work"].map(str::to_owned))
    {
        fs::create_dir(dir.join(folder)).map_err(fail)?;
    }
    let hostname = furnish::hostname(record.handle.as_str());
    let host_file = |path| fs::read_to_string(path).unwrap_or_default();
    let hosts =
        format!("{}\n{}", host_file("/etc/hosts"), furnish::hosts(Ipv4Addr::LOCALHOST, &hostname));
    let identity = Identity {
        hostname: &hostname,
        hosts,
        resolv_conf: host_file("/etc/resolv.conf"),
        owner: None,
    };
    furnish::furnish(&dir.join("upper"), &identity).map_err(fail)?;
    let binds = record.spec.rootfs.binds.iter().chain(&record.spec.mounts).map(|bind| {
        Ok(Bind {
            source: text(&bind.source)?,
            target: text(&bind.target)?,
            writable: bind.writable,
            shifted: false,
        })
    });
    Ok(Start {
        isolation: Isolation::Rootless(VCAP),
        dir: text(dir)?,
        rootfs: Rootfs {
            layers: layers.iter().map(|layer| text(layer)).collect::<Result<_>>()?,
            upper: "upper".into(),
            work: "work".into(),
            binds: binds.collect::<Result<_>>()?,
            cgroups: Vec::new(),
        },
        hostname,
        oom_file: None,
        capabilities: 0,
        filters: Vec::new(),
        segment_bytes: config.output_bytes / 2,
    })
}

/// Layers are copied, since a process without a root of its own would write into them; mounts are links.
fn furnish_plain(record: &Record, root: &Path) -> io::Result<()> {
    for folder in ["home/vcap", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    record.spec.layers.iter().try_for_each(|layer| copy(layer, root))?;
    for mount in &record.spec.mounts {
        let target = root.join(mount.target.strip_prefix("/").unwrap_or(&mount.target));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        std::os::unix::fs::symlink(&mount.source, target)?;
    }
    Ok(())
}

/// Lays `from` over `to`.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
            continue;
        }
        match fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The folders a layer brings that the host does not have, two names deep: `/app`, `/etc/cf`.
fn own_folders(layer: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default()
    };
    let inside = |path: &Path| {
        path.strip_prefix(layer).map(|path| Path::new("/").join(path)).unwrap_or_default()
    };
    let mut found = Vec::new();
    for first in list(layer) {
        if !inside(&first).exists() {
            found.push(inside(&first));
        } else if first.is_dir() {
            found.extend(
                list(&first).iter().map(|second| inside(second)).filter(|second| !second.exists()),
            );
        }
    }
    found
}

#[async_trait]
impl Garden for ProcessGarden {
    async fn capacity(&self) -> Result<Capacity> {
        let config = &self.0.config;
        let memory_mb = match config.memory_mb {
            Some(memory_mb) => memory_mb,
            None => {
                host_memory_mb().map_err(|error| GardenError::failed("counting memory", error))?
            }
        };
        let free = || {
            rustix::fs::statvfs(&config.state_dir)
                .map(|about| about.f_bavail.saturating_mul(about.f_frsize) >> 20)
        };
        let disk_mb = match config.disk_mb {
            Some(disk_mb) => disk_mb,
            None => free()
                .map_err(|error| GardenError::failed("counting disk", io::Error::from(error)))?,
        };
        Ok(Capacity { memory_mb, disk_mb, containers: config.max_containers.into() })
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
        let spec = self.0.real(handle, spec)?;
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
        self.0.containers.stream_in(handle, &self.0.path(handle, path)?, user, tar).await
    }

    async fn stream_out(&self, handle: &Handle, path: &str, user: &str) -> Result<Tar> {
        self.0.containers.stream_out(handle, &self.0.path(handle, path)?, user).await
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
