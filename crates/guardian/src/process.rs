//! Containers where isolation is not to be had: processes of this program's own user, with a folder of their own. Where
//! the host lets ordinary users make namespaces, they at least see their own files and processes; nothing is limited.

mod config;
mod making;
mod paths;
mod plain;
mod rootless;
mod usage;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use garden::{
    Capacity, ContainerSpec, EgressRule, GardenError, Handle, Limits, Metrics, PortMapping,
    ProcessSpec, Result,
};
use parking_lot::Mutex;
use tracing::{info, warn};

pub use config::Config;

use crate::containers::{Container, Containers, Record, capacity, lock, remove_tree, text};
use crate::hosted::{Backend, Hosted};
use paths::Paths;

/// See the module.
pub type ProcessGarden = Hosted<Processes>;

/// What a host gives to plain processes.
pub struct Processes {
    config: Config,
    kind: Kind,
    containers: Containers,
    numbers: Mutex<Numbers>,
    _lock: OwnedFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rootless,
    Plain,
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
            rootless::probe(&config, &containers).await
        };
        let processes =
            Processes { config, kind, containers, numbers: Mutex::new(numbers), _lock: lock };
        Ok(Hosted::new(Arc::new(processes)))
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
        self.end(remove).await;
        Ok(())
    }
}

#[async_trait]
impl Backend for Processes {
    fn containers(&self) -> &Containers {
        &self.containers
    }

    fn max_containers(&self) -> u32 {
        self.config.max_containers
    }

    fn is_isolated(&self) -> bool {
        self.kind == Kind::Rootless
    }

    fn capacity(&self) -> Result<Capacity> {
        let Config { state_dir, memory_mb, disk_mb, max_containers, .. } = &self.config;
        capacity(state_dir, *memory_mb, *disk_mb, *max_containers, || self.all_written())
    }

    fn written(&self, container: &Container) -> u64 {
        let folder = if self.kind == Kind::Plain { "root" } else { "upper" };
        crate::linux::disk::count(&container.dir.join(folder))
    }

    async fn make(self: Arc<Self>, handle: Handle, spec: ContainerSpec) -> Result<Arc<Container>> {
        making::make(self, handle, spec).await
    }

    async fn unmake(self: Arc<Self>, record: Record) {
        self.clear(&record).await;
    }

    fn metrics(&self, container: &Container) -> Result<Metrics> {
        let (memory_bytes, cpu_nanos, pids) = usage::below(container.keeper_pid);
        let disk_bytes = self.written(container);
        let age = self.config.clock.now().since(container.record().created_at);
        Ok(Metrics { memory_bytes, disk_bytes, cpu_nanos, pids, age, ..Metrics::default() })
    }

    /// A process as it can run here: with real paths, and what it needs to find its own.
    fn process(&self, container: &Container, mut spec: ProcessSpec) -> Result<ProcessSpec> {
        let Some(paths) = self.paths(container) else { return Ok(spec) };
        let record = container.record();
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

    fn path(&self, container: &Container, path: &str) -> String {
        self.paths(container).map_or_else(|| path.to_owned(), |paths| paths.rewrite(path))
    }

    fn limit(&self, _: &Record, _: &Limits) -> Result<()> {
        Ok(())
    }

    async fn map_port(
        &self,
        _: &Record,
        asked_port: u16,
        host_port: Option<u16>,
    ) -> Result<PortMapping> {
        let Some(port) = host_port else { return Ok(self.map_ports(&[asked_port])?[0]) };
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if !free || !self.numbers.lock().ports.insert(port) {
            return Err(GardenError::PortTaken(port));
        }
        Ok(PortMapping { asked_port, container_port: port, host_port: port })
    }

    async fn allow(&self, _: &Record, _: &[EgressRule]) -> Result<()> {
        Ok(())
    }
}

impl Processes {
    /// Free at this moment; nobody can promise more on a network that is shared.
    fn map_ports(&self, asked: &[u16]) -> Result<Vec<PortMapping>> {
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
    fn paths(&self, container: &Container) -> Option<Paths> {
        (self.kind == Kind::Plain).then(|| {
            let spec = container.record().spec;
            let root = container.dir.join("root");
            let mounts = spec.mounts.iter().map(|mount| mount.target.clone());
            Paths::new(
                &self.config.state_dir,
                &root,
                mounts.chain(spec.layers.iter().flat_map(|layer| plain::own_folders(layer))),
            )
        })
    }
}
