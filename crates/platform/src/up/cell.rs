//! The cell of `cupola up`: garden, executor and rep, with the cell's own HTTP API on loopback.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use anyhow::Context as _;
use base::http::Secret;
use base::{CancellationToken, Clock, TaskTracker};
use diego::Bbs;
use envelope::Sink;
use executor::Executor;
use garden::Garden;
use guardian::linux::{LinuxGarden, Network};
use guardian::process::ProcessGarden;
use rep::Rep;
use tokio::net::TcpListener;
use tracing::{error, warn};

use crate::data_dir::DataDir;
use crate::door::Door;
use crate::operator::Containers as About;
use crate::settings::{Backend, Settings};

pub(super) struct Cell {
    containers: Containers,
    rep: Arc<Rep>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

enum Containers {
    Linux(Arc<LinuxGarden>),
    Process(Arc<ProcessGarden>),
}

impl Cell {
    pub(super) async fn start(
        settings: &Settings,
        data: &DataDir,
        secret: &Secret,
        bbs: Arc<dyn Bbs>,
        sink: Arc<dyn Sink>,
        clock: &Clock,
        door: &Door,
    ) -> anyhow::Result<Cell> {
        let (containers, garden) = containers(settings, data, clock, door).await?;
        let store = image::Store::open(image::Config {
            dir: data.folder("images")?,
            stacks: settings.stacks.iter().cloned().collect::<BTreeSet<_>>(),
            limits: image::Limits::default(),
        })?;
        let config = executor::Config {
            cell_id: CELL.to_owned(),
            dir: data.folder("executor")?,
            memory_mb: settings.memory_mb,
            disk_mb: settings.disk_mb,
            ..executor::Config::default()
        };
        let executor = Executor::new(garden, Arc::new(store), sink, config, clock.clone())?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening for the brain")?;
        let mut config = rep::Config::new(
            CELL.into(),
            format!("http://{}", listener.local_addr()?),
            secret.clone(),
        );
        config.stacks = settings.stacks.clone();
        // Images need a registry client, which this cell has not.
        config.images = false;
        let rep = Rep::new(config, bbs, executor);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (router, until) = (rep.router(), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = base::http::serve(listener, router, until).await {
                error!(%error, "the cell's API ended");
            }
        });
        let (running, until) = (rep.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = running.run(until).await {
                error!(error = %format!("{error:#}"), "the cell ended");
            }
        });
        Ok(Cell { containers, rep, stop, tasks })
    }

    /// For the operator.
    pub(super) fn about(&self) -> About {
        match &self.containers {
            Containers::Linux(garden) => About {
                backend: "linux".to_owned(),
                isolation: "namespaces, control groups, filtered system calls".to_owned(),
                disk_limits: garden.disk_limits().to_owned(),
            },
            Containers::Process(garden) => About {
                backend: "process".to_owned(),
                isolation: garden.isolation().to_owned(),
                disk_limits: "none".to_owned(),
            },
        }
    }

    /// With `remove` all containers go, and every trace of them on the host; without, they run on.
    pub(super) async fn stop(self, remove: bool) -> anyhow::Result<()> {
        if remove {
            self.rep.clear().await;
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        match self.containers {
            Containers::Linux(garden) => garden.shutdown(remove).await,
            Containers::Process(garden) => garden.shutdown(remove).await,
        }
    }
}

/// The only cell of this platform.
const CELL: &str = "cell-0";

async fn containers(
    settings: &Settings,
    data: &DataDir,
    clock: &Clock,
    door: &Door,
) -> anyhow::Result<(Containers, Arc<dyn Garden>)> {
    let dir = data.folder("containers")?;
    match settings.backend {
        Backend::Linux => {
            // Until its network shows in the routes, another platform would choose the same.
            let _turn = tokio::task::spawn_blocking(turn).await??;
            let mut config = guardian::linux::Config::new(dir, &instance(data)?);
            config.clock = clock.clone();
            config.memory_mb = settings.memory_mb;
            config.disk_mb = settings.disk_mb;
            if let Some(network) = &settings.container_network {
                let range = Network::parse(network);
                config.network = range.with_context(|| {
                    format!("container_network: {network:?} is no range such as 10.254.0.0/16")
                })?;
            } else {
                config.network = free_network(data)?;
            }
            // Apps reach the platform and each other by the same names as the world does.
            let gateway = config.network.gateway();
            config.dns_overrides = vec![(settings.domain.clone(), gateway)];
            config.allow_host = vec![(
                gateway,
                vec![door.http.local_addr()?.port(), door.https.local_addr()?.port()],
            )];
            let garden =
                Arc::new(LinuxGarden::open(config).await.context("preparing for containers")?);
            Ok((Containers::Linux(garden.clone()), garden))
        }
        Backend::Process => {
            let config = guardian::process::Config {
                clock: clock.clone(),
                memory_mb: settings.memory_mb,
                disk_mb: settings.disk_mb,
                ..guardian::process::Config::new(dir)
            };
            let garden = ProcessGarden::open(config).await.context("preparing for processes")?;
            let garden = Arc::new(garden);
            warn!("{}", garden.isolation());
            Ok((Containers::Process(garden.clone()), garden))
        }
    }
}

/// Waits until no other platform on this machine is choosing its network; nobody chooses until the file is dropped.
pub(crate) fn turn() -> anyhow::Result<File> {
    let path = "/run/cupola.lock";
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("opening {path}"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Tells this platform's interfaces and cgroups from those of another one on the same machine; kept, for containers outlive us.
fn instance(data: &DataDir) -> anyhow::Result<String> {
    data.kept("instance", || base::new_guid()[..8].to_owned())
}

/// Chosen once, for containers outlive us: the first /16 from 10.254 downwards that no route of this machine leads to.
fn free_network(data: &DataDir) -> anyhow::Result<Network> {
    let routes =
        std::fs::read_to_string("/proc/net/route").context("reading this machine's routes")?;
    let kept = data.kept("container-network", || {
        free(&routes).unwrap_or_else(|| "10.254.0.0/16".to_owned())
    })?;
    Network::parse(&kept)
        .with_context(|| format!("{} holds no range", data.file("container-network").display()))
}

/// A /16 below 10.0.0.0/8 that no route leads to. `routes` as `/proc/net/route` has them: hexadecimal, in the byte order of this machine.
pub(crate) fn free(routes: &str) -> Option<String> {
    let taken: BTreeSet<[u8; 2]> = routes
        .lines()
        .skip(1)
        .filter_map(|line| u32::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok())
        .map(|destination| destination.to_ne_bytes())
        .map(|[first, second, ..]| [first, second])
        .collect();
    (0..=254)
        .rev()
        .find(|second| !taken.contains(&[10, *second]))
        .map(|second| format!("10.{second}.0.0/16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_in_use_is_passed_over() {
        let route =
            |address: [u8; 4]| format!("eth0\t{:08X}\t00000000\n", u32::from_ne_bytes(address));
        let header = "Iface\tDestination\tGateway\n";
        assert_eq!(free(header).as_deref(), Some("10.254.0.0/16"));
        let routes = format!(
            "{header}{}{}{}",
            route([10, 254, 3, 0]),
            route([10, 253, 0, 0]),
            route([192, 168, 0, 0])
        );
        assert_eq!(free(&routes).as_deref(), Some("10.252.0.0/16"));
    }
}
