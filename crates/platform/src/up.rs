//! `cupola up`: every role in one process. What is started here, and in which order, is the whole wiring.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use base::http::Secret;
use base::tls::TlsListener;
use base::{CancellationToken, Clock, Shutdown, Signal, TaskTracker};
use bytes::Bytes;
use cloud_controller::CloudController;
use cloud_controller::auth::Identity;
use cloud_controller::config::{StackConfig, SystemBuildpack};
use envelope::Sink;
use loggregator::Loggregator;
use router::Router;
use router::tls::{Identity as Certificate, ServerConfig};
use sql::Db;
use tokio::net::TcpListener;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;
use uaa::Uaa;

use crate::cell::{Cell, CellSettings, Deps, End, INSIDE_TTL, Site};
use crate::cluster::{Admission, Authority, Home, JoinToken, receiver};
use crate::data_dir::{self, DataDir, Running};
use crate::door::Door;
use crate::glue::{FromLogs, LogAccess};
use crate::operator::{self, Insight};
use crate::settings::{Settings, UpArgs};

const RECEPTOR_PORT: u16 = 8887;
/// The cell that is always there.
const CELL: &str = "cell-0";
const LIFECYCLE: &[u8] = include_bytes!(env!("CUPOLA_LIFECYCLE_BUNDLE"));
/// The platform's own names below its domain.
const NAMES: [&str; 7] = ["api", "uaa", "login", "log-cache", "doppler", "log-stream", "ssh"];

pub fn main(args: UpArgs) -> anyhow::Result<()> {
    let settings = args.resolve()?;
    let filter = EnvFilter::try_new(&settings.log).context("log: no such level or filter")?;
    crate::start_logging(filter);
    base::http::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(up(settings));
    // Whatever still runs was told to stop and had its time.
    runtime.shutdown_background();
    result
}

async fn up(settings: Settings) -> anyhow::Result<()> {
    // Before there is anything that a signal could leave behind.
    let mut shutdown = Shutdown::listen()?;
    let data = DataDir::open(&settings.data)?;
    // Uploads lie beside where they will be kept, and a crash leaves none behind.
    if tempfile::env::override_temp_dir(&data.scratch("tmp")?).is_err() {
        bail!("the folder for temporary files was chosen before");
    }
    let (started, asked) = {
        let starting = start(&settings, &data);
        tokio::pin!(starting);
        let mut asked = None;
        loop {
            tokio::select! {
                started = &mut starting => break (started?, asked),
                signal = shutdown.signal() => {
                    ensure!(asked.replace(signal).is_none(), "stopped while starting");
                    eprintln!("stopping as soon as everything has started; once more stops at once");
                }
            }
        }
    };
    let (platform, serving) = started;
    let signal = match asked {
        Some(signal) => signal,
        None => shutdown.signal().await,
    };
    data.retract();
    serving.cancel();
    platform.stop(signal).await
}

/// Answers when all is there, with the token that shuts the door.
async fn start(
    settings: &Settings,
    data: &DataDir,
) -> anyhow::Result<(Platform, CancellationToken)> {
    let door = Door::open(settings).await?;
    // A certificate that does not fit is told before any container is touched.
    let tls =
        certificate(data, settings)?.server_config().context("tls_certificate and tls_key")?;
    let platform = Platform::start(settings, data, &door).await?;
    let (http, https) = door.urls(&format!("api.{}", settings.domain))?;
    let running = Running {
        internal: platform.internal_url.clone(),
        ..running(settings, &door, &http, &https, &platform.receptor)?
    };
    let serving = platform.open(door, tls);
    data.announce(&running)?;
    println!("api    {http}");
    println!("       {https}   (its certificate is made by the platform: --skip-ssl-validation)");
    println!(
        "user   {}, password in {}",
        settings.admin_user,
        data.file("admin-password").display()
    );
    Ok((platform, serving))
}

fn running(
    settings: &Settings,
    door: &Door,
    http: &str,
    https: &str,
    receptor: &str,
) -> anyhow::Result<Running> {
    let at = |ip: IpAddr| if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
    let address = |listener: &TcpListener| {
        listener.local_addr().map(|addr| std::net::SocketAddr::new(at(addr.ip()), addr.port()))
    };
    let direct = format!("http://{}", address(&door.http)?);
    // `*.localhost` is known to browsers and to curl, not to every resolver; an address always works.
    let api = if settings.domain == "localhost" { direct.clone() } else { http.to_owned() };
    Ok(Running {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Clock::system().now(),
        internal: String::new(),
        api,
        http: direct,
        https: https.to_owned(),
        domain: settings.domain.clone(),
        app: door.urls(&format!("APP.{}", settings.domain))?.0,
        admin_user: settings.admin_user.clone(),
        receptor: receptor.to_owned(),
    })
}

/// The parts that run until they are told to stop.
struct Platform {
    stop: CancellationToken,
    tasks: TaskTracker,
    router: Router,
    cell: Cell,
    /// Where components on this machine find each other.
    internal_url: String,
    /// Where the Receptor API answers.
    receptor: String,
}

impl Platform {
    async fn start(settings: &Settings, data: &DataDir, door: &Door) -> anyhow::Result<Platform> {
        let (clock, stop, tasks) = (Clock::system(), CancellationToken::new(), TaskTracker::new());
        let secret = data.secret()?;
        let internal = internal_listener(data).await?;
        let inside_url = format!("http://{}", internal.local_addr()?);
        let cluster = Cluster::open(settings, data).await?;
        // What cells are told to fetch must be found from everywhere.
        let internal_url = cluster.as_ref().map_or(inside_url.clone(), Cluster::url);
        let logs =
            Loggregator::open(loggregator::Config::new(data.folder("logs")?), clock.clone())?;
        let uaa = open_uaa(settings, data, &clock).await?;
        let bbs: Arc<dyn diego::Bbs> = Arc::new(bbs::Client::new(&inside_url, &secret));
        let identity: Arc<dyn Identity> = Arc::new(uaa.clone());

        let cc = CloudController::open(
            cloud_controller_config(settings, data, door, &internal_url, &secret)?,
            cloud_controller::Deps {
                db: Db::open_file(&data.file("cloud_controller.db")).await?,
                identity: identity.clone(),
                bbs: bbs.clone(),
                blobs: Arc::new(
                    cloud_controller::blobstore::Files::open(data.folder("blobs")?).await?,
                ),
                sink: Arc::new(logs.clone()),
                metrics: Arc::new(FromLogs { logs: logs.clone(), clock: clock.clone() }),
                clock: clock.clone(),
                stop: stop.clone(),
                tasks: tasks.clone(),
            },
        )
        .await?;

        let access = LogAccess {
            identity,
            api: cc.router(),
            clock: clock.clone(),
            remembered: Default::default(),
        };
        let front = cc.router().merge(uaa.router()).merge(logs.router(Arc::new(access)));
        let config = router::Config {
            platform_names: platform_names(&settings.domain),
            tcp: crate::tcp::router_config(&settings.tcp),
            ..Default::default()
        };
        let router = Router::new(config, front, Arc::new(logs.clone()), clock.clone());

        // Containers elsewhere are reached by their cell's address alone.
        let prefer = if cluster.is_some() { bbs::Prefer::Host } else { bbs::Prefer::Instance };
        let credentials = bbs::Credentials {
            user: data_dir::RECEPTOR_USER.to_owned(),
            password: data.receptor_password()?,
        };
        let mut timings = settings.timings.bbs.clone();
        if cluster.is_none() {
            timings.cell_grace = timings.cell_grace.max(INSIDE_TTL);
        }
        let config = bbs::Config {
            prefer,
            receptor: Some(credentials),
            timings,
            ..bbs::Config::new(secret.clone())
        };
        let deps = bbs::Deps {
            db: Db::open_file(&data.file("bbs.db")).await?,
            clock: clock.clone(),
            dial: Arc::new(rep::Dialer::new(&secret)),
            routers: Arc::new(router.clone()),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let brain = bbs::BbsServer::open(config, deps).await?;
        let listener = receptor_listener(settings.receptor_listen).await?;
        let receptor = format!("http://{}", listener.local_addr()?);
        let (face, until) = (brain.receptor(), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = base::http::serve(listener, face, until).await {
                error!(%error, "the Receptor API ended");
            }
        });
        let inside = brain.router().merge(cc.internal());
        let insight =
            Insight { router: router.clone(), logs: logs.clone(), containers: Arc::default() };
        let containers = insight.containers.clone();
        // What only the operator of this machine asks is not for other machines.
        let (router_inside, until) = (inside.clone().merge(insight.router(&secret)), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = base::http::serve(internal, router_inside, until).await {
                error!(%error, "the internal API ended");
            }
        });
        let ports = vec![door.http.local_addr()?.port(), door.https.local_addr()?.port()];
        let sink: Arc<dyn Sink> = Arc::new(logs);
        let site = match cluster {
            None => Site::Inside { domain: settings.domain.clone(), ports },
            Some(cluster) => {
                let home =
                    Home { domain: settings.domain.clone(), address: cluster.address(), ports };
                let identity = cluster.authority.issue(home.address.into())?;
                let site =
                    Site::Outside { address: home.address, port: 0, identity, home: home.clone() };
                let inside = inside.merge(receiver(sink.clone(), &secret));
                cluster.serve(inside, home, &secret, &stop, &tasks)?;
                site
            }
        };
        let deps = Deps { bbs, sink, secret, clock };
        let cell = Cell::start(&cell_settings(settings), &site, data, deps).await?;
        let _ = containers.set(cell.about());
        Ok(Platform { stop, tasks, router, cell, internal_url: inside_url, receptor })
    }

    /// Lets clients in. The token shuts the door again.
    fn open(&self, door: Door, tls: Arc<ServerConfig>) -> CancellationToken {
        let serving = self.stop.child_token();
        let (http, https) = (self.router.clone(), self.router.clone());
        let (until, also) = (serving.clone(), serving.clone());
        self.tasks.spawn(async move { http.serve_http(door.http, until).await });
        self.tasks.spawn(async move { https.serve_https(door.https, tls, also).await });
        let (tcp, until) = (self.router.clone(), serving.clone());
        self.tasks.spawn(async move { tcp.serve_tcp(until).await });
        serving
    }

    /// Ctrl-C takes the containers along; SIGTERM leaves them for the next start.
    async fn stop(self, signal: Signal) -> anyhow::Result<()> {
        info!(?signal, "stopping");
        let end = if signal == Signal::Interrupt { End::Remove } else { End::Leave };
        let result = self.cell.stop(end).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        result
    }
}

/// Without a wish it is the usual place, or any other where a second platform has that.
async fn receptor_listener(wish: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    if let Some(address) = wish {
        return TcpListener::bind(address)
            .await
            .with_context(|| format!("receptor_listen: listening on {address}"));
    }
    let local = Ipv4Addr::LOCALHOST;
    if let Ok(listener) = TcpListener::bind((local, RECEPTOR_PORT)).await {
        return Ok(listener);
    }
    TcpListener::bind((local, 0)).await.context("listening for clients of the Receptor")
}

/// Where cells on other machines come in.
struct Cluster {
    listener: TcpListener,
    local: SocketAddrV4,
    authority: Authority,
    join_key: Secret,
}

impl Cluster {
    /// `None` when no other cells are wanted.
    async fn open(settings: &Settings, data: &DataDir) -> anyhow::Result<Option<Cluster>> {
        let Some(wish) = settings.cells_listen else {
            data.forget(data_dir::JOIN_TOKEN)?;
            return Ok(None);
        };
        let authority = Authority::of(data)?;
        base::tls::trust(&authority.certificate)?;
        let listener = TcpListener::bind(wish).await.with_context(|| {
            format!("cells_listen: listening on {wish}, which must be an address of this machine")
        })?;
        let local = SocketAddrV4::new(*wish.ip(), listener.local_addr()?.port());
        let join_key = data.join_key()?;
        let token = JoinToken {
            url: format!("https://{local}"),
            authority: authority.certificate.clone(),
            key: join_key.expose().to_owned(),
        };
        data.keep(data_dir::JOIN_TOKEN, &token.to_string())?;
        Ok(Some(Cluster { listener, local, authority, join_key }))
    }

    fn url(&self) -> String {
        format!("https://{}", self.local)
    }

    fn address(&self) -> Ipv4Addr {
        *self.local.ip()
    }

    /// Lets cells in, and serves `inside` to those that are.
    fn serve(
        self,
        inside: axum::Router,
        home: Home,
        secret: &Secret,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> anyhow::Result<()> {
        let own = self.authority.issue(home.address.into())?.server_config()?;
        let admission = Admission {
            authority: self.authority,
            key: self.join_key,
            secret: secret.clone(),
            home,
        };
        let listener = TlsListener::new(self.listener, own)?;
        let (router, until) = (inside.merge(admission.router()), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = base::http::serve(listener, router, until).await {
                error!(%error, "the API for cells ended");
            }
        });
        Ok(())
    }
}

fn cell_settings(settings: &Settings) -> CellSettings {
    CellSettings {
        cell_id: CELL.to_owned(),
        zone: String::new(),
        placement_tags: Vec::new(),
        backend: settings.backend,
        stacks: settings.stacks.clone(),
        memory_mb: settings.memory_mb,
        disk_mb: settings.disk_mb,
        container_network: settings.container_network.clone(),
        timings: settings.timings.clone().into(),
        crashed: settings.crashed.clone(),
    }
}

/// Components and cells find the control plane at the same place after a restart, so the port is chosen once.
async fn internal_listener(data: &DataDir) -> anyhow::Result<TcpListener> {
    let local = Ipv4Addr::LOCALHOST;
    let path = data.file(data_dir::INTERNAL_PORT);
    let known =
        std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u16>().ok());
    if let Some(port) = known {
        let why = || {
            format!(
                "listening on {local}:{port}, the port of the platform's own components; remove {} to choose another",
                path.display()
            )
        };
        return TcpListener::bind((local, port)).await.with_context(why);
    }
    let listener = TcpListener::bind((local, 0)).await?;
    // Recipes name it, so it lasts as long as they do.
    data.keep(data_dir::INTERNAL_PORT, &listener.local_addr()?.port().to_string())?;
    Ok(listener)
}

async fn open_uaa(settings: &Settings, data: &DataDir, clock: &Clock) -> anyhow::Result<Uaa> {
    let password = match &settings.admin_password {
        Some(password) => password.clone(),
        None => data.admin_password()?,
    };
    let issuer = format!("http://uaa.{}", settings.domain);
    let mut config = uaa::Config::new(issuer, data.encryption_key()?.to_vec(), password);
    config.admin_user = settings.admin_user.clone();
    config.clients.push(operator::client(data)?);
    let db = Db::open_file(&data.file("uaa.db")).await?;
    Uaa::open(db, config, clock.clone()).await.context("starting the UAA")
}

fn cloud_controller_config(
    settings: &Settings,
    data: &DataDir,
    door: &Door,
    internal_url: &str,
    secret: &Secret,
) -> anyhow::Result<cloud_controller::Config> {
    let key = Secret::new(String::from_utf8_lossy(&data.encryption_key()?).into_owned());
    let mut config = cloud_controller::Config::new(secret.clone(), key);
    config.api_url = door.urls(&format!("api.{}", settings.domain))?.0;
    config.internal_url = internal_url.to_owned();
    config.app_domains = vec![settings.domain.clone()];
    config.tcp_ports = settings.tcp.ports.clone();
    config.lifecycle_bundle = Bytes::from_static(LIFECYCLE);
    config.temp_dir = Some(data.folder("uploads")?);
    let stack = |name: &String| StackConfig {
        name: name.clone(),
        description: "This machine's /usr, read-only".to_owned(),
    };
    config.stacks = settings.stacks.iter().map(stack).collect();
    let buildpack = |pack: lifecycle::buildpacks::SystemBuildpack| SystemBuildpack {
        name: pack.name.to_owned(),
        filename: pack.filename,
        zip: pack.zip.into(),
    };
    config.buildpacks =
        lifecycle::buildpacks::system_buildpacks().into_iter().map(buildpack).collect();
    Ok(config)
}

fn platform_names(domain: &str) -> BTreeSet<String> {
    NAMES.iter().map(|name| format!("{name}.{domain}")).collect()
}

/// The operator's, or the one that the platform made for itself at first start.
fn certificate(data: &DataDir, settings: &Settings) -> anyhow::Result<Certificate> {
    if let Some((certificate, key)) = &settings.tls {
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        return Ok(Certificate { certificate: read(certificate)?, key: read(key)? });
    }
    let paths = (data.file("tls.crt"), data.file("tls.key"));
    if !paths.0.exists() || !paths.1.exists() {
        // One without the other is of no use.
        for path in [&paths.0, &paths.1] {
            let _ = std::fs::remove_file(path);
        }
        let names = vec![
            settings.domain.clone(),
            format!("*.{}", settings.domain),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        let made = Certificate::self_made(names)?;
        data.kept("tls.key", || made.key.clone())?;
        data.kept("tls.crt", || made.certificate.clone())?;
    }
    Ok(Certificate {
        certificate: std::fs::read_to_string(paths.0)?,
        key: std::fs::read_to_string(paths.1)?,
    })
}
