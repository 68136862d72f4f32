//! One cell: garden, executor and rep, with the cell's own HTTP API; inside `cupola up`, or alone on its machine.

pub mod network;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base::http::Secret;
use base::tls::TlsListener;
use base::{CancellationToken, Clock, TaskTracker};
use diego::Bbs;
use envelope::Sink;
use executor::Executor;
use garden::Garden;
use guardian::linux::{LinuxGarden, Network};
use guardian::process::ProcessGarden;
use rep::Rep;
use router::tls::Identity;
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use crate::cluster::{CellAuthority, Home};
use crate::data_dir::DataDir;
use crate::operator::Containers as About;
use crate::settings::{Backend, CellTimings, DiskLimits};

/// Diego's.
pub const INSIDE_TTL: Duration = Duration::from_secs(15);

/// What is chosen about a cell, whoever chooses it.
#[derive(Clone, Debug)]
pub struct CellSettings {
    pub cell_id: String,
    pub zone: String,
    pub placement_tags: Vec<String>,
    pub backend: Backend,
    pub stacks: Vec<String>,
    pub memory_mb: Option<u64>,
    pub disk_mb: Option<u64>,
    pub disk_limits: DiskLimits,
    pub container_network: Option<String>,
    pub timings: CellTimings,
    pub crashed: executor::KeepCrashed,
}

/// Where a cell stands.
pub enum Site {
    /// On the platform's machine, known to nobody else; apps find the platform behind these ports.
    Inside { domain: String, ports: Vec<u16> },
    /// Reached by others at this address; its API shows the certificate.
    Outside { address: Ipv4Addr, port: u16, identity: Identity, home: Home },
}

impl Site {
    fn address(&self) -> Ipv4Addr {
        match self {
            Site::Inside { .. } => Ipv4Addr::LOCALHOST,
            Site::Outside { address, .. } => *address,
        }
    }
}

/// What a cell is given by whoever starts it.
pub struct Deps {
    pub bbs: Arc<dyn Bbs>,
    pub sink: Arc<dyn Sink>,
    pub secret: Secret,
    pub clock: Clock,
    /// Signs certificates of containers; without it they have none.
    pub instances: Option<CellAuthority>,
}

pub struct Cell {
    containers: Containers,
    rep: Arc<Rep>,
    url: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

enum Containers {
    Linux(Arc<LinuxGarden>),
    Process(Arc<ProcessGarden>),
}

/// How a cell ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Containers run on, for the next start.
    Leave,
    /// All containers go, and every trace of them on this machine.
    Remove,
}

impl Cell {
    pub async fn start(
        settings: &CellSettings,
        site: &Site,
        data: &DataDir,
        deps: Deps,
    ) -> anyhow::Result<Cell> {
        let Deps { bbs, sink, secret, clock, instances } = deps;
        let limits = executor::Config::default();
        for complaint in executor::host_limits::prepare(limits.containers) {
            warn!("{complaint}");
        }
        let (containers, garden) = containers(settings, site, data, &clock).await?;
        let store = image::Store::open(image::Config {
            dir: data.folder("images")?,
            stacks: settings.stacks.iter().cloned().collect::<BTreeSet<_>>(),
            limits: image::Limits::default(),
        })?;
        let config = executor::Config {
            cell_id: settings.cell_id.clone(),
            dir: data.folder("executor")?,
            memory_mb: settings.memory_mb,
            disk_mb: settings.disk_mb,
            timings: settings.timings.executor.clone(),
            crashed: settings.crashed.clone(),
            ..limits
        };
        let store = Arc::new(store);
        let executor = Executor::new(garden, store.clone(), sink, config, clock)?;
        if let Some(authority) = &instances {
            executor.identify(Arc::new(authority.identities()?))?;
        }
        let port = if let Site::Outside { port, .. } = site { *port } else { 0 };
        let address = SocketAddr::from((site.address(), port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening for the brain on {address}"))?;
        let address = listener.local_addr()?;
        let url = match site {
            Site::Inside { .. } => format!("http://{address}"),
            Site::Outside { .. } => format!("https://{address}"),
        };
        let mut config = rep::Config::new(settings.cell_id.as_str().into(), url.as_str(), secret);
        match (&settings.timings.rep, site) {
            (Some(timings), _) => config.timings = timings.clone(),
            (None, Site::Inside { .. }) => {
                // The brain cannot lose a cell of its own process, so nothing has to be said in a hurry.
                config.timings.presence_ttl = INSIDE_TTL;
                config.timings.announce = INSIDE_TTL / 3;
            }
            (None, Site::Outside { .. }) => {}
        }
        config.stacks = settings.stacks.clone();
        config.zone = settings.zone.clone();
        config.placement_tags = settings.placement_tags.clone();
        // Images need a registry client, which this cell has not.
        config.images = false;
        let rep = Rep::new(config, bbs, executor);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        // All stacks show this machine's system: made now, it is there before the first container wants it.
        if let Some(first) = settings.stacks.first().cloned() {
            tasks.spawn(async move {
                if let Err(error) = store.stack(&first).await {
                    warn!(error = %format!("{error:#}"), "no stack could be made ahead");
                }
            });
        }
        let (router, until) = (rep.router(), stop.clone());
        let tls = match site {
            Site::Inside { .. } => None,
            Site::Outside { identity, .. } => Some(identity.server_config()?),
        };
        tasks.spawn(async move {
            let served = match tls {
                None => base::http::serve(listener, router, until).await,
                Some(config) => match TlsListener::new(listener, config) {
                    Ok(listener) => base::http::serve(listener, router, until).await,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = served {
                error!(%error, "the cell's API ended");
            }
        });
        let (running, until) = (rep.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = running.run(until).await {
                error!(error = %format!("{error:#}"), "the cell ended");
            }
        });
        Ok(Cell { containers, rep, url, stop, tasks })
    }

    /// For the operator.
    pub fn about(&self) -> About {
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

    /// Where its API answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Hands every instance over to other cells; returns when none is left here, or the time for it is up.
    pub async fn evacuate(&self) {
        info!("handing over to other cells");
        self.rep.evacuate();
        self.rep.evacuated().await;
    }

    pub async fn stop(self, end: End) -> anyhow::Result<()> {
        let remove = end == End::Remove;
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

async fn containers(
    settings: &CellSettings,
    site: &Site,
    data: &DataDir,
    clock: &Clock,
) -> anyhow::Result<(Containers, Arc<dyn Garden>)> {
    let dir = data.folder("containers")?;
    match settings.backend {
        Backend::Linux => {
            if let Site::Outside { address, .. } = site {
                anyhow::ensure!(
                    !address.is_loopback(),
                    "isolated containers are not reached at {address}: --cells-listen and --address name addresses by which machines reach each other"
                );
            }
            // Until its network shows in the routes, another platform would choose the same.
            let _turn = tokio::task::spawn_blocking(network::turn).await??;
            let mut config = guardian::linux::Config::new(dir, &network::instance(data)?);
            config.clock = clock.clone();
            config.host_ip = site.address();
            config.memory_mb = settings.memory_mb;
            config.disk_mb = settings.disk_mb;
            config.disk_limits = settings.disk_limits.0;
            if let Some(network) = &settings.container_network {
                let range = Network::parse(network);
                config.network = range.with_context(|| {
                    format!("container_network: {network:?} is no range such as 10.254.0.0/16")
                })?;
            } else {
                config.network = network::free_network(data)?;
            }
            // Apps reach the platform and each other by the same names as the world does.
            let (domain, platform, ports) = match site {
                Site::Inside { domain, ports } => (domain, config.network.gateway(), ports),
                Site::Outside { home, .. } => (&home.domain, home.address, &home.ports),
            };
            config.dns_overrides = vec![(domain.clone(), platform)];
            config.allow_host = vec![(platform, ports.clone())];
            let garden =
                Arc::new(LinuxGarden::open(config).await.context("preparing for containers")?);
            Ok((Containers::Linux(garden.clone()), garden))
        }
        Backend::Process => {
            let config = guardian::process::Config {
                clock: clock.clone(),
                host_ip: site.address(),
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

/// The address this machine has on the way to `target`; nothing is sent.
pub fn address_towards(target: SocketAddr) -> std::io::Result<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(target)?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(std::io::Error::other("only an IPv6 way leads there")),
    }
}
